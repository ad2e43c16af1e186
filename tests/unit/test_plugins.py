"""Plugins are found, checked and named; a bad one is a clear line and takes nobody with it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.config import ProviderTable
from gateway.hookspecs import hookimpl
from gateway.plugins import load_plugins, unknown, unresolved
from gateway.provider import Provider
from gateway.testing import FakeProvider


def plugin(*classes: object) -> object:
    """A plugin that brings these kinds."""

    @hookimpl
    def register_providers() -> list[object]:
        return list(classes)

    return SimpleNamespace(register_providers=register_providers)


def install(site: Path, name: str, source: str, *, entry: str | None = None) -> None:
    """Put a package with an entry point where Python finds it, as pip would."""
    (site / f"{entry or name}.py").write_text(source, encoding="utf-8")
    metadata = site / f"{name}-1.2.3.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[batchway]\n{name} = {entry or name}\n", encoding="utf-8")


@pytest.fixture(name="site")
def _site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path, forgotten again after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("toy_")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


GOOD = """
from gateway import Provider, hookimpl
from gateway.testing import FakeProvider

class Toy(FakeProvider):
    kind = "toy"

@hookimpl
def register_providers():
    return [Toy]
"""


def test_an_installed_plugin_is_found_with_its_distribution(site: Path) -> None:
    """A package with an entry point brings its kind, and it is known who brought it in which version."""
    install(site, "toy_good", GOOD)
    plugins = load_plugins()

    assert plugins.faults == ()
    kind = plugins.kinds["toy"]
    assert (kind.plugin, kind.distribution, kind.version) == ("toy_good", "toy_good", "1.2.3")
    assert issubclass(plugins.classes()["toy"], FakeProvider)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        (
            GOOD.replace("return [Toy]", "raise RuntimeError('no\\nluck')"),
            "register_providers() raised RuntimeError: no luck",
        ),
        (GOOD.replace("return [Toy]", "return None"), "register_providers() raised TypeError"),
        (GOOD.replace("return [Toy]", "return [Toy, 7]"), "returned 7, which is no subclass of gateway.Provider"),
        (GOOD.replace("return [Toy]", "return [Provider]"), "Provider has no class attribute `kind`"),
        (GOOD.replace("register_providers", "register_provider"), "has a hook that cannot be used: "),
        (GOOD.replace("register_providers()", "register_providers(gateway)"), "has a hook that cannot be used: "),
    ],
)
def test_a_bad_plugin_is_one_line_that_names_it(site: Path, source: str, said: str) -> None:
    """Whatever is wrong with one plugin, the others are there, and a line says which it is and what is wrong."""
    install(site, "toy_bad", source)
    install(site, "toy_good", GOOD.replace('"toy"', '"toy-2"'))
    plugins = load_plugins()
    [fault] = plugins.faults

    assert "toy-2" in plugins.kinds
    assert str(fault).startswith("plugin toy_bad (toy_bad): ")
    assert said in str(fault)
    assert "\n" not in str(fault)


def abstract() -> type[Provider]:
    """A kind that forgot most of its methods."""

    class Half(Provider):
        kind = "half"

    return Half


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        (abstract(), "Half lacks decode, encode, fetch, find, poll, submit"),
        (type("NoName", (FakeProvider,), {"kind": ""}), "NoName has no class attribute `kind`"),
        (type("Dicts", (FakeProvider,), {"kind": "d", "Settings": dict}), "Dicts.Settings must be a subclass"),
        (type("Numbers", (FakeProvider,), {"kind": "n", "limits": 5}), "Numbers.limits must be a gateway.Limits"),
    ],
)
def test_a_kind_is_checked_before_it_is_needed(candidate: type[Provider], said: str) -> None:
    """A kind that could never work is refused at start, not at three in the morning."""
    plugins = load_plugins([("mine", plugin(candidate))])

    assert candidate.__dict__["kind"] not in plugins.kinds
    assert [said in str(fault) for fault in plugins.faults] == [True]


def test_a_kind_of_two_plugins_belongs_to_neither() -> None:
    """Two plugins, or three, that bring one kind are named, and none of them gets it."""
    three = [(name, plugin(FakeProvider)) for name in ("first", "second", "third")]
    plugins = load_plugins(three)

    assert "fake" not in plugins.kinds
    assert len(plugins.faults) == 2
    assert all('the kind "fake", which ' in str(fault) for fault in plugins.faults)
    assert {fault.plugin for fault in plugins.faults} < {"first", "second", "third"}


def test_loading_leaves_nothing_behind() -> None:
    """Each load starts anew: what one test brings, the next does not see."""
    assert "fake" in load_plugins([("mine", plugin(FakeProvider))]).kinds
    assert "fake" not in load_plugins().kinds


def test_the_start_stops_only_for_a_kind_that_nobody_knows() -> None:
    """A kind that no plugin brings stops the start when it is configured, and what there is instead is named."""
    plugins = load_plugins([("mine", plugin(FakeProvider))])
    fake, lost = ProviderTable(name="a", kind="fake"), ProviderTable(name="b", kind="fka")

    assert unknown([fake], plugins) == unresolved([fake], plugins) == []
    [line] = unknown([fake, lost], plugins)
    assert line.startswith('providers.b.kind: no installed plugin brings the kind "fka"; there is: ')


def test_a_faulty_plugin_stops_no_start(site: Path) -> None:
    """A kind that a faulty plugin may have brought is disabled with the fault as its reason; `check` still counts it."""
    install(site, "toy_bad", "import no_such_module")
    plugins = load_plugins([("mine", plugin(FakeProvider))])
    fake, lost = ProviderTable(name="a", kind="fake"), ProviderTable(name="b", kind="fka")

    assert unknown([fake, lost], plugins) == []
    assert [line.partition(":")[0] for line in unresolved([fake, lost], plugins)] == [
        "providers.b.kind",
        "plugin toy_bad (toy_bad)",
    ]
    assert plugins.absences([fake, lost]) == {
        "fka": 'no installed plugin brings its kind "fka"; plugin toy_bad (toy_bad): cannot be imported: '
        "ModuleNotFoundError: No module named 'no_such_module'"
    }


def test_a_contested_kind_says_who_contests_it(site: Path) -> None:
    """A provider of a kind that two plugins bring is told of those two, not of other faults."""
    install(site, "toy_bad", "import no_such_module")
    plugins = load_plugins([("first", plugin(FakeProvider)), ("second", plugin(FakeProvider))])
    [reason] = plugins.absences([ProviderTable(name="a", kind="fake")]).values()

    assert 'brings the kind "fake", which ' in reason
    assert {"first", "second"} <= set(reason.replace(":", " ").split())
    assert "toy_bad" not in reason
