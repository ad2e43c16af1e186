"""The page for authors is true: its files are a plugin that passes the contract, and they are what `new-plugin` writes."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import Provider, errors
from gateway.cli.skeleton import files_of, names_of
from gateway.sandbox import Simulator
from gateway.testing import ProviderContract

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/writing-a-provider.md").read_text("utf-8")
#: Path below `gateway-toy/` -> text.
FILES = dict(re.findall(r"^`gateway-toy/(\S+?)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def test_the_plugin_of_the_page_passes_the_contract(tmp_path: Path) -> None:
    """Whoever copies the files of the page, and nothing else, has a provider that passes the contract and its own tests."""
    for place, text in FILES.items():
        path = tmp_path / "gateway-toy" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shown = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "gateway-toy",
        capture_output=True,
        text=True,
        check=False,
    )

    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "skipped" not in shown.stdout
    assert re.search(r"(19|20)\d passed", shown.stdout)


def test_the_page_shows_what_new_plugin_writes() -> None:
    """Every file of the skeleton but its README and its empty mark of types is on the page, word for word."""
    written = files_of(names_of("toy"))
    shown = {place: text for place, text in FILES.items() if place in written}

    assert shown.keys() == written.keys() - {"README.md", "gateway_toy/py.typed"}
    assert [place for place, text in shown.items() if text != written[place]] == []


def test_the_page_explains_every_verb_and_every_error() -> None:
    """Each method of a provider and each class of error that a plugin may raise is on the page by name."""
    verbs = {name for name in vars(Provider) if not name.startswith("_") and inspect.isroutine(getattr(Provider, name))}
    classes = {each.__name__ for each in errors.ProviderError.__subclasses__()}

    assert [name for name in sorted(verbs | classes) if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", PAGE)] == []


@pytest.mark.parametrize("base", [ProviderContract, Simulator])
def test_what_the_page_names_is_there(base: type) -> None:
    """Attributes in the table of the contract, and the simulator's own methods in the text, exist."""
    table = set(re.findall(r"^\| `(\w+)(?:\([^`]*\))?` \|", PAGE.partition("What differs is told")[2], re.MULTILINE))
    named = set(re.findall(r"`self\.(\w+)`", PAGE)) if base is Simulator else table - {"provider_class"}

    assert named
    assert [name for name in sorted(named) if not hasattr(base, name)] == []
