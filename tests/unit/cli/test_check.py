"""`batchway check` and `batchway plugins`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.check import listed
from gateway.plugins import load_plugins


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, arguments)


def write(tmp_path: Path, text: str) -> str:
    """A configuration file with this text."""
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_mistake_is_listed_at_once(tmp_path: Path) -> None:
    """Mistakes in sections, kinds, kinds' own settings, routes and storage do not hide each other, and the exit says so."""
    (tmp_path / "data").write_text("in the way", encoding="utf-8")
    text = """
        [server]
        port = "x"
        [storage]
        ledger = "postgresql://somewhere"
        [providers.a]
        kind = "openai"
        api_key = "k"
        foo = 1
        [providers.b]
        kind = "nobody"
        [[routes]]
        model = "m"
        provider = "c"
    """
    result = run("check", "--config", write(tmp_path, text))
    places = [line.strip().split(":")[0] for line in result.stderr.splitlines()[1:]]

    assert result.exit_code == 1
    assert sorted(places) == [
        "providers.a.foo",
        "providers.b.kind",
        "routes[0].provider",
        "server.port",
        "storage.directory",
        "storage.ledger",
    ]


def test_a_file_that_is_no_toml_is_one_mistake(tmp_path: Path) -> None:
    """What cannot be read at all is said without a traceback."""
    result = run("check", "--config", write(tmp_path, "[["))

    assert result.exit_code == 1
    assert "is not TOML" in result.stderr


def test_the_default_file_is_named_when_it_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken ./config.toml is called by its name, as a named one is."""
    write(tmp_path, "[[")
    monkeypatch.chdir(tmp_path)

    assert run("check").stderr.splitlines()[0] == "1 mistake in config.toml:"


def test_a_folder_that_serve_would_refuse_is_a_mistake(tmp_path: Path) -> None:
    """Whether files can be made in a folder is tried, not read from its permissions; nothing stays behind."""
    found = run("check", "--config", write(tmp_path, '[storage]\ndirectory = "/proc/batchway"\n'))
    good = run("check", "--config", write(tmp_path, '[storage]\ndirectory = "ledger"\n'))

    assert (found.exit_code, good.exit_code) == (1, 0)
    assert "cannot be written to by this user" in found.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_a_route_that_nothing_comes_to_is_warned_of(tmp_path: Path) -> None:
    """What stands behind a bare `*`, or behind its own copy, is named; the rest is as routing has it."""
    tables = "".join(f'[providers.{name}]\nkind = "openai"\napi_key = "k"\n' for name in "ab")
    routes = (("o-*", "a"), ("o-*", "b"), ("*", "a"), ("gpt-*", "b"))
    text = tables + "".join(f'[[routes]]\nmodel = "{model}"\nprovider = "{name}"\n' for model, name in routes)
    found = run("check", "--config", write(tmp_path, text))

    warnings = [line for line in found.stdout.splitlines() if line.startswith("warning: routes")]
    assert found.exit_code == 0
    assert [line.split(":")[1].strip() for line in warnings] == ["routes[1]", "routes[3]"]
    assert 'the "*" before it takes all' in warnings[1]


@pytest.mark.parametrize(
    ("server", "warned"),
    [
        ('host = "0.0.0.0"', True),
        ('host = "0.0.0.0"\nallowed_hosts = ["gateway.example"]', False),
        ('host = "127.0.0.1"', False),
    ],
)
def test_a_gateway_that_answers_to_no_name_is_warned_of(tmp_path: Path, server: str, *, warned: bool) -> None:
    """One that listens for other machines without `allowed_hosts` would send all of them away: what to set is said."""
    text = f'[server]\n{server}\n[[clients]]\nname = "one"\nkey = "client-key"\n'
    found = run("check", "--config", write(tmp_path, text))

    assert found.exit_code == 0
    assert ("server.allowed_hosts" in found.stdout) is warned


def test_it_says_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good configuration exits with 0 and shows address, storage, providers with the reason they are off, and routes."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    text = """
        [server]
        port = 9123
        [providers.real]
        kind = "openai"
        api_key = "${NO_SUCH_KEY}"
        [providers.play]
        kind = "openai"
        sandbox = true
        limits = { max_open_batches = 7 }
        [[routes]]
        model = "gpt-*"
        provider = "real"
    """
    result = run("check", "--config", write(tmp_path, text))
    shown = " ".join(result.stdout.split())

    assert result.exit_code == 0
    assert "http://127.0.0.1:9123/v1" in shown
    assert f"{tmp_path}/data (durability full" in shown
    assert "real (kind openai) disabled: set the environment variable NO_SUCH_KEY" in shown
    assert "play (kind openai) enabled at its own simulator" in shown
    assert "7 open batches" in shown
    assert "route gpt-* -> real" in shown
    assert not (tmp_path / "data").exists()


def test_no_key_is_shown(tmp_path: Path) -> None:
    """Neither a good nor a bad configuration prints a provider's key."""
    table = '[providers.a]\nkind = "openai"\napi_key = "sk-very-secret"\n'
    good = run("check", "--config", write(tmp_path, table))
    bad = run("check", "--config", write(tmp_path, table + "timeout_seconds = -1\n"))

    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert "sk-very-secret" not in good.output + bad.output


def test_a_server_without_batches_is_said_to_be_one(tmp_path: Path) -> None:
    """An address is all that it needs to be enabled, and nobody is promised a discount."""
    table = '[providers.local]\nkind = "fanout"\nbase_url = "http://127.0.0.1:8000/v1"\n'
    found = run("check", "--config", write(tmp_path, table))

    assert found.exit_code == 0
    assert "local (kind fanout) enabled" in found.output
    assert "asked one by one, and nothing is discounted" in found.output


def test_plugins_are_listed_with_their_kinds() -> None:
    """The bundled plugin is there with its version, distribution and both kinds."""
    result = run("plugins", "--json")
    [bundled] = [each for each in json.loads(result.stdout) if each["name"] == "openai"]

    assert result.exit_code == 0
    assert {"fanout", "openai", "openai-compatible"} <= set(bundled["kinds"])
    assert bundled["unbatched_kinds"] == ["fanout"]
    assert "fanout (asks one by one)" in run("plugins").stdout
    assert bundled["distribution"] == "batchway"
    assert bundled["faults"] == []


def test_a_broken_plugin_is_listed_with_its_fault() -> None:
    """A plugin that brings nothing but trouble has a row that says which."""

    class Broken:
        def register_other(self) -> None:
            """No hook of ours."""

    class Raising:
        from gateway import hookimpl

        @hookimpl
        def register_providers(self) -> list[type]:
            raise RuntimeError("not today")

    rows = listed(load_plugins([("quiet", Broken()), ("loud", Raising())]))
    [loud] = [row for row in rows if row.name == "loud"]

    assert loud.kinds == []
    assert "not today" in loud.faults[0]
