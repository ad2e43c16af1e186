"""The plugin of the simulation: real code of a provider's kind, in front of a `Remote`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NoReturn, TypeVar

import orjson
from pydantic import InstanceOf

from gateway.clock import Clock, as_datetime
from gateway.errors import Ambiguous, Missing, Rejected, Retryable, Unauthorised, Unsupported
from gateway.provider import Provider, ProviderSettings, envelope
from gateway.records import Batch, Call, ErrorBody, Limits, RemoteBatch, RemoteState, Result
from gateway.rows import failure, read_response, read_row, upstream_error
from tests.simulation.answers import prompt_of
from tests.simulation.jobs import Job, Pending
from tests.simulation.remote import Remote
from tests.simulation.weather import Fault

T = TypeVar("T")

#: Longer than any call may take.
FOR_EVER_SECONDS = 100_000.0
BEFORE = frozenset({Fault.DOWN, Fault.BUSY, Fault.BROKEN, Fault.LOST, Fault.HANG, Fault.BUG, Fault.KEY, Fault.MISSING})


@dataclass(kw_only=True)
class Link:
    """What the plugin is given of the world: it stays the same over crashes, the loop does not."""

    remote: Remote
    #: Whether the process dies here.
    moment: Callable[[str], bool]
    #: The requests in the batch of this marker, by line.
    members: Callable[[str], tuple[int, ...]]


class SimulatedSettings(ProviderSettings):
    """Where the other side is."""

    link: InstanceOf[Link]


class SimulatedProvider(Provider):
    """OpenAI-shaped; every call may meet the remote's faults, and the process may die before and after it takes effect."""

    kind: ClassVar[str] = "simulated"
    Settings: ClassVar[type[ProviderSettings]] = SimulatedSettings
    limits: ClassVar[Limits] = Limits(window_seconds=900.0)

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        super().__init__(name, settings, clock, directory)
        assert isinstance(settings, SimulatedSettings)
        self.link = settings.link
        self.remote = settings.link.remote

    def encode(self, call: Call) -> bytes:
        """One answer at a time."""
        if call.body.get("n", 1) != 1:
            raise Unsupported("n", "one answer at a time")
        body = {name: value for name, value in call.body.items() if name not in ("stream", "stream_options", "n")}
        return envelope(call.endpoint, orjson.dumps(body))

    def decode(self, row: bytes) -> Result:
        """OpenAI's rows."""
        content = read_row(row)
        if isinstance(content, Result):
            return content
        if content.unanswered:
            told = content.error if isinstance(content.error, dict) else {}
            error = ErrorBody(message="not done", type="server_error", code=str(told.get("code")))
            return Result(line_id=content.line_id, status=0, error=error, retriable=True)
        status = content.response.get("status_code")
        body = content.response.get("body")
        return read_response(content.line_id, status if isinstance(status, int) else 0, body, _answer)

    async def upload(self, batch: Batch) -> str | None:
        """Keep the bytes."""

        def act() -> str:
            self.remote.uploads += 1
            file_id = f"file-{self.remote.uploads}"
            self.remote.files[file_id] = batch.spool.read_bytes()
            return file_id

        return await self._call("upload", act)

    async def submit(self, batch: Batch) -> RemoteBatch:
        """One create."""
        remote, seqs, sent_at = self.remote, self.link.members(batch.marker), self.remote.now()
        file = remote.files.get(batch.file_id or "")
        fault = remote.fate("submit")
        if self.link.moment("before submit"):
            if file is not None and remote.random.random() < 0.5:
                # What the dead process had put on the wire arrives all the same.
                self._late(batch.marker, file, seqs, sent_at)
            await _nothing_more()
        await self.clock.sleep(self._travel())
        if fault in BEFORE:
            await self._raise("submit", fault)
        if file is None:
            raise Rejected("there is no such input file")
        if fault is Fault.LATE:
            self._late(batch.marker, file, seqs, sent_at)
            await self._raise("submit", fault)
        remote.settle()
        refusal = remote.refuse(file)
        if refusal is not None:
            if fault is not None and fault is not Fault.TWIN:
                await self._raise("submit", fault)
            raise refusal
        remote.before_create(batch.marker, seqs)
        twin = fault in (Fault.TWIN, Fault.TWIN_LOST)
        job = remote.create(batch.marker, file, seqs, sent_at=sent_at, twin=twin)
        if twin:
            remote.create(batch.marker, file, seqs, sent_at=sent_at, twin=True)
        await self._back("submit")
        if fault is not None and fault is not Fault.TWIN:
            await self._raise("submit", fault)
        return self._seen(job)

    def _late(self, marker: str, file: bytes, seqs: tuple[int, ...], sent_at: float) -> None:
        late = self.remote.random.uniform(0, self.remote.weather.late)

        def make() -> None:
            if self.remote.refuse(file) is None:
                self.remote.create(marker, file, seqs, sent_at=sent_at)

        self.remote.before_create(marker, seqs)
        self.remote.pending.append(
            Pending(arrives=sent_at + late, make=make, marker=marker, seqs=seqs, sent_at=sent_at)
        )

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """What the list shows of it, or may be it."""

        def act() -> list[RemoteBatch]:
            listed = self.remote.listed()
            if self.marked:
                return [self._seen(job) for job in listed if job.marker == batch.marker]
            since = 0.0 if batch.first_sent is None else batch.first_sent.timestamp() - 3600
            alike = [job for job in listed if len(job.lines) == batch.count and job.created >= since]
            return [self._seen(job) for job in alike]

        return await self._call("find", act)

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """As it is now."""
        return await self._call("poll", lambda: self._seen(self.remote.job(remote.remote_id)))

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """Every row."""
        fault = self.remote.fate("fetch")
        await self._way("fetch")
        if fault in BEFORE:
            await self._raise("fetch", fault)
        rows = b"".join(row + b"\n" for row in self.remote.rows(self.remote.job(remote.remote_id)))
        cut = fault in (Fault.CUT, Fault.SHORT)
        to.write_bytes(rows[: int(len(rows) * self.remote.random.random())] if cut else rows)
        await self._back("fetch")
        if fault is Fault.CUT:
            raise Retryable("the download broke off")

    async def cancel(self, remote: RemoteBatch) -> None:
        """Stop; what is done stays."""

        def act() -> None:
            job = self.remote.job(remote.remote_id)
            if self.remote.running(job):
                job.cancelled_at = self.remote.now() + self.remote.random.uniform(0, 10)
            self.remote.note("cancelled", job.remote_id)

        await self._call("cancel", act)

    async def discard(self, batch: Batch, remote: RemoteBatch | None) -> None:
        """Forget the input."""
        await self._call("discard", lambda: self.remote.files.pop(batch.file_id or "", None))

    async def complete(self, call: Call) -> Result:
        """The answer, at once."""
        remote = self.remote
        fault = remote.fate("complete")
        prompt = prompt_of(dict(call.body))
        await self._way("complete")
        if fault in BEFORE:
            await self._raise("complete", fault)
        await self.clock.sleep(remote.random.uniform(0, 20))
        key = f"single/{remote.asked.total()}"
        answer = remote.answer(prompt, key)
        await self._back("complete")
        if fault is not None:
            await self._raise("complete", fault)
        if isinstance(answer, int):
            return failure(None, answer, upstream_error(f"simulated {answer}"))
        return Result(line_id=None, status=200, body=orjson.loads(answer))

    async def _call(self, verb: str, act: Callable[[], T]) -> T:
        fault = self.remote.fate(verb)
        await self._way(verb)
        if fault in BEFORE:
            await self._raise(verb, fault)
        answer = act()
        await self._back(verb)
        if fault is not None:
            await self._raise(verb, fault)
        return answer

    async def _way(self, verb: str) -> None:
        """On the way there."""
        if self.link.moment(f"before {verb}"):
            await _nothing_more()
        await self.clock.sleep(self._travel())

    async def _back(self, verb: str) -> None:
        """On the way back."""
        self.remote.note(verb)
        if self.link.moment(f"after {verb}"):
            await _nothing_more()
        await self.clock.sleep(self._travel())

    def _travel(self) -> float:
        chance = self.remote.random.random()
        return chance * 0.2 if chance < 0.9 else chance * 20

    async def _raise(self, verb: str, fault: Fault) -> NoReturn:
        """What a plugin makes of it."""
        remote = self.remote
        if fault is Fault.DOWN:
            raise Retryable("connection refused")
        if fault is Fault.BUSY:
            raise Retryable("too many requests", retry_after=remote.random.uniform(1, 60))
        if fault is Fault.KEY:
            raise Unauthorised("the key was refused")
        if fault is Fault.MISSING:
            raise Missing("no such batch")
        if fault is Fault.BUG:
            raise RuntimeError("a bug in the plugin")
        if fault in (Fault.HANG, Fault.HANG_AFTER):
            await self.clock.sleep(FOR_EVER_SECONDS)
        if verb in ("submit", "complete"):
            raise Ambiguous(f"it is not known what became of it: {fault}")
        raise Retryable(f"the call was lost: {fault}")

    def _seen(self, job: Job) -> RemoteBatch:
        now = self.remote.now()
        state = RemoteState.ENDED if now >= job.ends_at else RemoteState.RUNNING
        return RemoteBatch(
            remote_id=job.remote_id,
            state=state if job.refusal is None else RemoteState.REFUSED,
            created=as_datetime(job.created),
            total=len(job.lines),
            done=len(job.done(now)),
            refusal=job.refusal,
        )


class UnmarkedProvider(SimulatedProvider):
    """As Anthropic: nothing in the list says whose a batch is."""

    marked: ClassVar[bool] = False


class SingleProvider(SimulatedProvider):
    """As a local server: no batches."""

    batch: ClassVar[bool] = False
    marked: ClassVar[bool] = False


def _answer(body: dict[str, object]) -> dict[str, object] | None:
    return body if body.get("choices") else None


async def _nothing_more() -> NoReturn:
    """The process is dead: nothing runs after this."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("a dead process went on")
