"""Loader of named SQL: `-- name: foo`, comment lines, the statement."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: ([a-z_]+)\n", re.MULTILINE)
_COMMENT = re.compile(r"--[^\n]*")


def load_queries(dialect: str) -> Mapping[str, str]:
    """All named queries of `gateway/store/<dialect>/*.sql`, without comments; a name that occurs twice is an error."""
    queries: dict[str, str] = {}
    for file in sorted(files("gateway.store").joinpath(dialect).iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".sql"):
            continue
        for name, statement in named_statements(file.read_text(encoding="utf-8")):
            if name in queries:
                raise ValueError(f"query {name} occurs twice in the SQL of {dialect}")
            queries[name] = statement
    return MappingProxyType(queries)


def named_statements(text: str) -> Iterator[tuple[str, str]]:
    """Each named statement of a file, as (name, statement on one line)."""
    parts = _NAME.split(text)[1:]
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        yield name, plain(body)


def schema_statements(dialect: str, name: str) -> list[str]:
    """The statements of a schema file, in order, without comments."""
    text = files("gateway.store").joinpath(dialect, name).read_text(encoding="utf-8")
    return [statement for part in _COMMENT.sub("", text).split(";") if (statement := plain(part))]


def plain(sql: str) -> str:
    """`sql` without comments and superfluous white space: equal for equal statements."""
    return " ".join(_COMMENT.sub("", sql).split())
