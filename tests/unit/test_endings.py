"""What becomes of a line and of a refused batch: the whole table of the design, row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from gateway.config import Retries
from gateway.endings import Pricing, Way, cancelled, dissolution, failure, settle, settle_by, whole
from gateway.errors import ENDINGS, Missing, ProviderError, Rejected, Retryable, TokenLimit, Unauthorised
from gateway.prices import Price
from gateway.records import BatchState, ErrorBody, RequestState, Result
from gateway.store.rows import LaneKey
from gateway.store.shipping import BatchRow, Member, Settlement

NOW = 1_800_000_000.0
UNKNOWN = Pricing(batch=None, full=None)
ANSWER: Mapping[str, object] = {
    "id": "x",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 500_000, "total_tokens": 1_500_000},
}


def batch_of(count: int = 4) -> BatchRow:
    """A batch that came back."""
    return BatchRow(
        id=7,
        marker="m" * 20,
        lane_id=1,
        lane=LaneKey(provider="acme", endpoint="/v1/chat/completions", model="gpt-x"),
        account="",
        base_url="",
        state=BatchState.ENDED,
        epoch=1,
        count=count,
        size=100,
        tokens=1000,
        sealed_at=NOW - 100,
    )


def member_of(attempts: int = 0, cancel_at: float | None = None) -> Member:
    """A line whose request has had `attempts` answers that did not count."""
    return Member(n=2, seq=9, attempts=attempts, queued_at=NOW - 200, cancel_at=cancel_at)


def result_of(status: int, *, retriable: bool = False, code: str | None = None, message: str = "said so") -> Result:
    """A line that failed."""
    error = ErrorBody(message=message, type="some_error", param="messages", code=code)
    return Result(line_id="x-2", status=status, error=error, retriable=retriable)


def settled(result: Result | None, member: Member | None = None, retries: Retries | None = None) -> Settlement:
    """What a line came to, at unknown prices."""
    return settle(result, member or member_of(), batch_of(), UNKNOWN, retries or Retries(), now=NOW)


def error_in(settlement: Settlement) -> dict[str, object]:
    """The error object the caller of a line that ended badly gets."""
    assert settlement.ending is not None
    body: dict[str, dict[str, object]] = orjson.loads(settlement.ending.body)
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


def test_an_answer_is_kept_as_it_came() -> None:
    """A success ends with 200, the provider's own body, its batch and provider."""
    ending = settled(Result(line_id="x-2", status=200, body=ANSWER)).ending
    assert ending is not None
    assert (ending.state, ending.status, ending.code) == (RequestState.SUCCEEDED, 200, None)
    assert orjson.loads(ending.body) == ANSWER
    assert (ending.provider, ending.batch) == ("acme", 7)


@pytest.mark.parametrize("left_out", [{}, {"id": None, "object": None, "created": None}])
def test_an_answer_gets_what_openais_always_has(left_out: dict[str, object]) -> None:
    """Id, object and created are added where a provider has none: the id is the request's own, whenever it is read."""
    bare = {name: word for name, word in ANSWER.items() if name not in ("id", "object", "created")} | left_out
    ending = settled(Result(line_id="x-2", status=200, body=bare)).ending
    assert ending is not None
    found = ChatCompletion.model_validate(orjson.loads(ending.body) | {"model": "gpt-x"}, strict=True)
    assert (found.id, found.object, found.created) == ("chatcmpl-bw9", "chat.completion", int(NOW))
    assert whole(bare, 9, NOW + 5000.9)["id"] == found.id
    assert whole(bare, 9, NOW + 5000.9)["created"] == int(NOW) + 5000


def test_what_is_no_chat_completion_gets_nothing_more() -> None:
    """Answers of other endpoints have other fields."""
    assert whole({"data": []}, 9, NOW) == {"data": []}


def test_an_answer_is_billed_at_the_batch_price() -> None:
    """Cost is at the batch price, savings against the list price, and the line counts as billed."""
    half = Price(input=1e-6, cached=1e-6, output=4e-6, written=1e-6)
    whole = Price(input=2e-6, cached=2e-6, output=8e-6, written=2e-6)
    answer = Result(line_id="x-2", status=200, body=ANSWER)
    settlement = settle(answer, member_of(), batch_of(), Pricing(batch=half, full=whole), Retries(), now=NOW)
    assert settlement.billed
    assert settlement.cost_usd == pytest.approx(1.0 + 2.0)
    assert settlement.saved_usd == pytest.approx(3.0)
    assert settlement.usage is not None
    assert (settlement.usage.input_tokens, settlement.usage.output_tokens) == (1_000_000, 500_000)


@pytest.mark.parametrize("price", [None, Price(input=1e-6, cached=1e-6, output=4e-6, written=1e-6)])
def test_what_is_asked_by_itself_saves_nothing(price: Price | None) -> None:
    """The one price is paid, known or not; no discount is claimed, and no batch is named."""
    answer = Result(line_id=None, status=200, body=ANSWER)
    pricing = Pricing(batch=price, full=price, discounted=False)
    settlement = settle_by(Way(provider="acme"), answer, member_of(), pricing, Retries(), now=NOW)
    assert settlement.ending is not None
    assert (settlement.saved_usd, settlement.ending.saved_usd, settlement.ending.batch) == (0.0, 0.0, None)
    assert settlement.cost_usd == (None if price is None else pytest.approx(3.0))


def test_an_unknown_price_is_unknown() -> None:
    """Without a price nothing is guessed, neither cost nor savings; the line is billed all the same."""
    settlement = settled(Result(line_id="x-2", status=200, body=ANSWER))
    assert settlement.billed
    assert settlement.cost_usd is None
    assert settlement.saved_usd is None


def test_a_billed_result_beats_a_late_cancel() -> None:
    """A cancel that was too late does not take away what was paid for."""
    settlement = settled(Result(line_id="x-2", status=200, body=ANSWER), member_of(cancel_at=NOW - 1))
    assert settlement.ending is not None
    assert settlement.ending.state is RequestState.SUCCEEDED


def test_a_refusal_of_the_line_beats_a_late_cancel_too() -> None:
    """A line that was answered, with a 400, is not said to be cancelled."""
    settlement = settled(result_of(400), member_of(cancel_at=NOW - 1))
    assert settlement.ending is not None
    assert settlement.ending.status == 400


@pytest.mark.parametrize("result", [None, result_of(429, retriable=True), result_of(500, retriable=True)])
def test_a_cancelled_line_without_answer_does_not_go_round_again(result: Result | None) -> None:
    """What would be tried again ends as cancelled when somebody wished it."""
    ending = settled(result, member_of(cancel_at=NOW - 1)).ending
    assert ending is not None
    assert (ending.state, ending.status, ending.code) == (RequestState.CANCELLED, 410, "cancelled")


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_what_can_only_fail_again_keeps_status_and_message(status: int) -> None:
    """A line 400, 404, 413 or 422 is the caller's own, with the provider's words; and permanent."""
    settlement = settled(result_of(status, code="bad_thing", message="no such field"))
    ending = settlement.ending
    assert ending is not None
    assert (ending.state, ending.status, ending.permanent) == (RequestState.FAILED, status, True)
    said = {"message": "no such field", "type": "some_error", "param": "messages", "code": "bad_thing"}
    assert error_in(settlement) == said
    assert not settlement.billed


def test_a_refusal_without_a_type_is_the_callers() -> None:
    """Where the provider gives no type of OpenAI's, a 400 says what OpenAI says: the request is invalid."""
    untyped = ErrorBody(message="no such field", type="upstream_error", code="invalid_argument")
    settlement = settled(Result(line_id="x-2", status=400, error=untyped))

    assert error_in(settlement)["type"] == "invalid_request_error"


@pytest.mark.parametrize("status", [401, 402, 403])
def test_our_credentials_are_not_the_callers_fault(status: int) -> None:
    """A line 401, 402 or 403 is a 502: the caller's own key is not meant."""
    settlement = settled(result_of(status, message="no money"))
    ending = settlement.ending
    assert ending is not None
    assert (ending.state, ending.status, ending.code) == (RequestState.FAILED, 502, "provider_credentials")
    assert not ending.permanent
    error = error_in(settlement)
    assert error["code"] == "provider_credentials"
    assert str(status) in str(error["message"])
    assert "acme" in str(error["message"])


@pytest.mark.parametrize("status", [405, 406, 410, 411, 415, 418, 424, 451])
def test_any_other_refusal_is_a_422(status: int) -> None:
    """Other 4xx of a line would be misread by clients: they get 422 with the provider's status in the text."""
    settlement = settled(result_of(status))
    ending = settlement.ending
    assert ending is not None
    assert (ending.status, ending.code) == (422, "provider_refused")
    assert str(status) in str(error_in(settlement)["message"])


@pytest.mark.parametrize(
    ("result", "status", "code", "state"),
    [
        (result_of(429, retriable=True), 429, "rate_limit_exceeded", RequestState.FAILED),
        (result_of(500, retriable=True), 503, "attempts_exhausted", RequestState.FAILED),
        (result_of(502, retriable=True), 503, "attempts_exhausted", RequestState.FAILED),
        (result_of(529, retriable=True), 503, "attempts_exhausted", RequestState.FAILED),
        (None, 503, "attempts_exhausted", RequestState.FAILED),
        (Result(line_id="x-2", status=200, retriable=True), 503, "attempts_exhausted", RequestState.FAILED),
        (Result(line_id="x-2", status=0, retriable=True), 503, "attempts_exhausted", RequestState.FAILED),
        (result_of(408, retriable=True), 504, "expired", RequestState.EXPIRED),
        (result_of(408, retriable=True, code="request_timeout"), 504, "expired", RequestState.EXPIRED),
        (result_of(504, retriable=True, code="batch_expired"), 504, "expired", RequestState.EXPIRED),
        (result_of(0, retriable=True, code="batch_expired"), 504, "expired", RequestState.EXPIRED),
        (result_of(499, retriable=True, code="batch_cancelled"), 503, "attempts_exhausted", RequestState.FAILED),
    ],
)
def test_attempts_used_up(result: Result | None, status: int, code: str, state: RequestState) -> None:
    """After the last attempt the caller gets the ending the last trouble stands for, and is told how often it was tried."""
    settlement = settled(result, member_of(attempts=2))
    ending = settlement.ending
    assert ending is not None
    assert (ending.state, ending.status, ending.code) == (state, status, code)
    assert not ending.permanent
    assert "3 attempts" in str(error_in(settlement)["message"])
    assert error_in(settlement)["type"] == ENDINGS[code].type


@pytest.mark.parametrize(
    ("attempts", "pause"), [(0, 60), (1, 120), (2, 240), (5, 1920), (6, 3600), (60, 3600), (2000, 3600)]
)
def test_lines_go_back_for_longer_each_time(attempts: int, pause: float) -> None:
    """A retriable line waits 60 s, doubling to an hour, and goes back to its lane."""
    settlement = settled(result_of(500, retriable=True), member_of(attempts=attempts), Retries(max_attempts=10_000))
    assert settlement.ending is None
    assert settlement.not_before == NOW + pause
    assert settlement.trouble == "server_error"
    assert settlement.status == 500


@given(st.integers(min_value=1, max_value=5_000), st.sampled_from([0, 408, 409, 429, 500, 503, 599]))
def test_every_retriable_line_ends_after_exactly_max_attempts(max_attempts: int, status: int) -> None:
    """The k-th failure sends a line back while k is below max_attempts, and ends it when it is reached."""
    retries = Retries(max_attempts=max_attempts)
    result = result_of(status, retriable=True)
    last = settled(result, member_of(attempts=max_attempts - 1), retries)
    assert last.ending is not None
    if max_attempts > 1:
        before = settled(result, member_of(attempts=max_attempts - 2), retries)
        assert before.ending is None
        assert NOW <= before.not_before <= NOW + 3600


@given(
    st.one_of(st.none(), st.builds(result_of, st.integers(0, 999), retriable=st.booleans(), code=st.text(max_size=20))),
    st.integers(0, 5),
    st.booleans(),
)
def test_every_line_ends_or_goes_back(result: Result | None, attempts: int, wished: bool) -> None:
    """Whatever the provider says, a line has an ending with an HTTP error status, or goes back with a finite pause."""
    settlement = settled(result, member_of(attempts=attempts, cancel_at=NOW - 5 if wished else None))
    assert settlement.n == 2
    assert not settlement.billed
    if settlement.ending is None:
        assert math.isfinite(settlement.not_before)
        assert settlement.not_before >= NOW
        assert not wished
    else:
        assert 400 <= settlement.ending.status < 600
        assert settlement.ending.state.ended
        error_in(settlement)


@pytest.mark.parametrize(("status", "body"), [(200, None), (500, {"choices": []}), (404, {"choices": []}), (0, {})])
def test_an_answer_is_a_200_with_a_body(status: int, body: dict[str, object] | None) -> None:
    """Neither a 200 without an answer nor what comes with another status is given to a caller as one, or billed."""
    settlement = settled(Result(line_id="x", status=status, body=body), member_of())
    assert settlement.ending is not None
    assert settlement.ending.state is RequestState.FAILED
    assert not settlement.billed


def test_a_line_without_an_error_object_is_refused_in_our_words() -> None:
    """A 400 that says nothing still gives the caller an error object."""
    settlement = settled(Result(line_id="x-2", status=400))
    assert error_in(settlement)["message"]


@pytest.mark.parametrize("code", sorted(ENDINGS))
def test_our_endings_say_what_the_table_says(code: str) -> None:
    """An ending of ours has the status, type and code of its row in the one table."""
    ending = failure(code, "what happened")
    assert ending.status == ENDINGS[code].status
    error = orjson.loads(ending.body)["error"]
    assert (error["type"], error["code"]) == (ENDINGS[code].type, code)


def test_cancelled_is_a_410() -> None:
    """A request that was cancelled says so."""
    ending = cancelled("acme", 3)
    assert (ending.state, ending.status, ending.code) == (RequestState.CANCELLED, 410, "cancelled")
    assert not ending.permanent


def test_too_many_tokens_refuse_nobody() -> None:
    """A token limit sends every request back, as it was, and makes the lane's batches smaller."""
    plan = dissolution(batch_of(), TokenLimit("full"))
    assert plan.shrink
    assert not plan.refused
    assert plan.parts == 0


def test_named_lines_fail_and_the_others_go_back() -> None:
    """Lines the provider names end with 400 and its reason for each; the others go back to their lane in one piece."""
    plan = dissolution(batch_of(4), Rejected("bad lines", {1: "no role", 3: ""}))
    assert set(plan.refused) == {1, 3}
    assert plan.parts == 0
    assert not plan.shrink
    first = plan.refused[1]
    assert (first.status, first.code, first.permanent) == (400, "provider_rejected", True)
    assert "no role" in orjson.loads(first.body)["error"]["message"]
    assert "bad lines" in orjson.loads(plan.refused[3].body)["error"]["message"]


def test_a_batch_refused_without_lines_is_halved() -> None:
    """Nobody fails for what a neighbour did: the batch falls into two."""
    plan = dissolution(batch_of(4), Rejected("bad file"))
    assert plan.parts == 2
    assert not plan.refused


def test_lines_that_are_not_in_the_batch_do_not_count() -> None:
    """Line numbers that name none of ours are as good as none."""
    plan = dissolution(batch_of(4), Rejected("bad", [4, -1, 99]))
    assert plan.parts == 2
    assert not plan.refused


def test_a_batch_of_one_that_is_refused_fails() -> None:
    """The halving ends: a line that stands alone is the offending one."""
    plan = dissolution(batch_of(1), Rejected("bad file"))
    assert set(plan.refused) == {0}
    assert plan.parts == 0
    assert plan.refused[0].code == "provider_rejected"


@given(st.integers(1, 3000), st.integers(0, 2999))
def test_halving_ends_with_the_one_poison_line(count: int, poison: int) -> None:
    """Halving again and again fails the poison line alone, after about log2(count) refusals."""
    poison %= count
    sizes, rounds = [range(count)], 0
    while True:
        lines = next(part for part in sizes if poison in part)
        plan = dissolution(batch_of(len(lines)), Rejected("bad"))
        if plan.refused:
            assert [lines[n] for n in plan.refused] == [poison]
            break
        middle = -(-len(lines) // plan.parts)
        sizes = [lines[:middle], lines[middle:]]
        rounds += 1
    assert rounds <= math.ceil(math.log2(count)) if count > 1 else rounds == 0


@pytest.mark.parametrize("refusal", [Unauthorised("status 401"), Retryable("try later"), Missing("gone")])
@pytest.mark.parametrize("count", [1, 4])
def test_what_is_not_about_the_lines_fails_no_line(refusal: ProviderError, count: int) -> None:
    """A refused key or a busy provider says nothing of the requests: they go back, none fails, nothing is halved."""
    plan = dissolution(batch_of(count), refusal)
    assert not plan.refused
    assert plan.parts == 0
    assert not plan.shrink
