"""A body as bytes, or the name of the field that is in the way."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Unsupported
from gateway.provider import dump_body

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(st.characters(exclude_categories=["Cs"]))
)


@given(body=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), SCALARS | st.lists(SCALARS, max_size=3)))
def test_a_body_stays_what_it_is(body: dict[str, object]) -> None:
    """What JSON can hold is written as it came, without a newline byte."""
    written = dump_body(body)

    assert orjson.loads(written) == body
    assert b"\n" not in written


@pytest.mark.parametrize("content", ["\ud83d", 2**64, {"deep": ["\ud83d"]}, {"a": 2**70}])
def test_what_json_cannot_hold_is_named(content: object) -> None:
    """Half an emoji, or a number too large, is refused at admission by its field, and not quoted."""
    with pytest.raises(Unsupported) as caught:
        dump_body({"model": "m", "seed": content, "n": 1})

    assert caught.value.field == "seed"


def test_a_name_that_json_cannot_hold_is_the_bodys() -> None:
    """A field whose very name cannot be written cannot be named either."""
    with pytest.raises(Unsupported) as caught:
        dump_body({"\ud83d": 1})

    assert caught.value.field == "body"
