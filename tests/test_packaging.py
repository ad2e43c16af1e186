"""The bundle and its plugins agree, so that one install finds every provider and each plugin could leave on its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
GROUP = "batchway"
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))

Table = dict[str, object]


def table(parent: Table, *names: str) -> Table:
    """The table at `names` under `parent`; fails when something else is there."""
    for name in names:
        child = parent[name]
        assert isinstance(child, dict), f"{name} is no table"
        parent = child
    return parent


def pyproject(folder: Path) -> Table:
    """The parsed pyproject.toml of `folder`."""
    return tomllib.loads(folder.joinpath("pyproject.toml").read_text(encoding="utf-8"))


def bundled_roots() -> list[str]:
    """The source roots that the root distribution is built from."""
    where = table(pyproject(ROOT), "tool", "setuptools", "packages", "find")["where"]
    assert isinstance(where, list)
    return where


def shipped_files() -> Iterator[tuple[Path, Path]]:
    """Every file users need, with the source root it is named from."""
    for root in (ROOT, *PLUGINS):
        for kind in ("*.py", "*.sql", "*.txt", "py.typed"):
            yield from ((root, path) for package in root.glob("gateway*/") for path in package.rglob(kind))


def test_every_plugin_folder_is_bundled() -> None:
    """Each folder in `plugins/` has a pyproject.toml and is a source root of the bundle, and no root is missing."""
    folders = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("plugins/[a-z]*")) if path.is_dir()]

    assert [path.relative_to(ROOT).as_posix() for path in PLUGINS] == folders
    assert sorted(bundled_roots()) == [".", *folders]


def test_bundle_announces_exactly_its_plugins() -> None:
    """The bundle's entry points are those of its plugins, line for line, and no two plugins share a name."""
    announced = [
        item for folder in PLUGINS for item in table(pyproject(folder), "project", "entry-points", GROUP).items()
    ]

    assert sorted(table(pyproject(ROOT), "project", "entry-points", GROUP).items()) == sorted(announced)


def test_installed_entry_points_are_the_announced_ones() -> None:
    """The environment under test was installed from this pyproject.toml, so its plugins are the ones found."""
    installed = {point.name: point.value for point in entry_points(group=GROUP)}

    assert table(pyproject(ROOT), "project", "entry-points", GROUP).items() <= installed.items()


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_plugin_could_be_published_alone(folder: Path) -> None:
    """A plugin folder is a whole project: README, one package, one entry point of its name, and no tool settings."""
    document = pyproject(folder)
    project = table(document, "project")
    package = folder.name.replace("-", "_")
    dependencies = project["dependencies"]

    assert document.keys() == {"build-system", "project"}
    assert project["name"] == folder.name.replace("gateway-", "batchway-")
    assert isinstance(dependencies, list)
    assert "batchway" in dependencies
    assert list(table(project, "entry-points", GROUP).values()) == [package]
    assert [path.parent.name for path in folder.glob("*/__init__.py")] == [package]
    assert (folder / "README.md").is_file()


def test_wheel_holds_every_package_and_nothing_else(tmp_path: Path) -> None:
    """A built wheel has all code, SQL and type markers of the gateway and its plugins, and no file from elsewhere."""
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in ("gateway", "plugins", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for path in (ROOT / "pyproject.toml", ROOT / "LICENSE", *ROOT.glob("README.md")):
        shutil.copy(path, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "-w", wheels, source],
        check=True,
    )
    [wheel] = wheels.iterdir()

    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert held == {path.relative_to(root).as_posix() for root, path in shipped_files()}


def test_constraints_hold_versions_and_no_addresses() -> None:
    """constraints.txt pins plain versions, so that it works with whatever index a machine uses."""
    lines = ROOT.joinpath("constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]

    assert pins
    assert [line for line in pins if line.count("==") != 1 or "/" in line or "@" in line] == []


def test_constraints_agree_with_each_other() -> None:
    """Everything that the bundle and its tools bring along is pinned, to a version that whoever wants it can take."""
    lines = ROOT.joinpath("constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in lines) if pin}
    pins["setuptools"] = distribution("setuptools").version  # left out by pip freeze
    open_ends, wanted = [("batchway", {"dev"})], {}
    while open_ends:
        wanting, extras = open_ends.pop()
        for requirement in map(Requirement, distribution(wanting).requires or ()):
            if any(applies(requirement, extra) for extra in {"", *extras}) and str(requirement) not in wanted:
                wanted[str(requirement)] = wanting, requirement
                open_ends.append((requirement.name, requirement.extras))
    unmet = [
        f"{wanting} wants {requirement}"
        for wanting, requirement in wanted.values()
        if not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0.dev0"), prereleases=True)
    ]

    assert unmet == []


def applies(requirement: Requirement, extra: str) -> bool:
    """Whether `requirement` holds on this machine, for those who want `extra`."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})
