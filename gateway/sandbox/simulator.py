"""The base of a simulated provider: a subclass knows its wire format, everything else is here.

A subclass gives `routes` (each with the operation it stands for), reads lines and writes rows. What it gets: a store of
files and batches, a life of batches in time, faults to order, limits, and the ledger of what was submitted.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from aiohttp import web

from gateway.clock import Clock
from gateway.sandbox import work
from gateway.sandbox.answers import body_hash
from gateway.sandbox.creation import NewBatch, Quota, make_plan, ordered, token_limit
from gateway.sandbox.directives import Directive, Tries
from gateway.sandbox.faults import FaultBook, FaultKind
from gateway.sandbox.ledger import SubmissionLedger, Submissions
from gateway.sandbox.lifecycle import Life, Stage, life, validated_at
from gateway.sandbox.records import Line, Outcome, Plan, StoredBatch
from gateway.sandbox.routes import Route, bearer_key
from gateway.sandbox.settings import SandboxSettings
from gateway.sandbox.store import Store, new_id


class Simulator(ABC):
    """One simulated account at one provider; state, faults and ledger are its own."""

    #: The kind of provider it stands for.
    kind: ClassVar[str]
    #: What follows the prefix in the base URL that the kind's SDK takes.
    base_path: ClassVar[str] = ""
    #: A model of the real provider whose prices are known, if there is one: for demonstrations and their bill.
    priced_model: ClassVar[str] = "sim-small"

    def __init__(
        self, *, clock: Clock, name: str = "", settings: SandboxSettings | None = None, directory: Path | None = None
    ) -> None:
        """`name` is its prefix on the server (the kind, if empty). With a `directory`, state survives a restart."""
        self.name = name or self.kind
        self.settings = settings or SandboxSettings()
        self.clock = clock
        self.faults = FaultBook()
        self.store = Store(directory)
        self.ledger = SubmissionLedger(self.store.directory)
        self._tries = Tries()
        #: One pass at a time over a batch's lines.
        self._locks: dict[str, asyncio.Lock] = {}
        self._quota = Quota()
        #: Of synchronous calls.
        self._calls = itertools.count(1)

    @abstractmethod
    def routes(self) -> Iterable[Route]:
        """Every path of the API."""

    @abstractmethod
    def refuse(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> web.Response:
        """An error as this provider writes it."""

    @abstractmethod
    def read_line(self, line: bytes, batch: StoredBatch) -> Line:
        """Parse one input line as strictly as the provider does; called for each line twice."""

    @abstractmethod
    def answer(self, line: Line, told: Directive | None) -> Outcome:
        """Answer one line that is neither refused nor faulty."""

    @abstractmethod
    def failure(self, status: int) -> Outcome:
        """A line that fails with `status`, with this provider's error object."""

    @abstractmethod
    def row(self, line: Line, outcome: Outcome, batch: StoredBatch) -> bytes:
        """One row of a result file, without its newline; empty where this provider writes none."""

    def authorised(self, request: web.Request) -> bool:
        """Whether the request carries a key that is accepted: a bearer's, unless a subclass looks elsewhere."""
        return self.accepts(bearer_key(request))

    def accepts(self, key: str) -> bool:
        """Whether `key` is the configured one; where none is configured, whether it is any."""
        wanted = self.settings.api_key
        return bool(key) if not wanted else hmac.compare_digest(key.encode(), wanted.encode())

    def new_batch_id(self) -> str:
        """The id of the next batch, in this provider's form; no file has it."""
        return new_id("batch_")

    def new_file_id(self) -> str:
        """The id of the next result file, in this provider's form."""
        return new_id("file-")

    def distort(self, row: bytes, fault: FaultKind) -> bytes:
        """The row under `ROW_UNKNOWN_ID`, `ROW_STATUS_0` or `ROW_NO_CHOICES`; as it is where there is no such thing."""
        return row

    async def create(self, asked: NewBatch) -> StoredBatch | web.Response:
        """Make a batch, or say why not: too many, or no room for its tokens. Ordered faults of its life are used up."""
        now = self.clock.now()
        refusal = self._refusal(asked, now)
        if refusal is not None:
            return refusal
        self._quota.spend(now)
        twice = ordered(self.faults, FaultKind.TWICE, asked) is not None
        crowded = not self.settings.token_limit_at_create and self._crowded(asked)
        number = self.store.next_number()
        plan = make_plan(self.settings, self.faults, asked, number=number, now=now, crowded=crowded)
        if twice:
            self._make(asked, plan, number, now)
        return self._make(asked, plan, self.store.next_number(), now)

    async def current(self, batch_id: str) -> tuple[StoredBatch, Life]:
        """The batch as it is now, with its lines checked and its results written if it is time. KeyError if unknown."""
        async with self._locks.setdefault(batch_id, asyncio.Lock()):
            batch = self.store.batches[batch_id]
            now = self.clock.now()
            if not batch.checked and now >= validated_at(batch):
                batch = await work.check(self, self.store, self.ledger, self._tries, batch)
                self.store.put_batch(batch)
            where = life(batch, now)
            if where.stage.yields and batch.results is None:
                results = await work.run(self, self.store, self._tries, batch, where)
                batch = self.store.put_batch(replace(batch, results=results))
        if where.stage.ended:
            self._locks.pop(batch_id, None)
        return batch, where

    def glance(self, batch: StoredBatch) -> Life:
        """Where a batch stands as far as its lines have been read and answered; makes nothing, so it is always quick."""
        now = self.clock.now()
        if not batch.checked and now >= validated_at(batch):
            return Life(stage=Stage.VALIDATING)
        where = life(batch, now)
        if where.stage.yields and batch.results is None:
            return replace(where, stage=Stage.FINALIZING, finalizing_at=where.ended_at, ended_at=None)
        return where

    def listed(self) -> list[StoredBatch]:
        """Batches that lists show now, newest first."""
        now = self.clock.now()
        return [batch for batch in reversed(self.store.batches.values()) if batch.plan.listed_from <= now]

    def known(self, batch_id: str) -> bool:
        """Whether polls find this batch now."""
        batch = self.store.batches.get(batch_id)
        return batch is not None and batch.plan.polled_from <= self.clock.now()

    async def cancel(self, batch_id: str) -> None:
        """Ask for the end of a batch that has not ended. KeyError if unknown."""
        batch, where = await self.current(batch_id)
        if not where.stage.ended and batch.cancelled is None:
            self.store.put_batch(replace(batch, cancelled=self.clock.now()))

    async def finish(self, batch_id: str) -> None:
        """Let a batch, also an endless one, end now as it would have ended later. KeyError if unknown."""
        # A pass over its lines that is under way would put back the record it began with.
        async with self._locks.setdefault(batch_id, asyncio.Lock()):
            batch = self.store.batches[batch_id]
            plan = replace(batch.plan, endless=False)
            self.store.put_batch(replace(batch, plan=plan, hurried=self.clock.now()))

    async def submissions(self) -> Submissions:
        """The ledger added up, after every batch whose lines had not been read yet has been."""
        for batch in list(self.store.batches.values()):
            if not batch.checked:
                await self._enter(batch)
        refused = {batch.id for batch in self.store.batches.values() if batch.problems}
        answered = sum(batch.results.succeeded for batch in self.store.batches.values() if batch.results)
        return self.ledger.summary(refused, len(self.store.batches), answered)

    def delete_file(self, file_id: str) -> None:
        """Forget a file; a batch that still needs its lines keeps them. KeyError if unknown."""
        needed = any(
            batch.file_id == file_id and batch.results is None and not batch.problems
            for batch in self.store.batches.values()
        )
        self.store.delete_file(file_id, keep_bytes=needed)

    def reset(self) -> None:
        """Forget files, batches, faults and ledger."""
        self.store.clear()
        self.ledger.clear()
        self.faults.clear()
        self._tries = Tries()
        self._quota = Quota()

    async def take_call(self, body: Mapping[str, object], *, model: str = "") -> Line:
        """A synchronous call: on record in the ledger, and as slow as the settings want it."""
        line = Line(custom_id=f"sync-{next(self._calls)}", model=model, body=body)
        self.ledger.completed(line.custom_id, body_hash(body))
        if self.settings.completion_seconds > 0:
            await self.clock.sleep(self.settings.completion_seconds)
        return line

    def told(self, raw: bytes, line: Line) -> Directive | None:
        """What a synchronous call with the body `raw` has been told to do; used up."""
        return work.struck(self.faults, self._tries, raw, line)

    def outcome(self, raw: bytes, line: Line) -> Outcome:
        """What becomes of a synchronous call with the body `raw`: the failure that it was told, or its answer."""
        told = self.told(raw, line)
        return self.answer(line, told) if told is None or told.status is None else self.failure(told.status)

    def found_from(self) -> float:
        """When a create call will find a file that arrives now; an ordered lag is used up."""
        lag = self.faults.take(FaultKind.FILE_LAG)
        return self.clock.now() + (self.settings.file_lag_seconds if lag is None else lag.seconds)

    def _make(self, asked: NewBatch, plan: Plan, number: int, now: float) -> StoredBatch:
        return self.store.put_batch(
            StoredBatch(
                id=self.new_batch_id(),
                number=number,
                created=now,
                endpoint=asked.endpoint,
                file_id=asked.file_id,
                model=asked.model,
                tokens=asked.tokens,
                plan=plan,
                metadata=asked.metadata,
                output_seconds=asked.output_seconds,
            )
        )

    async def _enter(self, batch: StoredBatch) -> None:
        """Check lines before their time, for the ledger only; the batch's own life is not touched."""
        async with self._locks.setdefault(batch.id, asyncio.Lock()):
            if not self.store.batches[batch.id].checked and self.store.path(batch.file_id).exists():
                await work.check(self, self.store, self.ledger, Tries(), batch)

    def _refusal(self, asked: NewBatch, now: float) -> web.Response | None:
        """Why no batch is made of a create call; None when one is."""
        limits = self.settings
        wait = self._quota.wait_seconds(limits.max_creates_per_hour, now)
        if wait > 0:
            response = self.refuse(429, "Too many batches created in the last hour.", code="rate_limit_exceeded")
            response.headers["Retry-After"] = f"{math.ceil(wait)}"
            return response
        if limits.max_open_batches is not None and len(self._open()) >= limits.max_open_batches:
            return self.refuse(429, "Too many batches are open.", code="rate_limit_exceeded")
        told = ordered(self.faults, FaultKind.TOKEN_LIMIT, asked, when="before")
        if told is not None or (limits.token_limit_at_create and self._crowded(asked)):
            return self.refuse(400, token_limit(asked.model).message, code="token_limit_exceeded")
        return None

    def _open(self) -> list[StoredBatch]:
        """Batches that have not ended, as far as their lines have been read."""
        now = self.clock.now()
        return [
            batch for batch in self.store.batches.values() if batch.results is None and not life(batch, now).stage.ended
        ]

    def _crowded(self, asked: NewBatch) -> bool:
        """Whether the model's enqueued tokens leave no room for one more batch."""
        limit = self.settings.max_enqueued_tokens
        if limit is None:
            return False
        enqueued = sum(batch.tokens for batch in self._open() if batch.model == asked.model and not batch.plan.refusal)
        return enqueued + asked.tokens > limit
