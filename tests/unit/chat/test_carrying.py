"""What an id carries comes back, or nothing does."""

from __future__ import annotations

import base64
import re
import zlib

from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import carried, carry, plain_ids

_IDS = st.text("abcXYZ019_-", min_size=1, max_size=30)
_CONTENTS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=5),
    st.text(st.characters(codec="utf-8"), max_size=300) | st.lists(st.integers(-9, 9) | st.booleans()) | st.none(),
    max_size=4,
)


@given(_IDS, _CONTENTS)
def test_what_is_carried_comes_back_with_the_plain_id(plain: str, content: dict[str, object]) -> None:
    """`carried` gives back what `carry` was given, id and content."""
    assert carried(carry(plain, content)) == (plain, content)


@given(_IDS, _CONTENTS)
def test_an_id_that_carries_is_made_of_what_every_id_may_hold(plain: str, content: dict[str, object]) -> None:
    """Letters, digits, underscore and hyphen are all that an id needs, so that any store of ids takes it."""
    assert re.fullmatch(r"[A-Za-z0-9_-]+", carry(plain, content))


@given(st.text())
def test_any_text_can_be_looked_into(text: str) -> None:
    """Ids that clients made up never raise, and those without our mark stay as they are."""
    plain, content = carried(text)
    assert content is None or isinstance(content, dict)
    if "__bw1_" not in text:
        assert (plain, content) == (text, None)


@given(_IDS, st.data())
def test_an_id_that_was_cut_carries_nothing(plain: str, data: st.DataObject) -> None:
    """A client that shortens ids loses what was carried, wholly, and keeps a plain id that begins as it did."""
    whole = carry(plain, {"anthropic": {"thinking": "I have thought of the sea", "signature": "c2lnbmVk" * 9}})
    cut = whole[: data.draw(st.integers(len(plain), len(whole) - 1))]
    short, content = carried(cut)
    assert content is None
    assert short.startswith(plain)


def test_an_id_may_be_wrapped_twice() -> None:
    """A provider's id that carries something itself comes back as the provider wrote it."""
    inner = carry("call_1", {"theirs": 1})
    assert carried(carry(inner, {"ours": 2})) == (inner, {"ours": 2})


def test_a_mark_without_an_id_before_it_is_no_mark() -> None:
    """Calls always have an id, even where a client made up one that looks like ours."""
    assert carried("__bw1_abc") == ("__bw1_abc", None)


def test_a_small_id_cannot_unpack_to_a_large_one() -> None:
    """What would not fit a megabyte unpacked is taken for damage, however small it is packed."""
    plain, content = carried(carry("call_1", {"thoughts": "a" * (1 << 21)}))
    assert (plain, content) == ("call_1", None)


def test_only_objects_are_carried() -> None:
    """Other JSON behind our mark is nobody's."""
    packed = base64.urlsafe_b64encode(zlib.compress(b"[1]")).decode().rstrip("=")
    assert carried(f"call_1__bw1_{packed}") == ("call_1", None)


def test_messages_lose_what_their_ids_carry() -> None:
    """Calls and results get the provider's own ids, which fit each other; everything else stays as it is."""
    packed = carry("call_1", {"anthropic": ["thought"]})
    said = {"role": "assistant", "content": None, "tool_calls": [{"id": packed, "type": "function"}, {"id": "call_2"}]}
    result = {"role": "tool", "tool_call_id": packed, "content": packed}
    sent = plain_ids(
        [{"role": "user", "content": "x"}, said, result, "odd", {"tool_calls": ["odd"], "tool_call_id": 1}]
    )

    assert sent == [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function"}, {"id": "call_2"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": packed},
        "odd",
        {"tool_calls": ["odd"], "tool_call_id": 1},
    ]
    assert said["tool_calls"][0]["id"] == result["tool_call_id"] == packed  # type: ignore[index]


def test_what_is_no_list_of_messages_stays_as_it_is() -> None:
    """A provider is the one to say what is wrong with it."""
    assert plain_ids("hello") == "hello"
    assert plain_ids(None) is None
