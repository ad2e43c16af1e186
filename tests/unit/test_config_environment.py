"""What the environment says instead of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Configuration, Route, load
from gateway.errors import ConfigurationError

FILE = """
[server]
port = 1
[providers.my-openai]
kind = "openai"
api_key = "k"
[providers.my-openai.limits]
max_requests = 5
"""


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def read(path: Path, **environ: str) -> Configuration:
    """The file under these overrides."""
    return load(path, {f"BATCHWAY_{name}": text for name, text in environ.items()})


def test_overrides_win_over_the_file(path: Path) -> None:
    """Each type of value can be said in the environment."""
    configuration = read(
        path,
        SERVER__PORT="9000",
        SERVER__ALLOWED_HOSTS='["a", "b"]',
        CACHE__ENABLED="false",
        BATCHING__IDLE_SECONDS="0.5",
        STORAGE__DURABILITY="relaxed",
        RETRIES__AMBIGUOUS='"fail"',
    )

    assert configuration.server.port == 9000
    assert configuration.server.allowed_hosts == ("a", "b")
    assert configuration.cache.enabled is False
    assert configuration.batching.idle_seconds == 0.5
    assert configuration.storage.durability == "relaxed"
    assert configuration.retries.ambiguous == "fail"


def test_text_that_looks_like_a_number_stays_text(path: Path) -> None:
    """A key that wants text gets the variable as it is, whatever TOML would make of it."""
    provider = read(
        path, PROVIDERS__MY_OPENAI__ACCOUNT="0123", PROVIDERS__MY_OPENAI__API_KEY="12345678901234567890"
    ).providers["my-openai"]

    assert provider.account == "0123"
    assert provider.settings["api_key"] == "12345678901234567890"


def test_names_with_dashes_are_reached_with_underscores(path: Path) -> None:
    """A table called my-openai is MY_OPENAI in a variable, at any depth."""
    configuration = read(path, PROVIDERS__MY_OPENAI__LIMITS__MAX_REQUESTS="7", PROVIDERS__MY_OPENAI__SANDBOX="true")

    assert configuration.providers["my-openai"].limits == {"max_requests": 7}
    assert configuration.providers["my-openai"].sandbox is True
    assert list(configuration.providers) == ["my-openai"]


def test_whole_tables_and_lists_can_be_given(path: Path) -> None:
    """An inline table makes a provider, and an array of tables the routes; narrower variables refine them."""
    configuration = read(
        path,
        PROVIDERS__B='{kind = "x", api_key = "${SECRET}"}',
        PROVIDERS__B__ACCOUNT="acme",
        ROUTES='[{model = "m", provider = "b"}]',
        CLIENTS='[{name = "c", key = "k"}]',
    )

    assert configuration.providers["b"].account == "acme"
    assert configuration.providers["b"].missing_variables == ("SECRET",)
    assert configuration.routes == (Route(model="m", provider="b"),)
    assert [client.name for client in configuration.clients] == ["c"]


def test_variables_of_an_orchestrator_are_left_alone(path: Path) -> None:
    """A service called batchway gets BATCHWAY_PORT and the like set by its orchestrator; they are none of ours."""
    configuration = read(path, PORT="tcp://10.0.0.1:8484", SERVICE_HOST="10.0.0.1", PORT_8484_TCP_ADDR="10.0.0.1")

    assert configuration.server.port == 1


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("SERVER__PROT", "1", "server.prot: unknown key; did you mean port?"),
        ("SERVR__PORT", "1", "servr: unknown key; did you mean server?"),
        ("SERVER__PORT", "many", "server.port: must be a whole number, not 'many'"),
        ("SERVER__PORT__X", "1", "BATCHWAY_SERVER__PORT__X: overrides a key inside 'port', which is not a table"),
        ("SERVER__PORT", "1\nhost = 2", "server.port: must be a whole number"),
        ("SERVER", "1", None),
        ("ROUTES", "none", "routes: must be an array of tables: [[routes]]"),
        ("STORAGE__DIRECTORY", "${NOWHERE}", "storage.directory: the environment variable NOWHERE is not set"),
    ],
)
def test_a_mistake_in_a_variable_is_a_mistake(path: Path, name: str, text: str, said: str | None) -> None:
    """A misspelt or unusable override stops the start as it would in the file."""
    if said is None:
        assert read(path, **{name: text}).server.port == 1
        return
    with pytest.raises(ConfigurationError) as error:
        read(path, **{name: text})

    assert error.value.mistakes[0].startswith(said)


def test_newlines_in_a_variable_add_no_keys(path: Path) -> None:
    """A value with a line break is one value, not several lines of a file."""
    account = 'a"\nkind = "other'

    assert read(path, PROVIDERS__MY_OPENAI__ACCOUNT=account).providers["my-openai"].account == account
    assert read(path, PROVIDERS__MY_OPENAI__ACCOUNT="1\nkind = 2").providers["my-openai"].account == "1\nkind = 2"


def test_references_can_be_kept_as_they_are(path: Path) -> None:
    """A doubled dollar sign leaves a reference unread."""
    path.write_text('[providers.a]\nkind = "x"\nnote = "$${HOME} and ${HOME}, $5"\n', encoding="utf-8")

    assert load(path, {"HOME": "h"}).providers["a"].settings["note"] == "${HOME} and h, $5"
