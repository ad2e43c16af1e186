"""How requests end, within a transaction: the state on the row, the outcome in `results`, the lane's totals."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from gateway.records import RequestState
from gateway.store.database import Session, json_array
from gateway.store.rows import Ending
from gateway.store.totals import LaneTotals

#: `requests.due` of what counts in its lane's window.
DUE = 1


def read_ending(session: Session, seq: int) -> Ending | None:
    """The outcome of a request that has ended."""
    row = session.row("ending", {"seq": seq})
    if row is None:
        return None
    return Ending(
        state=RequestState(row[0]),
        status=row[1],
        code=row[2],
        body=row[3],
        permanent=bool(row[4]),
        provider=row[5],
        batch=row[6],
        cost_usd=row[7],
        saved_usd=row[8],
    )


def put_results(session: Session, endings: Iterable[Ending]) -> range:
    """Store outcomes; their numbers, in the same order. Whether they count is decided by the state of their requests."""
    row = session.row("next_result", {})
    first = int(row[0]) if row else 1
    numbered = list(enumerate(endings, start=first))
    session.run_many(
        "insert_result",
        (
            {
                "result": number,
                "status": ending.status,
                "code": ending.code,
                "cost_usd": ending.cost_usd,
                "saved_usd": ending.saved_usd,
                "body": ending.body,
            }
            for number, ending in numbered
        ),
    )
    return range(first, first + len(numbered))


def keep(session: Session, answers: Sequence[tuple[int, Ending]]) -> None:
    """Keep answers of requests that go back for a better one, each in the place of what was kept before.

    They were paid, and `at_last` serves them; a wish to cancel drops them.
    """
    session.run_many("forget_result", ({"seq": seq} for seq, _ in answers))
    results = put_results(session, (answer for _, answer in answers))
    numbered = zip(answers, results, strict=True)
    session.run_many("keep_answer", ({"seq": seq, "result": result} for (seq, _), result in numbered))


def kept(session: Session, seqs: Collection[int]) -> Mapping[int, Ending]:
    """What is kept for these requests, by their numbers."""
    return {
        row[0]: Ending(
            state=RequestState.SUCCEEDED, status=row[1], code=row[2], body=row[3], provider=row[4], batch=row[5],
            cost_usd=row[6], saved_usd=row[7],
        )
        for row in session.rows("kept_answers", {"seqs": json_array(seqs)})
    }  # fmt: skip


def at_last(ending: Ending, answer: Ending | None) -> Ending:
    """How a request ends for which `answer` is kept: with it, rather than with none. A cancel is as it was wished."""
    if answer is None or ending.state in (RequestState.SUCCEEDED, RequestState.CANCELLED):
        return ending
    return answer


def wish_cancel(session: Session, seqs: Sequence[int], ending: Ending, now: float) -> int:
    """Note for lines of batches that nobody wants them, and how they will end unless they are answered; how many."""
    batched = [seq for seq in seqs if session.row("cancellable", {"seq": seq})]
    session.run_many("forget_result", ({"seq": seq} for seq in batched))
    results = put_results(session, [ending] * len(batched))
    wishes = ({"seq": seq, "result": result, "now": now} for seq, result in zip(batched, results, strict=True))
    return session.run_many("wish_cancel", wishes)


def stop(session: Session, seqs: Sequence[int], ending: Ending, now: float) -> int:
    """Requests that are queued end; those in batches are not wanted any more; how many that were."""
    ended = end_queued(session, [(seq, ending) for seq in seqs], now)
    stopped = set(ended)
    return len(ended) + wish_cancel(session, [seq for seq in seqs if seq not in stopped], ending, now)


def end_queued(session: Session, outcomes: Sequence[tuple[int, Ending]], now: float) -> list[int]:
    """End those of these requests that are still queued; their seqs."""
    totals = LaneTotals()
    found = []
    for seq, ending in outcomes:
        row = session.row("queued_request", {"seq": seq})
        if row is None:
            continue
        lane, due, size, tokens, fresh = row
        if due == DUE:
            totals.add(lane, count=-1, size=-size, tokens=-tokens, fresh=-fresh)
        found.append((seq, ending))
    answers = kept(session, [seq for seq, _ in found])
    found = [(seq, at_last(ending, answers.get(seq))) for seq, ending in found]
    # An outcome that was stored with a wish to cancel, before a crash, has not come true.
    session.run_many("forget_result", ({"seq": seq} for seq, _ in found))
    results = put_results(session, (ending for _, ending in found))
    session.run_many(
        "end_queued",
        (
            {"seq": seq, "state": ending.state.value, "now": now, "permanent": int(ending.permanent), "result": result}
            for (seq, ending), result in zip(found, results, strict=True)
        ),
    )
    totals.apply(session)
    return [seq for seq, _ in found]
