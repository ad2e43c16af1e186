"""A whole gateway, its callers and its provider on one virtual clock, over crashes and restarts."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sqlite3
from collections import Counter as Tally
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Self

from gateway.records import RequestState
from gateway.store.sqlite import FILE_NAME
from tests.simulation.callers import Caller, Counter
from tests.simulation.checks import Ending, ending_of, everything
from tests.simulation.database import SimulatedDatabase
from tests.simulation.jobs import Job
from tests.simulation.loop import Crashed, SimulatedLoop
from tests.simulation.making import FINE, START, Options, SimulatedClock, SimulatedGateway, configuration, router_of
from tests.simulation.pace import in_seeded_time
from tests.simulation.provider import Link
from tests.simulation.remote import Remote
from tests.simulation.wire import Connection, Reply

#: The fault-free phase may take so long.
LIVELY_SECONDS = 4 * 3600.0
STEP_SECONDS = 60.0


@dataclass(kw_only=True)
class Life:
    """One life of the process."""

    loop: SimulatedLoop
    database: SimulatedDatabase
    gateway: SimulatedGateway
    counter: Counter


@dataclass(kw_only=True)
class Trap:
    """The process dies at the `left`-th moment from now whose name begins with `name`."""

    name: str
    left: int


def _nothing() -> None:
    """A worker that died is in the log."""


def _connected(loop: SimulatedLoop, gateway: SimulatedGateway) -> Connection:
    return Connection(loop, gateway.make())


class World:
    """Made of a seed and options; `advance`, `ask`, `crash` and so on, then `finish`, which checks everything."""

    def __init__(self, seed: int, options: Options, directory: Path) -> None:
        self.seed, self.options = seed, options
        self.directory = directory
        self.random = Random(f"world {seed}")
        self.log: list[tuple[str, dict[str, object]]] = []
        self.violations: list[str] = []
        self.callers: list[Caller] = []
        #: What was last seen of each accepted request.
        self.seen: dict[str, Ending] = {}
        self.cancelled: set[str] = set()
        self.batches_cancelled = False
        self.counts: Tally[str] = Tally()
        self.trap: Trap | None = None
        self.crashes = 0
        #: Creates that repeated what was live, in a documented window.
        self.windows: list[tuple[str, str]] = []
        self._trace = hashlib.sha256()
        self._trail: list[str] = []
        self._elapsed = 0.0
        self._stack = contextlib.ExitStack()
        self._lives: list[Life] = []
        self._life: Life | None = None
        self.remote = Remote(
            random=Random(f"remote {seed}"),
            now=lambda: START + self.time,
            marked=options.kind == "marked",
            weather=options.weather,
            turnaround=options.turnaround,
            most_lines=options.most_lines,
            before_create=self._before_create,
            note=self.note,
        )
        self.link = Link(remote=self.remote, moment=self.moment, members=self.members)

    # Its life

    def __enter__(self) -> Self:
        self._stack.enter_context(in_seeded_time(self.seed, self.log))
        self.home.mkdir(parents=True)
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        for life in self._lives:
            life.loop.bury()
        if self._life is not None:
            self._life.database.drop()
        self._reader_or_none(close=True)
        self._stack.close()

    @property
    def home(self) -> Path:
        """The storage directory."""
        return self.directory / "data"

    @property
    def time(self) -> float:
        """Seconds since the world began."""
        return self._elapsed if self._life is None else self._life.loop.time()

    @property
    def life(self) -> Life:
        """The process that runs now."""
        assert self._life is not None
        return self._life

    def boot(self) -> None:
        """Start the process on what is on disk; callers whose connection was cut come again."""
        while True:
            chance = Random(f"loop {self.seed} {len(self._lives)}")
            loop = SimulatedLoop(chance, self._elapsed, shuffled=self.options.shuffled, moment=self.moment)
            database = SimulatedDatabase.on(loop, self.home)
            settings = configuration(self.options, self.home, self.link)
            router = router_of(self.options, self.home, self.link, loop)
            gateway = SimulatedGateway(settings, router, database, SimulatedClock(loop), fail=_nothing)
            counter = Counter(connect=partial(_connected, loop, gateway), sleep=asyncio.sleep, saw=self.saw)
            self._life = Life(loop=loop, database=database, gateway=gateway, counter=counter)
            self._lives.append(self._life)
            self.note("boot")
            try:
                loop.finish(gateway.start(None), at_most_seconds=600)  # type: ignore[arg-type]
            except Crashed:
                self._after_crash()
                continue
            for caller in self.callers:
                self._serve(caller)
            return

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, over whatever crashes."""
        until = self.time + seconds
        while self.time < until:
            try:
                self.life.loop.advance(until - self.time)
            except Crashed:
                self._after_crash()
                self.boot()

    def crash(self, down_seconds: float = 1.0) -> None:
        """The process dies now."""
        self._after_crash(down_seconds)
        self.boot()

    def crash_at(self, moment: str, count: int = 1) -> None:
        """The process dies at the `count`-th such moment from now on."""
        self.trap = Trap(name=moment, left=count)

    def moment(self, name: str) -> bool:
        """A moment at which the process may die; whether it does."""
        self.note(name)
        trap = self.trap
        if trap is None or not name.startswith(trap.name):
            return False
        trap.left -= 1
        if trap.left > 0:
            return False
        self.trap = None
        self.life.loop.die()
        return True

    def _after_crash(self, down_seconds: float | None = None) -> None:
        life = self.life
        life.loop.die()
        life.database.drop()
        self.crashes += 1
        self._leave(life, self.random.uniform(0.5, 60) if down_seconds is None else down_seconds)
        self.note("crash")

    def stop(self, down_seconds: float = 1.0) -> None:
        """The process ends in order, and starts again."""
        life = self.life
        life.counter.closed = True
        try:
            life.loop.finish(life.gateway.stop(), at_most_seconds=600)
        except Crashed:
            self._after_crash()
        else:
            self._leave(life, down_seconds)
        self.note("stop")
        self.boot()

    def _leave(self, life: Life, down_seconds: float) -> None:
        self._elapsed = life.loop.time() + down_seconds
        self.violations += [f"escaped: {fault}" for fault in life.loop.faults]
        self.counts["steps"] += life.loop.steps
        self._life = None

    # What callers do

    def ask(self, caller: Caller) -> Caller:
        """A caller comes."""
        self.callers.append(caller)
        self._serve(caller)
        return caller

    def _serve(self, caller: Caller) -> None:
        if not caller.over:
            life = self.life
            life.loop.create_task(life.counter.serve(caller), name=f"caller {caller.number}")

    def hang_up(self, caller: Caller) -> None:
        """A caller goes away for good."""
        if not caller.over:
            self.life.counter.hang_up(caller)
            self.note("hang up", caller.number)

    def cancel(self, custom_id: str) -> Reply | None:
        """The caller of a request cancels it."""
        self.cancelled.add(custom_id)
        reply = self._once("DELETE", f"/v1/results/{custom_id}")
        self.note("cancel", custom_id, 0 if reply is None else reply.status)
        return reply

    def cancel_batch(self, batch: int) -> Reply | None:
        """An operator cancels a batch."""
        self.batches_cancelled = True
        token = (self.home / "operator.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        reply = self._once("POST", "/ops/cancel", headers, {"batch_id": batch})
        self.note("cancel batch", batch, 0 if reply is None else reply.status)
        return reply

    def read(self, custom_id: str) -> Reply | None:
        """Somebody looks a result up."""
        reply = self._once("GET", f"/v1/results/{custom_id}")
        if reply is not None and reply.final and reply.status != 404:
            self.saw(custom_id, reply)
        return reply

    def _once(self, method: str, path: str, headers: dict[str, str] | None = None, body: object = None) -> Reply | None:
        """One request; None: the process died over it."""
        life = self.life
        try:
            return life.loop.finish(life.counter.once(method, path, headers, body), at_most_seconds=600)
        except Crashed:
            self._after_crash()
            self.boot()
            return None

    def saw(self, custom_id: str, reply: Reply) -> None:
        """An ending was shown: it must be the one that was shown before."""
        ending = ending_of(reply)
        known = self.seen.get(custom_id)
        self.note("saw", custom_id, ending.status)
        ours = custom_id.startswith("bw_")
        # A name whose call has failed may be used for another attempt; an answer stays for ever.
        if known is not None and not known.agrees(ending) and (ours or known.status == 200):
            self.violations.append(f"P4: {custom_id} ended as {known}, and later as {ending}")
        self.seen[custom_id] = ending

    # What is asked of the ledger

    def sql(self, query: str, *params: object) -> list[tuple]:  # type: ignore[type-arg]
        """Rows of what is committed."""
        reader = self._reader_or_none()
        return reader.execute(query, params).fetchall() if reader is not None else []

    _reading: sqlite3.Connection | None = None

    def _reader_or_none(self, *, close: bool = False) -> sqlite3.Connection | None:
        if close:
            if self._reading is not None:
                self._reading.close()
                self._reading = None
        elif self._reading is None:
            self._reading = sqlite3.connect(
                f"{(self.home / FILE_NAME).as_uri()}?mode=ro", uri=True, isolation_level=None
            )
        return self._reading

    def members(self, marker: str) -> tuple[int, ...]:
        """The requests in a batch, by line."""
        query = (
            "SELECT r.seq FROM requests r JOIN batches b ON b.id = r.batch "
            "WHERE b.marker = ? AND r.state = 'batched' ORDER BY r.n"
        )
        return tuple(seq for (seq,) in self.sql(query, marker))

    def _before_create(self, marker: str, seqs: tuple[int, ...]) -> None:
        """P3: none of these requests may be in a batch that is alive, but in a documented window."""
        now, wanted = START + self.time, set(seqs)
        for pending in self.remote.pending:
            if wanted & set(pending.seqs):
                self._repeated(marker, f"one on its way since {pending.sent_at - START:.1f}", now - pending.sent_at)
        for job in self.remote.jobs.values():
            if wanted & set(job.seqs) and self._alive(job, wanted) and not self._known_copy(job):
                # For what was dissolved after its quarantine nobody looks before its requests are sent again (but later, and then
                # it is counted); and without a marker nobody looks once more between the second empty list and the next create.
                unmarked = self.options.kind == "unmarked"
                late = job.visible_from > now or unmarked or self._dissolved(job.marker)
                hidden = min(now, job.visible_from) - job.sent_at if late else 0.0
                self._repeated(marker, f"{job.remote_id} of {job.marker}", hidden)

    def _dissolved(self, marker: str) -> bool:
        return bool(self.sql("SELECT 1 FROM batches WHERE marker = ? AND state = 'dissolved'", marker))

    def _repeated(self, marker: str, what: str, hidden_seconds: float) -> None:
        if self.options.ambiguous == "resubmit" or hidden_seconds >= self.options.quarantine_seconds:
            self.windows.append((marker, what))
            return
        self.violations.append(f"P3: at {self.time:.1f} {marker} is created although its lines are in {what}")

    def _alive(self, job: Job, wanted: set[int]) -> bool:
        if self.remote.running(job):
            return True
        if job.refusal is not None:
            return False
        state = self.sql("SELECT state FROM batches WHERE marker = ?", job.marker)
        if state and state[0][0] == "collected":
            return False
        billed = {line.line_id for line in job.billed(START + self.time)}
        return any(line.line_id in billed for line, seq in zip(job.lines, job.seqs, strict=True) if seq in wanted)

    def _known_copy(self, job: Job) -> bool:
        """Whether it was counted as a copy, or could not be seen when copies were looked for."""
        if job.remote_id in self.copies():
            return True
        rows = self.sql("SELECT remote_id, collected_at, ambiguous FROM batches WHERE marker = ?", job.marker)
        if not rows or rows[0][0] == job.remote_id or rows[0][1] is None:
            return False
        looked_at = rows[0][1]
        unproven = self.options.kind == "unmarked" and looked_at < job.ends_at
        return not rows[0][2] or job.visible_from > looked_at - 300 or unproven

    def copies(self) -> set[str]:
        """Remote batches that the gateway has counted as copies."""
        return {str(facts["remote_id"]) for event, facts in self.log if event == "duplicate_batch"}

    # The end

    def finish(self) -> None:
        """No more faults: everything must end. Raises AssertionError with all that is wrong."""
        self.trap = None
        remote = self.remote
        remote.weather = FINE
        remote.orders.clear()
        remote.down.clear()
        remote.locked.clear()
        until = self.time + LIVELY_SECONDS
        while self.time < until and not self.quiet():
            self.advance(STEP_SECONDS)
        self.advance(STEP_SECONDS)
        self.violations += everything(self)
        self.violations += [f"escaped: {fault}" for fault in self.life.loop.faults]
        self.counts["steps"] += self.life.loop.steps
        if self.violations:
            raise AssertionError(self.report())

    def quiet(self) -> bool:
        """Whether nothing is left to be done."""
        if any(not caller.over for caller in self.callers):
            return False
        ended = ",".join(f"'{state.value}'" for state in RequestState if state.ended)
        busy = self.sql(
            f"SELECT 1 FROM requests WHERE state NOT IN ({ended}) UNION ALL SELECT 1 FROM batches WHERE discarded = 0 "
            "UNION ALL SELECT 1 FROM completions LIMIT 1"
        )
        return not busy

    def report(self) -> str:
        """What is wrong, and where to look."""
        lines = [f"seed {self.seed}: {self.options}", *dict.fromkeys(self.violations)]
        return "\n".join([*lines, "the last events:", *self._trail[-40:]])

    def note(self, *words: object) -> None:
        """Something happened."""
        event = f"{self.time:.4f} {' '.join(map(str, words))}"
        self._trace.update(event.encode())
        self._trail.append(event)
        self.counts[str(words[0])] += 1

    @property
    def trace(self) -> str:
        """A hash of all that happened, and when."""
        return self._trace.hexdigest()
