"""`config.toml` and `docs/configuration.md` say what the code does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from gateway.config import CORE_KEYS, Configuration, load
from gateway.plugins import load_plugins
from gateway.provider import ProviderSettings
from gateway.records import Limits

ROOT = Path(__file__).resolve().parent.parent.parent
#: Keys without a default.
NEEDED = {
    "azure": ("base_url",),
    "fanout": ("base_url",),
    "openai-compatible": ("base_url",),
    "vertex": ("project", "bucket"),
}
SECTIONS = ("server", "storage", "cache", "batching", "polling", "retries", "waiting")


def uncommented(text: str) -> str:
    """`config.toml` with every key that is commented out put in force."""
    return re.sub(r"^# (\[|[a-z_]+ = )", r"\1", text, flags=re.MULTILINE)


def shown(default: object) -> str:
    """A default as TOML has it."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, str | Path):
        return f'"{default}"'
    return "[]" if default == () else f"{default:g}" if isinstance(default, float) else str(default)


def documented() -> dict[str, list[str]]:
    """Every table row of the document: first cell -> the other cells."""
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", (ROOT / "docs/configuration.md").read_text("utf-8"), re.MULTILINE)
    return {key: cells.split(" | ") for key, cells in rows}


def test_the_file_as_it_is_changes_nothing() -> None:
    """Starting with the file in the repository is the same as starting with none."""
    environ = {"OPENAI_API_KEY": "sk-test"}
    shipped = load(ROOT / "config.toml", environ)
    bare = load(ROOT / "docs" / ".." / "config.toml", environ)

    assert bare.providers == shipped.providers
    assert dataclasses.replace(shipped, source=None, storage=Configuration().storage) == _without_a_file(environ)


def _without_a_file(environ: dict[str, str]) -> Configuration:
    empty = load(Path("/dev/null"), environ)
    return dataclasses.replace(empty, source=None, storage=Configuration().storage)


def test_the_file_has_every_key_at_its_default(tmp_path: Path) -> None:
    """Taking the # away from any key of a section changes nothing, and no key is missing."""
    text = uncommented((ROOT / "config.toml").read_text("utf-8"))
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    configuration = load(path, {"TEAM_A_KEY": "k", "OPENAI_API_KEY": "sk-test"})
    defaults = Configuration()

    for name in SECTIONS:
        if name != "storage":
            assert getattr(configuration, name) == getattr(defaults, name)
        for field in dataclasses.fields(getattr(defaults, name)):
            assert re.search(rf"^{field.name} = ", text, re.MULTILINE), f"{name}.{field.name}"
    assert dataclasses.replace(configuration.storage, directory=Path("data")) == defaults.storage
    assert [client.name for client in configuration.clients] == ["team-a"]
    assert set(configuration.providers["openai"].limits) == {field.name for field in dataclasses.fields(Limits)}


def test_the_file_has_every_key_of_every_kind_at_its_default(tmp_path: Path) -> None:
    """Each installed kind has a table with all its keys; in force, they say what the kind would do without them."""
    path = tmp_path / "config.toml"
    path.write_text(uncommented((ROOT / "config.toml").read_text("utf-8")), encoding="utf-8")
    tables = {table.kind: table for table in load(path, {"TEAM_A_KEY": "k"}).providers.values()}
    kinds = load_plugins().classes()

    assert tables.keys() == kinds.keys()
    for name, kind in kinds.items():
        given = {key: value for key, value in tables[name].settings.items() if key != "api_key"}
        fields = kind.Settings.model_fields.keys() - {"api_key"}
        needed = {key: given[key] for key in NEEDED.get(name, ())}

        assert given.keys() == fields, name
        assert kind.Settings.model_validate(given) == kind.Settings.model_validate(needed), name


def test_the_document_has_every_key_with_default_and_meaning() -> None:
    """The tables of the sections are the code's own keys, defaults and meanings, and no others."""
    expected = {
        f"{name}.{field.name}": [f"`{shown(field.default)}`", field.metadata["rule"].meaning]
        for name in SECTIONS
        for field in dataclasses.fields(getattr(Configuration(), name))
    }
    found = {key: cells for key, cells in documented().items() if key.split(".")[0] in SECTIONS}

    assert found == expected


def test_the_document_has_every_key_of_a_provider() -> None:
    """What core and every kind understand of a provider's table is described, each limit too."""
    known = documented()
    keys = ({*CORE_KEYS} - {"limits", "prices"}) | ProviderSettings.model_fields.keys()

    assert {key for key in known if key.startswith("providers.NAME.")} == {f"providers.NAME.{key}" for key in keys}
    assert {key for key in known if key.startswith("limits.")} == {
        f"limits.{f.name}" for f in dataclasses.fields(Limits)
    }
    assert {key for key in known if key.startswith(("prices.", "routes.", "clients."))} == {
        *("prices.input", "prices.cached", "prices.output"),
        *("routes.model", "routes.provider", "clients.name", "clients.key"),
    }
