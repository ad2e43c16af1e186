"""Typed values out of a parsed file, with every mistake noted under its dotted key instead of raised."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gateway.config.sections import Rule

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Section = TypeVar("Section", bound="DataclassInstance")

_ANYTHING = Rule(meaning="")
#: No database counts further.
_LARGEST_NUMBER = 2**63 - 1


class EnvironmentText(str):
    """A value that came from an override in the environment, still as text: its type is decided by the key."""

    __slots__ = ()


class Mistakes:
    """Collects what is wrong, in the order it was found."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, key: str, what: str) -> None:
        """Note that `key` is wrong; `what` says how, and what would be right."""
        self.lines.append(f"{key}: {what}")

    def unknown(self, key: str, known: Collection[str]) -> None:
        """Note that there is no such key; name the nearest one, and all."""
        import difflib  # noqa: PLC0415 - only mistakes pay for it, never a start

        name = key.rpartition(".")[2]
        near = difflib.get_close_matches(name, known, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        self.add(key, f"unknown key; {guess}allowed here: {', '.join(sorted(known))}")


def toml_value(text: str) -> object:
    """`text` read as the right side of a TOML line, or `text` itself where it is none."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return str(text)
    return parsed["value"] if len(parsed) == 1 else str(text)


def typed(value: object) -> object:
    """An override as TOML would have it; everything else as it is."""
    return toml_value(value) if isinstance(value, EnvironmentText) else value


def read_section(defaults: Section, table: object, path: str, mistakes: Mistakes) -> Section:
    """`defaults` with what `table` says instead. A wrong value leaves the default and a mistake."""
    if not isinstance(table, Mapping):
        mistakes.add(path, "must be a table")
        return defaults
    fields = {field.name: field for field in dataclasses.fields(defaults)}
    values: dict[str, object] = {}
    for name, value in table.items():
        key = f"{path}.{name}"
        if name not in fields:
            mistakes.unknown(key, fields)
            continue
        default: object = getattr(defaults, name)
        rule = fields[name].metadata["rule"]
        values[name] = read_value(default, value, key, mistakes, rule)
    return dataclasses.replace(defaults, **values)


def read_value(default: object, value: object, key: str, mistakes: Mistakes, rule: Rule = _ANYTHING) -> object:
    """`value` as the type that `default` has, within `rule`; else `default` and a mistake."""
    if isinstance(default, bool):
        return _read_flag(default, value, key, mistakes)
    if isinstance(default, int | float):
        return read_number(default, value, key, mistakes, rule)
    if isinstance(default, tuple):
        return _read_texts(value, key, mistakes)
    text = read_text(str(default), value, key, mistakes, rule)
    return _path(text) if isinstance(default, Path) else text


def read_text(default: str, value: object, key: str, mistakes: Mistakes, rule: Rule = _ANYTHING) -> str:
    """`value` if it is a string, and one of the rule's choices where it has some."""
    if isinstance(value, EnvironmentText):
        parsed = toml_value(value)
        value = parsed if isinstance(parsed, str) else str(value)
    if not isinstance(value, str):
        mistakes.add(key, f"must be a string, not {_shown(value, rule)}")
        return default
    if rule.choices and value not in rule.choices:
        mistakes.add(key, f"must be {_either(rule.choices)}, not {_shown(value, rule)}")
        return default
    return value


def _path(text: str) -> Path:
    """`text` as a path, `~` as in a shell."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        # Nobody's home is known.
        return Path(text)


def read_number(default: float, value: object, key: str, mistakes: Mistakes, rule: Rule = _ANYTHING) -> int | float:
    """`value` if it is a number within bounds, and a whole one where `default` is."""
    whole = isinstance(default, int)
    value = typed(value)
    if isinstance(value, int) and value > _LARGEST_NUMBER:
        mistakes.add(key, f"must be at most {_LARGEST_NUMBER}")
        return default
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not math.isfinite(value):
        mistakes.add(key, f"must be a {'whole ' if whole else ''}number, not {_shown(value, rule)}")
        return default
    if rule.at_least is not None and value < rule.at_least:
        mistakes.add(key, f"must be at least {rule.at_least:g}, not {value}")
        return default
    if rule.at_most is not None and value > rule.at_most:
        mistakes.add(key, f"must be at most {rule.at_most:g}, not {value}")
        return default
    return value if whole else float(value)


def _read_flag(default: bool, value: object, key: str, mistakes: Mistakes) -> bool:  # noqa: FBT001 - it is the value
    value = typed(value)
    if isinstance(value, bool):
        return value
    mistakes.add(key, f"must be true or false, not {value!r}")
    return default


def _read_texts(value: object, key: str, mistakes: Mistakes) -> tuple[str, ...]:
    value = typed(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    mistakes.add(key, f"must be an array of strings, not {value!r}")
    return ()


def _shown(value: object, rule: Rule) -> str:
    return "this" if rule.secret else repr(value)


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(f'"{word}"' for word in words)
