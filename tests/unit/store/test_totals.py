"""A lane's running totals equal a recount, and no request is ever lost or in two places, whatever happens in which order."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.records import REQUEST_MOVES, BatchState, RequestState
from gateway.store.ledger import Ledger
from gateway.store.rows import Ask, LaneKey
from gateway.store.shipping import BatchRow, Claimed, Cut, Settlement
from gateway.store.sqlite import FILE_NAME, SqliteDatabase
from gateway.testing import FakeClock
from tests.unit.store.scenery import (
    CANCELLED,
    EXPIRED,
    LANE,
    REFUSED,
    Desk,
    arrival,
    failure,
    left,
    remote,
    returned,
    settled,
)

T = TypeVar("T")
LANES = [LANE, LaneKey(provider="sim", endpoint=LANE.endpoint, model="m-2")]
UNFINISHED = [BatchState.SEALED, BatchState.SUBMITTING, BatchState.SUBMITTED, BatchState.RECONCILING]


class LedgerLife(RuleBasedStateMachine):
    """Random lives of a ledger; the model is the set of requests, their last known states."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._directory = tempfile.TemporaryDirectory()
        self._clock = FakeClock()
        database = SqliteDatabase.open(Path(self._directory.name), durability="relaxed")
        self._ledger = self._run(Ledger.open(database, self._clock))
        self._desk = Desk(self._ledger, self._clock)
        self._states: dict[int, RequestState] = {}
        self._claims: list[Claimed] = []
        #: The claims before this place are of processes that are not there any more.
        self._living_from = 0

    def _run(self, work: Coroutine[object, object, T]) -> T:
        return self._loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        """The process starts."""
        self._run(self._ledger.begin(exclusive=True))

    @rule()
    def restart(self) -> None:
        """A new process takes over: claims and holds of the old one end."""
        self._run(self._ledger.begin(exclusive=True))
        self._living_from = len(self._claims)

    @rule(
        questions=st.lists(st.sampled_from("abc"), min_size=1, max_size=4),
        lane=st.sampled_from(LANES),
        ask=st.builds(Ask, retry=st.booleans(), detached=st.booleans(), run=st.sampled_from([None, "one"])),
        name=st.sampled_from([None, None, "n"]),
        size=st.integers(1, 50),
    )
    def admit(self, questions: list[str], lane: LaneKey, ask: Ask, name: str | None, size: int) -> None:
        """Calls come in."""
        arrivals = [
            arrival(question, custom_id=name, lane=lane, ask=ask, size=size, tokens=size) for question in questions
        ]
        for admission in self._run(self._desk.admit(*arrivals)):
            assert admission.fresh == (admission.seq not in self._states and not admission.conflict)
            if admission.fresh:
                self._states[admission.seq] = RequestState.QUEUED

    @precondition(lambda self: self._states)
    @rule(pick=st.randoms(use_true_random=False), delivered=st.booleans(), run=st.sampled_from([None, "one"]))
    def leave(self, pick: object, delivered: bool, run: str | None) -> None:
        """A caller goes."""
        seq = pick.choice(sorted(self._states))  # type: ignore[attr-defined]
        done = delivered and self._states[seq].ended
        self._run(self._ledger.requests.depart([left(seq, self._clock.now(), delivered=done, run=run)]))

    @rule(most=st.integers(1, 5), lane_id=st.integers(1, 2))
    def seal(self, most: int, lane_id: int) -> None:
        """A window seals, if there is one."""
        cut = Cut(max_requests=most, max_bytes=100)
        self._run(self._ledger.batches.seal(lane_id, cut, self._desk.marker(), "", "", self._clock.now()))

    @rule(lane_id=st.integers(1, 2))
    def ask(self, lane_id: int) -> None:
        """A request is about to be asked by itself."""
        claim = self._run(self._ledger.completions.claim(lane_id, self._clock.now()))
        if claim is not None:
            assert claim.member.seq not in {other.member.seq for other in self._claims[self._living_from :]}
            self._claims.append(claim)

    @precondition(lambda self: self._claims)
    @rule(outcome=st.sampled_from(["answer", "fail", "return", "release"]))
    def answer(self, outcome: str) -> None:
        """A call is over, perhaps one of a process that is not there any more."""
        claim, completions = self._claims.pop(), self._ledger.completions
        self._living_from = min(self._living_from, len(self._claims))
        if outcome == "release":
            self._run(completions.release(claim, self._clock.now()))
        else:
            self._run(completions.settle(claim, self._line(0, outcome), self._clock.now()))

    def _claimed(self, states: list[BatchState]) -> BatchRow | None:
        claimed = self._run(self._ledger.batches.claim(states, self._clock.now() + 1e6, 1))
        return claimed[0] if claimed else None

    @rule(steps=st.integers(1, 4), doubt=st.booleans())
    def move_on(self, steps: int, doubt: bool) -> None:
        """A batch goes some steps further, or into doubt."""
        batches, now = self._ledger.batches, self._clock.now()
        for _ in range(steps):
            batch = self._claimed(UNFINISHED)
            if batch is None:
                return
            if batch.state is BatchState.SEALED:
                batch = self._run(batches.intend(batch, now))
            if batch.state is BatchState.SUBMITTED:
                self._run(batches.ended(batch, remote(), now))
            elif doubt and batch.state is BatchState.SUBMITTING:
                self._run(batches.doubt(batch, "lost", now))
            else:
                self._run(batches.submitted(batch, remote(), now, now))

    @rule(outcomes=st.lists(st.sampled_from(["answer", "fail", "return"]), min_size=6, max_size=6), whole=st.booleans())
    def settle(self, outcomes: list[str], whole: bool) -> None:
        """Results of a batch come in, all or some, once or again."""
        batch = self._claimed([BatchState.ENDED])
        if batch is None:
            return
        now, batches = self._clock.now(), self._ledger.batches
        lines = [self._line(n, outcomes[n % 6]) for n in range(batch.count if whole else batch.count // 2)]
        before = sum(bill.lines for bill in self._run(self._ledger.bills.totals()))
        self._run(batches.settle(batch, lines, now))
        self._run(batches.settle(batch, lines[::-1], now))
        booked = sum(bill.lines for bill in self._run(self._ledger.bills.totals())) - before
        assert booked <= len(lines)
        if whole:
            self._run(batches.collected(batch, now))
        else:
            self._run(batches.release(batch, retry_at=now))

    def _line(self, n: int, outcome: str) -> Settlement:
        if outcome == "return":
            return returned(n, self._clock.now() + 30)
        return settled(n, failure() if outcome == "fail" else None)

    @rule(parts=st.integers(0, 2), refuse=st.booleans(), later=st.booleans())
    def dissolve(self, parts: int, refuse: bool, later: bool) -> None:
        """A batch is taken apart."""
        batch = self._claimed(UNFINISHED)
        if batch is not None:
            markers = [self._desk.marker() for _ in range(parts)]
            not_before = self._clock.now() + 30 if later else None
            refused = {0: REFUSED} if refuse else {}
            self._run(self._ledger.batches.dissolve(batch, self._clock.now(), refused, markers, not_before))

    @precondition(lambda self: self._states)
    @rule(pick=st.randoms(use_true_random=False))
    def cancel(self, pick: object) -> None:
        """Somebody does not want an answer any more."""
        seq = pick.choice(sorted(self._states))  # type: ignore[attr-defined]
        self._run(self._ledger.requests.cancel(seq, self._clock.now(), CANCELLED))

    @rule(seconds=st.sampled_from([10, 100, 1000]))
    def let_time_pass(self, seconds: int) -> None:
        """Time passes, and what is due becomes due."""
        self._clock.jump(seconds)
        self._run(self._ledger.renew())
        self._run(self._ledger.requests.ripen(self._clock.now(), 100))
        self._run(self._ledger.boots.bury())

    @rule()
    def give_up(self) -> None:
        """The oldest and the abandoned end."""
        now = self._clock.now()
        self._run(self._ledger.requests.give_up(now - 900, EXPIRED, now, 3))
        self._run(self._ledger.requests.cancel_abandoned(now - 120, CANCELLED, 3))

    @invariant()
    def totals_equal_a_recount(self) -> None:
        """What lanes say is what is there."""
        for totals, recount in self._run(self._desk.totals_and_recount()):
            assert totals == recount

    @invariant()
    def nothing_is_lost_or_in_two_places(self) -> None:
        """Every request that was accepted is there, moves as the table says, and has an ending exactly when it ended."""
        rows = self._run(self._ledger.requests.listed(None, limit=100_000))
        places = [(row.batch, row.n) for row in rows if row.state is RequestState.BATCHED]
        assert [row.seq for row in rows] == sorted(self._states)
        assert len(places) == len(set(places))
        for row in rows:
            before = self._states[row.seq]
            assert row.state is before or _reachable(before, row.state)
            self._states[row.seq] = row.state
        with sqlite3.connect(Path(self._directory.name) / FILE_NAME) as connection:
            [[results, named]] = connection.execute(
                "SELECT (SELECT count(*) FROM results), (SELECT count(result) FROM requests)"
            )
        connection.close()
        assert results == named
        endings = self._run(self._ledger.requests.endings(sorted(self._states)))
        assert sorted(endings) == [row.seq for row in rows if row.state.ended]

    def teardown(self) -> None:
        """The process ends."""
        self._run(self._ledger.close())
        self._loop.close()
        self._directory.cleanup()


def _reachable(before: RequestState, after: RequestState) -> bool:
    # One rule may move a request twice: back to its lane and into another part.
    steps = REQUEST_MOVES[before]
    return after in steps or any(after in REQUEST_MOVES[step] for step in steps)


LedgerLife.TestCase.settings = settings(max_examples=30, stateful_step_count=40)
TestLedgerLife = LedgerLife.TestCase
