"""Several answers become one."""

from __future__ import annotations

import orjson
import pytest

from gateway.merging import merged, merged_body
from gateway.records import RequestState
from gateway.store.rows import Ending


def said(text: str, tokens: int, cost: float | None = 0.5) -> Ending:
    """A child's answer."""
    body = {
        "id": f"chatcmpl-{text}",
        "object": "chat.completion",
        "created": 1,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
    }
    return Ending(
        state=RequestState.SUCCEEDED, status=200, code=None, body=orjson.dumps(body), cost_usd=cost, saved_usd=cost
    )


def failed(state: RequestState, code: str) -> Ending:
    """A child's failure."""
    return Ending(state=state, status=503, code=code, body=b"{}")


def test_all_answers_are_in_one_completion_in_order() -> None:
    """The caller sees choices 0 to n-1, as from a provider that has `n`."""
    whole = orjson.loads(merged([said("a", 3), said("b", 4), said("c", 5)]).body)

    assert [(choice["index"], choice["message"]["content"]) for choice in whole["choices"]] == [
        (0, "a"),
        (1, "b"),
        (2, "c"),
    ]
    assert whole["id"] == "chatcmpl-a"


def test_usage_and_cost_are_added_up() -> None:
    """What was billed for all of them is what the caller reads."""
    ending = merged([said("a", 3), said("b", 4)])

    assert orjson.loads(ending.body)["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    assert (ending.cost_usd, ending.saved_usd) == (1.0, 1.0)


def test_one_unknown_cost_makes_the_sum_unknown() -> None:
    """A sum that leaves one out would be a guess."""
    assert merged([said("a", 3), said("b", 4, None)]).cost_usd is None


def test_one_failure_is_the_failure_of_all() -> None:
    """A caller who asked for three answers is not given two; of several failures the one that says why is told."""
    endings = [
        said("a", 3),
        failed(RequestState.CANCELLED, "cancelled"),
        failed(RequestState.FAILED, "attempts_exhausted"),
        failed(RequestState.EXPIRED, "expired"),
    ]

    assert merged(endings).code == "attempts_exhausted"


def test_odd_bodies_are_merged_as_far_as_they_go() -> None:
    """A provider's own fields, nulls and missing usage stand in no one's way."""
    whole = merged_body(
        [
            {"choices": [1], "usage": {"cost": None, "tier": "batch", "details": None}},
            {"choices": None, "usage": {"cost": 0.5, "tier": "batch", "details": {"a": 1}}},
            {"usage": 7},
        ]
    )

    assert whole == {"choices": [1], "usage": {"cost": 0.5, "tier": "batch", "details": {"a": 1}}}


@pytest.mark.parametrize("depth", [255, 1_000])
def test_deep_answers_become_one(depth: int) -> None:
    """Answers that are stored can be merged, however deep what their provider put in them is nested."""
    deep = b"[" * depth + b"]" * depth
    body = b'{"choices":[{"index":0,"message":{"details":' + deep + b"}}]}"
    answer = Ending(state=RequestState.SUCCEEDED, status=200, code=None, body=body)
    whole = merged([answer, answer]).body
    assert whole.count(b'"details":' + deep) == 2
    assert [choice["index"] for choice in orjson.loads(whole)["choices"]] == [0, 1]


def test_usage_that_no_counter_holds_is_added_up() -> None:
    """A count that a provider took below zero keeps nobody from the answers that were paid."""
    whole = orjson.loads(merged([said("a", 2**64 - 1), said("b", 2**64 - 1)]).body)
    assert whole["usage"]["prompt_tokens"] == pytest.approx(2**65)
    assert len(whole["choices"]) == 2
