"""The way of a batch: upload, submit, poll, fetch, decode, cancel, discard; and the states it can be in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Literal

import pytest

from gateway.errors import Rejected, Retryable, TokenLimit, Unsupported
from gateway.records import RemoteBatch, RemoteState, Result, line_id
from gateway.sandbox import Fault, FaultKind, Operation
from gateway.testing.contract.base import ContractBase, overrides
from gateway.testing.contract.rows import check_result
from gateway.testing.contract.samples import TEXTS
from gateway.testing.lab import MARKER, Lab, text_of

_DAMAGE = (
    FaultKind.ROW_DUPLICATE,
    FaultKind.ROW_MISSING,
    FaultKind.ROW_MALFORMED,
    FaultKind.ROW_UNKNOWN_ID,
    FaultKind.ROW_INVALID_UTF8,
    FaultKind.ROW_STATUS_0,
    FaultKind.ROW_NO_CHOICES,
    FaultKind.LAST_ROW_TRUNCATED,
    FaultKind.FILE_TRUNCATED,
)


class WalkingContract(ContractBase):
    """What the verbs of a batch promise when the provider answers."""

    @pytest.mark.asyncio
    async def test_every_line_gets_its_own_answer(self, batches: Lab) -> None:
        """The whole walk brings each line the answer to its own question, in whatever order the rows come."""
        texts = [f"question number {n}?" for n in range(25)]
        remote = await batches.run(*(self.body(text) for text in texts))
        results = await batches.results(remote)

        assert remote.state is RemoteState.ENDED, f"the batch is {remote.state} after its time"
        assert remote.total in (None, 25), f"the batch had 25 lines, and `total` says {remote.total}"
        assert remote.done in (None, 25), f"all 25 lines are done, and `done` says {remote.done}"
        _check_answers(results, texts)
        assert len(results) == 25, f"25 lines gave {len(results)} rows"
        submitted = await batches.simulator.submissions()
        assert submitted.repeated == {}, "a line was submitted more than once"
        await batches.provider.discard(batches.seal(self.body("x")), remote)

    @pytest.mark.asyncio
    async def test_an_answer_is_a_chat_completion(self, batches: Lab) -> None:
        """A decoded answer has OpenAI's shape: choices with a message and a finish reason, and usage in tokens."""
        [result] = await batches.results(await batches.run(self.body("one question")))
        body = result.body or {}
        choices = body.get("choices")

        assert result.status == 200, f"an answered line has status {result.status}"
        assert isinstance(choices, list), "an answer has no `choices`"
        assert choices[0]["message"]["role"] == "assistant", "an answer's message is not the assistant's"
        assert isinstance(choices[0]["finish_reason"], str), "an answer has no finish_reason"
        usage = body.get("usage")
        assert isinstance(usage, dict), "an answer has no `usage`: nobody can say what it cost"
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert type(usage.get(name)) is int, f"usage.{name} is no number of tokens"

    @pytest.mark.asyncio
    async def test_odd_texts_come_back_whole(self, batches: Lab) -> None:
        """Line separators of every kind, quotes and emoji in a question survive the way there and back."""
        results = await batches.results(await batches.run(*(self.body(text) for text in TEXTS)))

        _check_answers(results, TEXTS)

    @pytest.mark.asyncio
    async def test_an_upload_can_be_repeated(self, batches: Lab) -> None:
        """A second upload of the same spool works, and a batch can be made of what it returned."""
        batch = await batches.upload(self.body("x"))
        again = replace(batch, file_id=await batches.provider.upload(batch))
        remote = await batches.later(await batches.provider.submit(again))

        _check_answers(await batches.results(remote), ["x"])

    @pytest.mark.asyncio
    async def test_a_batch_runs_until_it_ends(self, batches: Lab) -> None:
        """A new batch is RUNNING with an id, and ENDED when its time has come; polling changes nothing."""
        created = await batches.submit(self.body("x"))
        running = await batches.later(created, 15)
        ended = await batches.later(running)

        assert created.remote_id, "submit returned no remote_id"
        assert (created.state, running.state) == (RemoteState.RUNNING, RemoteState.RUNNING), (
            "a new batch is not RUNNING"
        )
        assert running.remote_id == ended.remote_id == created.remote_id, "a poll changed the batch's id"
        assert ended.state is RemoteState.ENDED, "a batch whose time has come is not ENDED"
        assert (await batches.provider.poll(ended)).state is RemoteState.ENDED, "an ended batch came back to life"
        for seen in (created, ended):
            assert seen.created is None or seen.created.tzinfo is not None, "`created` has no time zone"

    @pytest.mark.asyncio
    async def test_a_batch_outlives_the_process(self, batches: Lab) -> None:
        """What `submit` returned is all that another instance needs to poll and fetch: a restart forgets everything else."""
        created = await batches.submit(self.body("x"))
        noted = RemoteBatch(remote_id=created.remote_id, state=RemoteState.RUNNING, where=dict(created.where))
        async with batches.restarted() as provider:
            lab = replace(batches, provider=provider)
            _check_answers(await lab.results(await lab.later(noted)), ["x"])

    @pytest.mark.asyncio
    async def test_a_refused_batch_says_why(self, batches: Lab) -> None:
        """A batch that the provider refuses as a whole is REFUSED with a reason, or its create call is Rejected."""
        batches.simulator.faults.order(Fault(kind=FaultKind.REFUSED, message="no such luck"))
        refusal = await _refusal_of(batches, self.body("x"))

        assert isinstance(refusal, Rejected), f"a refused batch says {type(refusal).__name__}: {refusal}"
        assert "no such luck" in refusal.reason, "the provider's own reason is lost"

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.asyncio
    async def test_no_room_for_tokens_is_no_refusal(self, batches: Lab, when: Literal["before", "after"]) -> None:
        """Too many tokens waiting at the provider is TokenLimit or Retryable: the requests themselves are good."""
        batches.simulator.faults.order(Fault(kind=FaultKind.TOKEN_LIMIT, when=when))
        refusal = await _refusal_of(batches, self.body("x"))

        assert isinstance(refusal, TokenLimit | Retryable), f"no room for tokens is {type(refusal).__name__}: {refusal}"

    @pytest.mark.parametrize("ending", [FaultKind.EXPIRED, FaultKind.CANCELLED])
    @pytest.mark.asyncio
    async def test_what_is_done_is_delivered(self, batches: Lab, ending: FaultKind) -> None:
        """A batch that expired, or that somebody else cancelled, ENDED: its answers come, every other line is retriable."""
        batches.simulator.faults.order(Fault(kind=ending, fraction=0.5))
        texts = [f"question {n}" for n in range(10)]
        remote = await batches.run(*(self.body(text) for text in texts))

        assert remote.state is RemoteState.ENDED, f"a batch that was {ending} is {remote.state}"
        self._check_partial(await batches.results(remote), texts, done=5)

    @pytest.mark.asyncio
    async def test_a_batch_can_be_cancelled_twice(self, batches: Lab) -> None:
        """Cancelling ends a batch, again does no harm, and what was done by then is delivered; or there is no cancel at all."""
        texts = [f"question {n}" for n in range(10)]
        remote = await batches.later(await batches.submit(*(self.body(text) for text in texts)), 60)
        if not overrides(batches.provider, "cancel"):
            with pytest.raises(Unsupported):
                await batches.provider.cancel(remote)
            return
        await batches.provider.cancel(remote)
        await batches.provider.cancel(remote)
        ended = await batches.later(remote)
        await batches.provider.cancel(ended)

        assert ended.state is RemoteState.ENDED, f"a cancelled batch is {ended.state}"
        self._check_partial(await batches.results(ended), texts, done=5)

    @pytest.mark.asyncio
    async def test_a_batch_can_be_discarded_twice(self, batches: Lab) -> None:
        """Discarding what was never submitted, what has ended, and what is gone already does no harm."""
        batch = await batches.upload(self.body("x"))
        remote = await batches.later(await batches.provider.submit(batch))
        await batches.rows(remote)
        for _ in range(2):
            await batches.provider.discard(batch, remote)
        await batches.provider.discard(await batches.upload(self.body("y"), marker="z" * 20), None)

    @pytest.mark.asyncio
    async def test_failed_lines_are_told_from_answers(self, batches: Lab) -> None:
        """A line that failed comes with its status and an error; a 4xx is final, 429 and 5xx may be asked again."""
        wanted = {200: False, 400: False, 429: True, 500: True}
        bodies = [self.body(f"line {status}" + f" [sandbox: status={status}]" * (status > 200)) for status in wanted]
        results = {result.line_id: result for result in await batches.results(await batches.run(*bodies))}

        for n, (status, retriable) in enumerate(wanted.items()):
            result = results.get(line_id(MARKER, n))
            assert result is not None, f"the line that failed with {status} has no row"
            assert (result.body is not None) == (status == 200), f"the line with {status} has the wrong kind of result"
            assert result.retriable is retriable, f"a line with {status} is retriable: {result.retriable}"
            assert status == 200 or result.error is not None, f"the line with {status} says nothing of its error"

    @pytest.mark.parametrize("status", [400, 500])
    @pytest.mark.asyncio
    async def test_a_batch_may_fail_in_every_line(self, batches: Lab, status: int) -> None:
        """A batch without a single answer ENDED, and each of its lines tells its error."""
        batches.simulator.faults.order(Fault(kind=FaultKind.ALL_FAILED, status=status))
        results = await batches.results(await batches.run(self.body("a"), self.body("b")))

        assert {result.line_id for result in results} == {line_id(MARKER, 0), line_id(MARKER, 1)}, (
            "a failed line has no row"
        )
        assert all(result.error is not None and result.body is None for result in results), "a failed line says nothing"
        assert all(result.retriable is (status == 500) for result in results), f"lines with {status}: wrong retriable"

    @pytest.mark.parametrize("damage", _DAMAGE)
    @pytest.mark.asyncio
    async def test_damaged_rows_harm_only_themselves(self, batches: Lab, damage: FaultKind) -> None:
        """A row that is twice there, missing, cut, unreadable or a stranger's comes through, and its neighbours are intact."""
        batches.simulator.faults.order(Fault(kind=damage))
        texts = [f"question {n}" for n in range(6)]
        results = await batches.results(await batches.run(*(self.body(text) for text in texts)))

        answered = _check_own(results, texts)
        least = 1 if damage is FaultKind.FILE_TRUNCATED else 6 if damage is FaultKind.ROW_DUPLICATE else 5
        assert len(answered) >= least, f"{damage} in one row left {len(answered)} of 6 answers"

    @pytest.mark.asyncio
    async def test_rows_end_in_one_newline_each(self, batches: Lab) -> None:
        """The fetched file is rows, each ended by one newline byte, none of them empty; fetching again writes it anew."""
        remote = await batches.run(self.body("a"), self.body("b [sandbox: status=400]"))
        first = await batches.rows(remote)
        again = await batches.rows(remote)

        assert (batches.directory / "fetched").read_bytes().endswith(b"\n"), "the last row has no newline"
        assert all(first), "fetch wrote an empty row"
        assert Counter(first) == Counter(again), "fetching again gave other rows"

    @pytest.mark.asyncio
    async def test_a_download_that_is_cut_is_not_a_whole_one(self, batches: Lab) -> None:
        """A download that breaks off is Retryable, and the next one brings everything."""
        texts = [f"{n} {'long ' * 100}" for n in range(60)]
        remote = await batches.run(*(self.body(text) for text in texts))
        batches.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.FETCH, when="during"))
        raised = await _raised_by(batches.rows(remote))
        if batches.simulator.faults:
            pytest.skip("the simulator cuts no download in the middle")
        said = "nothing" if raised is None else f"{type(raised).__name__}: {raised}"
        assert isinstance(raised, Retryable), f"half a download must raise Retryable; it raised {said}"

        assert len(_check_own(await batches.results(remote), texts)) == 60, "the next download is not whole"

    def _check_partial(self, results: Sequence[Result], texts: Sequence[str], *, done: int) -> None:
        answered = _check_own(results, texts)
        final = [result.line_id for result in results if result.body is None and not result.retriable]
        assert final == [], f"lines that were never run count as failed for good: {final}"
        wanted = done if self.keeps_partial_results else 0
        assert len(answered) == wanted, f"{wanted} lines were done, {len(answered)} answers came"


async def _raised_by(call: Awaitable[object]) -> Exception | None:
    """What `call` raises; None: nothing."""
    try:
        await call
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and the test tells what
        return error
    return None


async def _refusal_of(lab: Lab, body: dict[str, object]) -> object:
    """What a batch is refused with, by its create call or by a poll."""
    try:
        created = await lab.submit(body)
    except (Rejected, TokenLimit, Retryable) as refused:
        return refused
    seen = await lab.later(created)
    assert seen.state is RemoteState.REFUSED, f"a refused batch is {seen.state}"
    return seen.refusal


def _check_answers(results: Sequence[Result], texts: Sequence[str]) -> None:
    """Every line was answered, with its own answer."""
    answered = _check_own(results, texts)
    lost = [n for n in range(len(texts)) if n not in answered]
    assert lost == [], f"lines without an answer: {lost}"


def _check_own(results: Sequence[Result], texts: Sequence[str]) -> set[int]:
    """The places of lines that were answered; every answer there is has to be its own line's."""
    names = {line_id(MARKER, n): n for n in range(len(texts))}
    answered: set[int] = set()
    for result in results:
        check_result(result)
        n = names.get(result.line_id or "")
        if n is not None and result.body is not None:
            mine = texts[n][:100] in text_of(result)
            assert mine, f"line {n} got somebody else's answer: {text_of(result)[:80]!r}"
            answered.add(n)
    return answered
