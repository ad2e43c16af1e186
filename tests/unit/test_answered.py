"""What is read from an error answer's headers, whatever a provider or somebody in its place writes there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Unauthorised
from gateway.failures import Answered, Failures, StatusError, redirect


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("https://api.example.com/v1/batches?key=secret", "https://api.example.com"),
        ("http://user:secret@other.example:8443/x", "http://other.example:8443"),
        ("//cdn.example/secret", "cdn.example"),
        ("/v2/secret", "another path of the same host"),
        ("https://[secret", "an address that cannot be read"),
        ("https://" + "a" * 300 + "/", "https://" + "a" * 100),
        ("", ""),
    ],
)
def test_a_redirect_is_told_by_its_host(location: str, told: str) -> None:
    """An operator reads where a redirect points to, and nothing that the address may hold beside the host."""
    assert redirect({"LOCATION": location}) == told
    assert redirect({}) == ""


@given(st.text(max_size=40), st.sampled_from(["", "https:", "http://a@"]))
def test_no_location_breaks_the_reading(rest: str, beginning: str) -> None:
    """Whatever stands in the header is read or said to be unreadable."""
    assert isinstance(redirect({"Location": beginning + rest}), str)


@pytest.mark.parametrize("status", [200, 201, 409, 500])
def test_only_a_redirect_is_called_one(status: int) -> None:
    """A `Location` that comes with another status, as with something that was made, is no redirect."""
    assert Answered(status=status, redirect="https://a.example").reason == f"status {status}"


@pytest.mark.parametrize(("status", "of_key"), [(401, True), (402, False), (403, False)])
def test_a_401_alone_is_of_the_key(status: int, *, of_key: bool) -> None:
    """A bill or a right that is wanting says nothing of what else the key is good for."""
    failure = Failures().create_failure(StatusError(Answered(status=status)))

    assert isinstance(failure, Unauthorised)
    assert failure.of_key is of_key
