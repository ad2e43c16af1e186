"""Our own ids lead to their rows, and nothing else does."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.store.naming import new_token, own_id, parse_own_id


@given(st.integers(0, 10**15))
@example(35)
@example(36)
def test_an_id_says_its_number_and_secret(seq: int) -> None:
    """What was made into an id comes out of it again."""
    token = new_token()

    assert parse_own_id(own_id(seq, token)) == (seq, token)


@given(st.text(max_size=30) | st.from_regex(r"bw_[0-9a-zA-Z_²٣]*", fullmatch=True))
def test_anything_may_be_asked_for(custom_id: str) -> None:
    """Whatever a caller sends is an id of ours or is not, and never an error."""
    parsed = parse_own_id(custom_id)

    assert parsed is None or (custom_id.startswith("bw_") and parsed[0] < 2**63)


def test_secrets_differ() -> None:
    """Nobody guesses the id of another's request from the number of one's own."""
    assert len({new_token() for _ in range(1000)}) == 1000
