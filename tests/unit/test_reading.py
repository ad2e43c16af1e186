"""Objects as providers write them: what is odd is as good as not there."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Ambiguous
from gateway.reading import count, items, mapping, moment, number, parse_object, text

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"5", b'"text"', b"<html>", b"\xff", "{", "\ud800"])
def test_an_answer_that_is_no_object_is_ambiguous(content: bytes | str) -> None:
    """A page of a proxy, or a list in place of an object: something answered, nobody knows what it did."""
    with pytest.raises(Ambiguous):
        parse_object(content)


@given(content=st.dictionaries(st.text(), st.none() | st.booleans() | st.text(), max_size=3))
def test_an_object_is_read_as_it_was_written(content: dict[str, object]) -> None:
    """Whatever an object holds, it is read whole, from bytes and from text."""
    written = orjson.dumps(content)

    assert parse_object(written) == parse_object(written.decode()) == content


@pytest.mark.parametrize(
    "written",
    ["2026-11-20T12:00:00Z", "2026-11-20T12:00:00", "2026-11-20T13:00:00+01:00", NOON.timestamp(), "1795176000"],
)
def test_times_in_every_form(written: object) -> None:
    """ISO with and without a zone, which is UTC then, and unix seconds, also as text."""
    assert moment(written) == NOON


@pytest.mark.parametrize("odd", [None, "", "soon", True, 0, -1, 1e300, float("nan"), {}, "9" * 5_000])
def test_odd_times_are_unknown(odd: object) -> None:
    """What is no time is not guessed at."""
    assert moment(odd) is None


@pytest.mark.parametrize(
    ("written", "known"),
    [(0, 0), (7, 7), ("7", 7), (-1, None), (True, None), (1.0, None), ("", None), ("-1", None), ("٣", None)],
)
def test_counts_are_never_guessed(written: object, known: int | None) -> None:
    """A whole number from 0, also as text; everything else is unknown, which is better than wrong."""
    assert count(written) == known


@given(content=json_values)
def test_nothing_breaks_the_readers(content: object) -> None:
    """Whatever a field holds, each reader gives what its type says."""
    assert isinstance(mapping(content), dict)
    assert isinstance(items(content), list | tuple)
    assert text(content) is None or text(content) == content
    known = number(content)
    assert known is None or known - known == 0
    read = moment(content)
    assert read is None or read.tzinfo is not None
