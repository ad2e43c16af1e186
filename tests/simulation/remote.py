"""The provider's side of the simulation: batches, what it bills, and everything that can go wrong on the way there and back.

It outlives every crash of the gateway. It knows which of the gateway's requests each line is, and so sees at once when one
is in two live batches.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import orjson

from gateway.errors import Missing, ProviderError, Rejected, TokenLimit
from tests.simulation.answers import completion, prompt_in, row_of, unfinished
from tests.simulation.jobs import Job, Line, Pending
from tests.simulation.weather import BAD, FAULTS, FLAKY, HOPELESS, POISON, POISON_LATE, POISON_NAMED, Fault, Weather


@dataclass(kw_only=True)
class Remote:
    """Everything the provider remembers."""

    random: Random
    now: Callable[[], float]
    marked: bool
    weather: Weather
    turnaround: tuple[float, float] = (20.0, 200.0)
    window_seconds: float = 900.0
    #: Lines that may be under way at once.
    most_lines: int | None = None
    jobs: dict[str, Job] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    uploads: int = 0
    pending: list[Pending] = field(default_factory=list)
    orders: defaultdict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    #: Times at which nothing answers, and at which the key is refused.
    down: list[tuple[float, float]] = field(default_factory=list)
    locked: list[tuple[float, float]] = field(default_factory=list)
    #: One by one: every call that was answered with 200, and its prompt.
    singles: dict[str, str] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    #: Told of each create before it takes effect: marker, requests, time.
    before_create: Callable[[str, tuple[int, ...]], None] = lambda _marker, _seqs: None
    note: Callable[..., None] = lambda *_words: None

    # What happens to a call

    def fate(self, verb: str) -> Fault | None:
        """What goes wrong with this call; None: nothing."""
        self.calls[verb] += 1
        fault = self._fate(verb)
        if fault is not None:
            self.met[f"{verb}: {fault}"] += 1
        return fault

    def _fate(self, verb: str) -> Fault | None:
        now = self.now()
        self.settle()
        if any(begin <= now < end for begin, end in self.down):
            return Fault.DOWN if self.random.random() < 0.8 else Fault.HANG
        if any(begin <= now < end for begin, end in self.locked):
            return Fault.KEY
        if self.orders[verb]:
            return self.orders[verb].popleft()
        likely = max(self.weather.faults, self.weather.create_faults if verb == "submit" else 0.0)
        if likely and self.random.random() < likely:
            return self.random.choice(FAULTS[verb])
        return None

    # Creation

    def settle(self) -> None:
        """Let creates that were under way arrive, if it is their time."""
        now = self.now()
        due = [pending for pending in self.pending if pending.arrives <= now]
        self.pending = [pending for pending in self.pending if pending.arrives > now]
        for pending in due:
            pending.make()

    def refuse(self, file: bytes) -> ProviderError | None:
        """Why this input cannot be taken at all; None: it can."""
        rows = [orjson.loads(row) for row in file.splitlines()]
        named = {n: "poison" for n, row in enumerate(rows) if prompt_in(row).startswith(POISON_NAMED)}
        if named:
            return Rejected("some lines are poisonous", lines=named)
        if any(prompt_in(row).startswith(POISON) for row in rows):
            return Rejected("one of the lines is poisonous")
        if self.most_lines is not None:
            under_way = sum(len(job.lines) for job in self.jobs.values() if self.running(job) and not job.foreign)
            if under_way and under_way + len(rows) > self.most_lines:
                return TokenLimit("too many lines under way")
        return None

    def create(self, marker: str, file: bytes, seqs: tuple[int, ...], *, sent_at: float, twin: bool = False) -> Job:
        """Make a batch of these lines."""
        chance, weather, now = self.random, self.weather, self.now()
        lag, hidden = chance.uniform(0, weather.lag), chance.uniform(0, weather.lag)
        takes = chance.uniform(*self.turnaround)
        endless = chance.random() < weather.endless
        rows = [orjson.loads(row) for row in file.splitlines()]
        job = Job(
            remote_id=f"job-{len(self.jobs) + 1}",
            marker=marker,
            seqs=seqs,
            lines=[self._line(row, now, takes) for row in rows],
            sent_at=sent_at,
            created=now,
            due=math.inf if endless else now + takes,
            expires=now + (takes * chance.random() if chance.random() < weather.expired else self.window_seconds),
            visible_from=now + lag,
            pollable_from=now + hidden,
            twin=twin,
            strangers_rows=int(chance.random() < weather.odd_rows),
            silent=chance.random() < 0.3,
        )
        if endless:
            # Some provider never ends what it has not finished: neither done, nor expired.
            job.expires = math.inf
            for line in job.lines:
                line.finished_at = math.inf if chance.random() < 0.5 else line.finished_at
        if any(line.prompt.startswith(POISON_LATE) for line in job.lines):
            job.refusal = Rejected("one of the lines is poisonous, as was found out")
        elif not twin and chance.random() < weather.refused:
            job.refusal = TokenLimit("there is no room after all")
        self.jobs[job.remote_id] = job
        self.note("created", job.remote_id, len(rows), round(job.due, 3), str(job.refusal))
        if weather.strangers and chance.random() < weather.strangers:
            self._stranger(job)
        return job

    def _line(self, row: dict[str, object], now: float, takes: float) -> Line:
        prompt, chance = prompt_in(row), self.random
        status, garbled = 200, False
        if prompt.startswith(BAD):
            status = 400
        elif prompt.startswith(HOPELESS) or (prompt.startswith(FLAKY) and chance.random() < 0.5):
            status = chance.choice((429, 500))
        elif chance.random() < self.weather.bad_lines:
            status = chance.choice((429, 500, 0, 200))
            garbled = status == 200
        body = row["body"]
        return Line(
            line_id=str(row["custom_id"]),
            model=str(body["model"]) if isinstance(body, dict) else "",
            prompt=prompt,
            finished_at=now + takes * chance.random(),
            status=status,
            garbled=garbled,
            rows=2 if chance.random() < self.weather.odd_rows else 1,
        )

    def _stranger(self, like: Job) -> None:
        """A batch of somebody else on the same account, of the same size and time."""
        now = self.now()
        takes = self.random.uniform(*self.turnaround)
        lines = [
            Line(line_id=f"theirs-{n}", model="m", prompt="theirs", finished_at=now + takes / 2, status=200)
            for n in range(len(like.lines))
        ]
        job = Job(
            remote_id=f"job-{len(self.jobs) + 1}",
            marker="theirs",
            seqs=(),
            lines=lines,
            sent_at=now,
            created=now,
            due=now + takes,
            expires=now + self.window_seconds,
            visible_from=now,
            pollable_from=now,
            foreign=True,
        )
        self.jobs[job.remote_id] = job

    # What can be seen

    def running(self, job: Job) -> bool:
        """Whether work on it goes on."""
        return job.refusal is None and self.now() < job.ends_at

    def job(self, remote_id: str) -> Job:
        """The batch of that id. Raises `Missing`, also for one that is not shown yet."""
        self.settle()
        job = self.jobs.get(remote_id)
        if job is None or job.pollable_from > self.now():
            raise Missing(f"no batch {remote_id}")
        return job

    def listed(self) -> list[Job]:
        """All batches the list shows, oldest first."""
        self.settle()
        return sorted(
            (job for job in self.jobs.values() if job.visible_from <= self.now()), key=lambda job: job.created
        )

    def rows(self, job: Job) -> list[bytes]:
        """What a download of its results has, in another order each time."""
        until = job.ends_at
        rows: list[bytes] = []
        for line in job.lines:
            if line.finished_at <= until:
                rows += [row_of(job, line, take) for take in range(line.rows) if line.status]
            elif not job.silent:
                rows.append(unfinished(line, cancelled=job.cancelled_at <= until))
        rows += [
            row_of(job, Line(line_id="nobody-0", model="m", prompt="nobody", finished_at=0, status=200), 0)
        ] * job.strangers_rows
        self.random.shuffle(rows)
        return rows

    def answer(self, prompt: str, key: str) -> bytes | int:
        """One by one: the completion's bytes, or the status of a failure."""
        self.asked[prompt] += 1
        if prompt.startswith(BAD):
            return 400
        if prompt.startswith(HOPELESS) or (prompt.startswith(FLAKY) and self.random.random() < 0.5):
            return self.random.choice((429, 500))
        if self.random.random() < self.weather.bad_lines:
            return 500
        self.singles[key] = prompt
        return orjson.dumps(completion("m", prompt, key))
