"""`docs/providers.md` shows every kind and every service in a configuration that works, with the limits that the code has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from gateway.cli.inspection import inspect
from gateway.plugins import load_plugins
from gateway.provider import Provider

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/providers.md").read_text("utf-8")
KINDS = load_plugins().classes()
#: Services that have a whole example each, with limits and prices.
SERVICES = ("Doubleword", "Parasail", "Nebius", "DeepInfra", "SiliconFlow", "DashScope", "Moonshot")


def cells(first: str) -> dict[str, list[str]]:
    """The rows of the table whose first heading is `first`: first cell -> the others."""
    table = re.search(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert table is not None
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[1].splitlines()]
    return {row[0].strip("`"): row[1:] for row in rows}


def sections(level: str) -> dict[str, str]:
    """Heading -> what stands below it, down to the next heading of that level or above."""
    found = re.findall(rf"^{level} ([^\n]*)\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return dict(found)


def example(text: str) -> dict[str, object]:
    """The first TOML example of a section, as it is read."""
    shown = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    return tomllib.loads(shown[1])


def providers(text: str) -> list[dict[str, object]]:
    """The tables of providers in a section's example."""
    tables = example(text)["providers"]
    assert isinstance(tables, dict)
    return list(tables.values())


def test_every_kind_has_a_row_with_the_codes_limits() -> None:
    """Window, lines and bytes in the overview are what the kind has when nothing is configured."""

    def shown(kind: type[Provider]) -> list[str]:
        if not kind.batch:
            return ["none", "none", "none"]
        limits = kind.limits
        return [
            f"{(limits.window_seconds or 0) / 3600:g} h",
            "none" if limits.max_requests is None else f"{limits.max_requests:,}",
            "none" if limits.max_bytes is None else f"{limits.max_bytes:,}",
        ]

    assert {kind: row[:3] for kind, row in cells("kind").items()} == {name: shown(kind) for name, kind in KINDS.items()}


def test_every_kind_has_a_section_that_leads_to_its_plugin() -> None:
    """A user finds a short configuration for each kind, and from there the plugin's own page."""
    found = {
        str(table["kind"]): text for text in sections("##").values() if "```toml" in text for table in providers(text)
    }
    anchors = {kind: row[-1] for kind, row in cells("kind").items()}

    assert found.keys() == KINDS.keys()
    assert [kind for kind, text in found.items() if "/README.md" not in text and kind != "openai-compatible"] == []
    assert all(re.fullmatch(r"\[.+\]\(#.+\)", link) for link in anchors.values())


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_key_of_a_kind_is_in_its_plugins_readme(name: str) -> None:
    """Whatever may stand in a kind's table is explained where its plugin is."""
    package = KINDS[name].__module__.partition(".")[0].replace("_", "-")
    readme = (ROOT / "plugins" / package / "README.md").read_text("utf-8")

    assert [key for key in KINDS[name].Settings.model_fields if f"`{key}`" not in readme] == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_example_is_whole(service: str) -> None:
    """Each of these services has its address, limits, prices and a route, and the address is the table's."""
    [table] = providers(sections("###")[service])
    address = next(row[0] for name, row in cells("service").items() if name.startswith(f"[{service}]"))

    assert table["kind"] == "openai-compatible"
    assert f"`{table['base_url']}`" == address
    assert table["limits"]
    assert table["prices"]
    assert example(sections("###")[service])["routes"]


def test_every_service_of_the_table_is_configured_somewhere() -> None:
    """No row without a configuration that has its address."""
    shown = [row[0].strip("`") for row in cells("service").values()]

    assert len(shown) >= 12
    assert [address for address in shown if f'base_url = "{address}"' not in PAGE] == []


def test_without_keys_every_example_is_disabled_and_says_why(tmp_path: Path) -> None:
    """Whoever tries an example before the variable is set reads which one it is, and of no mistake."""
    for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL):
        file = tmp_path / "config.toml"
        file.write_text(text, encoding="utf-8")
        found = inspect(file, {})

        assert found.mistakes == ()
        assert found.router is not None
        for table in found.configuration.providers.values():
            reason = found.router.providers[table.name].disabled_reason
            variable = re.search(r"\$\{(\w+)\}", text)
            expected = None if variable is None else "set the environment variable "
            assert (reason is None) == (expected is None), table.name
            assert reason is None or reason.startswith("set the environment variable "), table.name
