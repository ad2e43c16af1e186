"""What the environment adds to the file: `BATCHWAY_SECTION__KEY` overrides, and `${NAME}` inside strings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from gateway.config.reading import EnvironmentText, Mistakes, toml_value

PREFIX = "BATCHWAY_"
SEPARATOR = "__"

#: The lists at the top of the file, which have no key to name after a separator.
_LISTS = ("clients", "routes")

#: `$${NAME}` is left as `${NAME}`.
_REFERENCE = re.compile(r"\$?\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def apply_overrides(tree: dict[str, object], environ: Mapping[str, str], mistakes: Mistakes) -> None:
    """Put every `BATCHWAY_SECTION__KEY` of the environment into `tree`, wider ones before narrower ones.

    A variable without a double underscore is none of ours: an orchestrator may set `BATCHWAY_PORT` and the like for a
    service of that name.
    """
    found: list[tuple[list[str], str]] = []
    for name in environ:
        path = name.removeprefix(PREFIX).lower().split(SEPARATOR)
        if name.startswith(PREFIX) and (len(path) > 1 or path[0] in _LISTS):
            found.append((path, name))
    for path, name in sorted(found, key=lambda each: (len(each[0]), each[1])):
        _put(tree, path, environ[name], name, mistakes)


def _put(tree: dict[str, object], path: list[str], text: str, variable: str, mistakes: Mistakes) -> None:
    table = tree
    for segment in path[:-1]:
        inner = table.setdefault(_named(table, segment), {})
        if not isinstance(inner, dict):
            mistakes.add(variable, f"overrides a key inside {segment!r}, which is not a table")
            return
        table = inner
    parsed = toml_value(text)
    structured = isinstance(parsed, dict) or (isinstance(parsed, list) and path[0] in _LISTS and len(path) == 1)
    table[_named(table, path[-1])] = parsed if structured else EnvironmentText(text)


def _named(table: Mapping[str, object], segment: str) -> str:
    """The key of `table` that `segment` means: variables have neither case nor dashes."""
    for key in table:
        if re.sub(r"[^a-z0-9]", "_", key.lower()) == segment:
            return key
    return segment


def expand(value: object, key: str, environ: Mapping[str, str], on_missing: Callable[[str, str], None]) -> object:
    """`value` with every `${NAME}` in its strings replaced.

    `on_missing(key, name)` is told of each variable that is not set, or empty; its place stays empty.
    """
    if isinstance(value, dict):
        return {name: expand(inner, f"{key}.{name}", environ, on_missing) for name, inner in value.items()}
    if isinstance(value, list):
        return [expand(inner, f"{key}[{place}]", environ, on_missing) for place, inner in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def replace(reference: re.Match[str]) -> str:
        if reference[0].startswith("$$"):
            return reference[0][1:]
        found = environ.get(reference[1], "")
        if not found:
            on_missing(key, reference[1])
        return found

    return type(value)(_REFERENCE.sub(replace, value))
