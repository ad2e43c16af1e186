"""Which requests are the same, and which bodies are refused because they could not be told apart."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import Refusal
from gateway.fingerprint import IGNORED_FIELDS, body_hash, canonical_body, fingerprint, parse

ROUTE = {
    "client": "team-a",
    "provider": "openai",
    "account": "main",
    "model": "gpt-4.1",
    "endpoint": "/v1/chat/completions",
}

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
counted = st.text(max_size=8).filter(lambda name: name not in IGNORED_FIELDS and not name.startswith("prompt_cache_"))
bodies = st.dictionaries(counted, values, max_size=6)
ignored = st.dictionaries(
    st.sampled_from([*sorted(IGNORED_FIELDS), "prompt_cache_key", "prompt_cache_retention"]), values, max_size=5
)


def canonical(body: object) -> bytes:
    """`body` sent as a client would send it, and read back."""
    return canonical_body(parse(json.dumps(body).encode()))


def shuffled(value: object) -> object:
    """`value` with the keys of every object the other way round."""
    if isinstance(value, dict):
        return {key: shuffled(inner) for key, inner in reversed(value.items())}
    return [shuffled(inner) for inner in value] if isinstance(value, list) else value


@given(body=bodies, extra=ignored)
def test_what_does_not_change_the_answer_makes_no_difference(body: dict[str, object], extra: dict[str, object]) -> None:
    """Order of keys, white space, escapes and fields about delivery or billing leave a request the same."""
    pretty = json.dumps(shuffled({**extra, **body}), indent=3, ensure_ascii=False)

    assert canonical_body(parse(pretty.encode())) == canonical(body)


@given(one=bodies, other=bodies)
def test_different_bodies_are_different(one: dict[str, object], other: dict[str, object]) -> None:
    """Two bodies have the same canonical form exactly when JSON cannot tell them apart."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)

    assert (canonical(one) == canonical(other)) is same


@given(body=bodies.filter(bool), replacement=values, choice=st.randoms(use_true_random=False))
def test_any_change_of_a_counted_field_counts(body: dict[str, object], replacement: object, choice: object) -> None:
    """Changing one field that may change the answer makes another request of it."""
    name = choice.choice(sorted(body))  # type: ignore[attr-defined]
    changed = {**body, name: replacement}
    same = json.dumps(body, sort_keys=True) == json.dumps(changed, sort_keys=True)

    assert (canonical(changed) == canonical(body)) is same


@pytest.mark.parametrize("part", [*ROUTE, "canonical"])
def test_every_part_of_the_route_counts(part: str) -> None:
    """The same body for another client, provider, account, model or endpoint is another request."""
    parts = {**ROUTE, "canonical": b"{}"}
    changed = {**parts, part: b"[]" if part == "canonical" else "other"}

    assert fingerprint(**parts) != fingerprint(**changed)  # type: ignore[arg-type]
    assert len(fingerprint(**parts)) == 32  # type: ignore[arg-type]


def test_a_rehearsal_asks_nothing_that_is_meant() -> None:
    """The same request in a rehearsal is another one: what a simulator says of it is not the provider's answer."""
    meant = fingerprint(**ROUTE, canonical=b"{}")

    assert fingerprint(**ROUTE, canonical=b"{}", rehearsal=False) == meant
    assert fingerprint(**ROUTE, canonical=b"{}", rehearsal=True) != meant


@given(st.lists(st.text(max_size=6), min_size=5, max_size=5), st.lists(st.text(max_size=6), min_size=5, max_size=5))
@example(["ab", "c", "", "", ""], ["a", "bc", "", "", ""])
@example(["", "", "", "", "x"], ["", "", "", "x", ""])
def test_parts_never_run_into_each_other(one: list[str], other: list[str]) -> None:
    """Moving a character from one part of the route to the next makes another fingerprint."""
    hashes = [fingerprint(**dict(zip(ROUTE, parts, strict=True)), canonical=b"{}") for parts in (one, other)]

    assert (hashes[0] == hashes[1]) is (one == other)


def test_a_names_hash_holds_model_and_endpoint_as_written() -> None:
    """A name used again for another model or endpoint is used for another body."""
    plain = {"endpoint": "/v1/chat/completions", "model": "gpt-4.1", "canonical": b"{}"}

    assert body_hash(**plain) == body_hash(**plain)  # type: ignore[arg-type]
    assert body_hash(**{**plain, "model": "openai/gpt-4.1"}) != body_hash(**plain)  # type: ignore[arg-type]
    assert body_hash(**{**plain, "endpoint": "/v1/responses"}) != body_hash(**plain)  # type: ignore[arg-type]


def test_fingerprints_stay_what_they_are() -> None:
    """Stored answers are found again after an upgrade: the encoding only changes together with VERSION."""
    kept = canonical_body(
        {"model": "x", "messages": [{"role": "user", "content": "Grüße"}], "temperature": 0.0, "n": 1}
    )

    assert kept == '{"messages":[{"content":"Grüße","role":"user"}],"n":1,"temperature":0.0}'.encode()
    assert (
        fingerprint(**ROUTE, canonical=kept).hex() == "10ba3cfc5fcd4107f8401c4253b2d0a9791d570f6c0a953672851ae8757db534"
    )
    assert (
        body_hash(endpoint="/v1/chat/completions", model="x", canonical=kept).hex()
        == "8e3ae7e16404f2ea1e92dc9bda0171264bf9efce023f799226cd0ec5b51542df"
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"temperature": NaN}',
        b'{"temperature": Infinity}',
        b'{"temperature": 1e999}',
        b'{"seed": 18446744073709551616}',
        b'{"seed": -9223372036854775809}',
        b'{"content": "\\ud800"}',
        b'{"content": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"deep": ' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"deep": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"deep": ' + b"[" * 100_000,
    ],
)
def test_bodies_that_cannot_be_sent_on_unchanged_are_refused(raw: bytes) -> None:
    """Broken JSON, numbers without an exact form, broken text and bottomless nesting get a 400."""
    with pytest.raises(Refusal) as refusal:
        canonical_body(parse(raw))

    assert refusal.value.code == "invalid_request"
    assert refusal.value.rule.status == 400


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 0.1, 1e300, -0.0])
def test_numbers_of_64_bits_pass_unchanged(number: float) -> None:
    """The largest whole numbers and ordinary fractions come out as they went in."""
    assert json.loads(canonical({"seed": number}))["seed"] == number


@pytest.mark.parametrize("raw", [b'{"content": "my secret diary" "oops"}', b'{"content": "my secret diary \xff"}'])
def test_a_refusal_does_not_repeat_the_body(raw: bytes) -> None:
    """What a caller wrote is not in the message about it, which may be logged."""
    with pytest.raises(Refusal) as refusal:
        parse(raw)

    assert "diary" not in refusal.value.message
