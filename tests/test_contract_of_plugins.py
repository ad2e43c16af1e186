"""Every kind that is shipped is held to the contract, and whatever it is let off stands in its README."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path

import pytest

from gateway.provider import Provider
from gateway.testing import ProviderContract

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = sorted(path.parent for place in ("plugins", "examples") for path in ROOT.glob(f"{place}/*/pyproject.toml"))


def kinds_of(folder: Path) -> set[type[Provider]]:
    """The kinds that a plugin brings."""
    package = importlib.import_module(folder.name.replace("-", "_"))
    return set(package.register_providers())


@cache
def suites_of(folder: Path) -> tuple[type[ProviderContract], ...]:
    """The contract suites in a plugin's tests."""
    found: list[type[ProviderContract]] = []
    for path in sorted(folder.glob("tests/test_*_contract.py")):
        name = f"_contract_of_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        finally:
            del sys.modules[name]
        found += [
            each for each in vars(module).values() if isinstance(each, type) and issubclass(each, ProviderContract)
        ]
    return tuple(each for each in found if each is not ProviderContract)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_kind_is_held_to_the_contract(folder: Path) -> None:
    """Each kind of a plugin has a suite of its own."""
    held = {suite.provider_class for suite in suites_of(folder)}

    assert {kind.kind for kind in kinds_of(folder)} - {kind.kind for kind in held} == set()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_exemption_is_in_the_readme(folder: Path) -> None:
    """What a kind is let off is named in its README, where users see it too, and so are partial results that it loses."""
    readme = (folder / "README.md").read_text("utf-8")
    exempt = {name for suite in suites_of(folder) for name in suite.exempt}
    loses = any(not suite.keeps_partial_results for suite in suites_of(folder))

    assert [name for name in sorted(exempt) if name not in readme] == []
    assert not loses or "partial" in readme.lower()
