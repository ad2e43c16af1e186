"""How long callers bear silence, by what their headers tell: the table that was measured with real clients."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.config import Waiting
from gateway.endpoints.patience import patience


def told(headers: dict[str, str], *, retry: bool = False, waiting: Waiting | None = None) -> tuple[float, float]:
    """Grace and beat for these headers."""
    found = patience(CIMultiDict(headers), retry, waiting or Waiting())
    return found.grace_seconds, found.beat_seconds


@pytest.mark.parametrize(
    ("headers", "grace", "beat"),
    [
        ({}, 4, 15),
        ({"x-stainless-read-timeout": "600"}, 10, 15),
        ({"X-Stainless-Read-Timeout": "600"}, 10, 15),
        ({"x-stainless-timeout": "600"}, 10, 15),
        ({"x-stainless-read-timeout": "12"}, 6, 4),
        ({"x-stainless-read-timeout": "3"}, 1.5, 1),
        ({"x-stainless-read-timeout": "1.5"}, 0.75, 0.5),
        ({"x-stainless-read-timeout": "0.6"}, 0.5, 0.2),
        # Not a finite positive number: as if nothing had been said.
        ({"x-stainless-read-timeout": "0"}, 4, 15),
        ({"x-stainless-read-timeout": "-5"}, 4, 15),
        ({"x-stainless-read-timeout": "inf"}, 4, 15),
        ({"x-stainless-read-timeout": "nan"}, 4, 15),
        ({"x-stainless-read-timeout": "soon"}, 4, 15),
        ({"x-stainless-read-timeout": ""}, 4, 15),
        ({"x-stainless-read-timeout": "None", "x-stainless-timeout": "3"}, 1.5, 1),
        ({"x-stainless-read-timeout": "-1", "x-stainless-timeout": "3"}, 1.5, 1),
        # httpx gives up after 5 s of silence, without saying so.
        ({"User-Agent": "python-httpx/0.28.1"}, 3, 3),
        ({"User-Agent": "python-httpx2/2.1.0"}, 3, 3),
        ({"User-Agent": "python-httpx/0.28.1", "x-stainless-read-timeout": "600"}, 10, 15),
        ({"User-Agent": "my-python-httpx/1"}, 4, 15),
        ({"User-Agent": "OpenAI/JS 7.55.0"}, 4, 15),
    ],
)
def test_grace_and_beat(headers: dict[str, str], grace: float, beat: float) -> None:
    """Half of the announced timeout and at most 10 s of grace, a beat every third of it and at most 15 s."""
    assert told(headers) == (pytest.approx(grace), pytest.approx(beat))


@pytest.mark.parametrize(
    ("headers", "grace"),
    [({}, 1), ({"x-stainless-read-timeout": "600"}, 1), ({"x-stainless-read-timeout": "1.2"}, 0.6)],
)
def test_a_retry_has_one_second_of_grace(headers: dict[str, str], grace: float) -> None:
    """A client that tries again has waited already."""
    assert told(headers, retry=True)[0] == pytest.approx(grace)


def test_configuration_shortens_both() -> None:
    """`[waiting]` is the most that is waited, in grace and between beats."""
    waiting = Waiting(grace_seconds=2, heartbeat_seconds=5)
    assert told({"x-stainless-read-timeout": "600"}, waiting=waiting) == (2, 5)


@given(st.text(max_size=12) | st.floats().map(str), st.booleans())
def test_whatever_is_announced_patience_is_sane(text: str, retry: bool) -> None:
    """No header makes the gateway commit in no time, wait longer than 10 s, or beat without a pause."""
    grace, beat = told({"x-stainless-read-timeout": text}, retry=retry)
    assert 0.5 <= grace <= 10
    assert 0.1 <= beat <= 15
