"""A new plugin as text: every file of a package that passes the contract as it stands. Pure but for reading its templates.

The templates in `files/` are the toy provider of `docs/writing-a-provider.md`, word for word; a test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from string import Template

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_MAX_NAME = 24
_SUFFIX = ".txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What one name comes to in all the places where it stands."""

    #: `kind = "my-llm"` in a configuration, and the entry point.
    kind: str

    @property
    def folder(self) -> str:
        """The folder and the distribution: `gateway-my-llm`."""
        return f"gateway-{self.kind}"

    @property
    def package(self) -> str:
        """The import name: `gateway_my_llm`."""
        return self.folder.replace("-", "_")

    @property
    def class_prefix(self) -> str:
        """What its classes begin with: `MyLlm`."""
        return "".join(part.capitalize() for part in self.kind.split("-"))

    @property
    def variable(self) -> str:
        """The first half of its environment variable: `MY_LLM`."""
        return self.kind.replace("-", "_").upper()


def names_of(kind: str) -> Names:
    """The names of a plugin that brings `kind`. ValueError, with a message for a person, when that cannot be one."""
    if kind.startswith(("gateway-", "batchway-")):
        raise ValueError(f"leave the prefix out: {kind.partition('-')[2]}")
    if not _NAME.fullmatch(kind):
        raise ValueError("a name is lower-case letters and digits, with single dashes inside, and begins with a letter")
    if len(kind) > _MAX_NAME:
        raise ValueError(f"a name has at most {_MAX_NAME} characters")
    return Names(kind=kind)


def files_of(names: Names) -> Mapping[str, str]:
    """Every file of the new package: its path below the folder, with slashes -> its text."""
    words = {
        "kind": names.kind,
        "folder": names.folder,
        "package": names.package,
        "Class": names.class_prefix,
        "variable": names.variable,
    }
    files = {f"{names.package}/py.typed": ""}
    for path, template in _templates(resources.files(__name__) / "files"):
        place = path.removesuffix(_SUFFIX)
        if place.startswith("package/"):
            place = names.package + place.removeprefix("package")
        files[place] = Template(template).substitute(words)
    return files


def _templates(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every template below `folder`, with its path there."""
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            yield from _templates(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            yield prefix + entry.name, entry.read_text("utf-8")
