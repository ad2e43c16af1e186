"""Values of the right type that nothing can be done with: they stop the start, not the gateway that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Configuration, load
from gateway.errors import ConfigurationError


def loaded(text: str, tmp_path: Path) -> Configuration:
    """The configuration in a file with this text."""
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, {"OPENAI_API_KEY": "k"})


def mistakes(text: str, tmp_path: Path) -> list[str]:
    """What is wrong with it."""
    with pytest.raises(ConfigurationError) as raised:
        loaded(text, tmp_path)
    return list(raised.value.mistakes)


@pytest.mark.parametrize("number", [2**63, 10**25, 10**400])
@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("server.max_body_bytes", "[server]\nmax_body_bytes = {}"),
        ("batching.max_requests", "[batching]\nmax_requests = {}"),
        ("batching.idle_seconds", "[batching]\nidle_seconds = {}\nmax_window_seconds = 1e300"),
        ("providers.a.limits.max_requests", "[providers.a]\nkind = 'x'\nlimits = {{ max_requests = {} }}"),
        (
            "providers.a.limits.max_enqueued_tokens",
            "[providers.a]\nkind = 'x'\nlimits = {{ max_enqueued_tokens = {} }}",
        ),
    ],
)
def test_a_number_no_ledger_holds_is_a_mistake(key: str, text: str, number: int, tmp_path: Path) -> None:
    """A worker that hands it to the database would die of it, and the next start's, too."""
    [mistake] = mistakes(text.format(number), tmp_path)

    assert mistake.startswith(f"{key}: must be at most ")


@pytest.mark.parametrize(
    "host",
    [
        "http://box.example",
        "box.example:8484",
        "box.example/v1",
        "*.example",
        "box.example.",
        " box.example",
        "",
        "[::1",
        "b?x",
        "face:8484",
    ],
)
def test_a_host_that_no_caller_can_name_is_a_mistake(host: str, tmp_path: Path) -> None:
    """The name that is compared is the one before the port; with anything else in the list everybody would get a 421."""
    [mistake] = mistakes(f'[server]\nallowed_hosts = ["good.example", "{host}"]', tmp_path)

    assert mistake.startswith("server.allowed_hosts: ")
    assert repr(host) in mistake


@pytest.mark.parametrize("host", ["*", "box", "Box.Example", "192.0.2.7", "2001:db8::7", "[2001:db8::7]", "my_box-2"])
def test_names_and_addresses_are_hosts(host: str, tmp_path: Path) -> None:
    """With and without capitals and brackets, and the star that stands for all."""
    assert loaded(f'[server]\nallowed_hosts = ["{host}"]', tmp_path).server.allowed_hosts == (host,)


def test_the_home_directory_is_meant_by_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a shell: a folder that is called `~` would be made where nobody looks, and deleting it is dangerous."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    configuration = loaded('[storage]\ndirectory = "~/batchway"', tmp_path)

    assert configuration.storage.directory == tmp_path / "home" / "batchway"
