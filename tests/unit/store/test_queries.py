"""Named SQL is loaded as it is written, and a parameter that is missing is found at once."""

from __future__ import annotations

import pytest

from gateway.store.queries import load_queries, named_statements, schema_statements
from gateway.store.sqlite_session import Query

TEXT = """-- A file about something.

-- name: one
-- Why it is there.
SELECT a,  b -- of course
FROM t
WHERE a = :a;

-- name: two
SELECT 2;
"""


def test_statements_are_found_by_name_without_their_comments() -> None:
    """Names, in order; comments and line breaks are for people."""
    assert list(named_statements(TEXT)) == [("one", "SELECT a, b FROM t WHERE a = :a;"), ("two", "SELECT 2;")]


def test_parameters_are_bound_by_name() -> None:
    """Each in its place, however often it occurs; more may be given than are needed, not fewer."""
    query = Query("SELECT :b, :a, :b")

    assert (query.sql, query.bind({"a": 1, "b": 2, "c": 3})) == ("SELECT ?1, ?2, ?1", (2, 1))
    assert Query("SELECT :a").bind({"a": 1}) == (1,)
    assert Query("SELECT 1").bind({}) == ()
    with pytest.raises(KeyError):
        query.bind({"a": 1})


def test_the_schema_falls_into_statements() -> None:
    """Tables first, each statement whole."""
    statements = schema_statements("sqlite", "schema.sql")

    assert all(statement.startswith("CREATE ") for statement in statements)
    assert len([statement for statement in statements if statement.startswith("CREATE TABLE")]) == 10


def test_every_query_is_explained_or_plain() -> None:
    """The names are unique over all files, which the loader checks, and there is something to load."""
    assert {"insert_request", "seal", "windows", "give"} <= load_queries("sqlite").keys()
