"""Regular expressions of strangers: told where it is cheap, never tried where it may be dear."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.patterns import MOST_STEPS, search

#: What people write into schemas.
EVERYDAY = [
    (r"^\d{4}-\d{2}-\d{2}$", "2027-01-15", "15.1.2027"),
    (r"^[A-Z]{2,4}-[0-9]+$", "AB-17", "ab-17"),
    (r"^(\d{1,3}\.){3}\d{1,3}$", "127.0.0.1", "127.0.0"),
    (r"^(yes|no)$", "no", "maybe"),
    (r"^[^@\s]+@[^@\s]+\.[^@\s]+$", "ann@example.org", "ann.example.org"),
    (r"cat|dog", "a hotdog", "a bird"),
    (r"^.*$", "x" * 10_000, None),
]
#: Each would take Python's `re` longer than anybody waits, with the text beside it.
RUINOUS = [
    ("(a+)+$", "a" * 60 + "!"),
    ("^(a|aa)+$", "a" * 60 + "!"),
    ("(x+x+)+y", "x" * 60),
    ("^(.*a){20}$", "a" * 200 + "!"),
    ("a?" * 40 + "a" * 40, "a" * 40),
    (".*.*.*.*.*=", "x" * 3_000),
    ("(?:a{1000}){1000}", "a" * 1_000),
]
#: Not Python's, or not reckoned: no answer is judged by them.
UNREAD = [r"\p{L}+", "(?<year>a)", "(?=a)b", r"(a)\1", "(", "[[a]]", "a" * 1_001, "(" * 500 + ")" * 500, "a**"]


@pytest.mark.parametrize(("pattern", "good", "bad"), EVERYDAY)
def test_everyday_patterns_are_told(pattern: str, good: str, bad: str | None) -> None:
    """What people write into schemas is found where it is, and not where it is not."""
    found = search(pattern, good)
    assert found is not None
    assert found.found
    if bad is not None:
        other = search(pattern, bad)
        assert other is not None
        assert not other.found


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("pattern", "text"), RUINOUS)
def test_ruinous_patterns_are_not_tried(pattern: str, text: str) -> None:
    """A pattern that would hold the process for years is not tried: this test would not end."""
    assert search(pattern, text) is None


@pytest.mark.parametrize("pattern", UNREAD)
def test_what_cannot_be_read_is_not_tried(pattern: str) -> None:
    """Other dialects, broken patterns and what is too long say nothing of an answer, and warn nobody."""
    assert search(pattern, "a") is None


PIECES = st.sampled_from(
    ["a", "b", "[ab]", ".", "a*", "b+", "a?", "(ab)*", "(a|b)", "(a|ab){2}", "a{1,3}", "^", "$", "(a?b){0,2}"]
)


@pytest.mark.timeout(60)
@given(pieces=st.lists(PIECES, min_size=1, max_size=8), text=st.text(alphabet="ab\n", max_size=400))
def test_what_is_tried_is_told_as_re_tells_it(pieces: list[str], text: str) -> None:
    """Whatever is put together, a search that is made is cheap and says what Python's own says."""
    pattern = "".join(pieces)
    told = search(pattern, text)
    if told is not None:
        assert told.steps <= MOST_STEPS
        assert told.found == (re.search(pattern, text) is not None)
