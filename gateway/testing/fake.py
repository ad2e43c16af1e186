"""A provider that lives in memory, and the remote side that it talks to."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import orjson
from pydantic import InstanceOf

from gateway.clock import Clock, as_datetime
from gateway.errors import Missing, Rejected, Unsupported
from gateway.provider import Provider, ProviderSettings, envelope
from gateway.records import Batch, Call, ErrorBody, Limits, RemoteBatch, RemoteState, Result


@dataclass(kw_only=True)
class FakeBatch:
    """A batch as the remote side has it."""

    remote_id: str
    marker: str
    model: str
    lines: list[bytes]
    created: float
    #: When it ends, on the remote's clock.
    due: float
    cancelled: bool = False
    refusal: Rejected | None = None


@dataclass(kw_only=True)
class FakeRemote:
    """The other side: what a provider remembers, whoever asks. Keep it over a restart of the gateway.

    `before` and `after` hold errors to raise, by the name of a `Provider` method, one for each coming call: before it has
    done anything, or after it has done everything, as when a response is lost.
    """

    clock: Clock
    #: How long a batch takes.
    turnaround_seconds: float = 60.0
    #: Prompts to answer with an error line of this status, by the last message's content.
    statuses: dict[str, int] = field(default_factory=dict)
    #: Prompts whose lines are left out of the results.
    lost: set[str] = field(default_factory=set)
    batches: dict[str, FakeBatch] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    #: How many files were ever uploaded: a name is never given twice, though files go.
    uploads: int = 0
    #: How often each payload was accepted in a batch: the proof that nothing was sent twice.
    submitted: Counter[bytes] = field(default_factory=Counter)
    #: Calls of each method, failed ones too.
    calls: Counter[str] = field(default_factory=Counter)
    before: dict[str, deque[Exception]] = field(default_factory=lambda: defaultdict(deque))
    after: dict[str, deque[Exception]] = field(default_factory=lambda: defaultdict(deque))

    def enter(self, method: str) -> None:
        """Count a call of `method`, and raise what was ordered to come before its effect."""
        self.calls[method] += 1
        if self.before[method]:
            raise self.before[method].popleft()

    def leave(self, method: str) -> None:
        """Raise what was ordered to come after the effect of `method`."""
        if self.after[method]:
            raise self.after[method].popleft()

    def create(self, batch: Batch) -> FakeBatch:
        """Take the lines of a batch's uploaded file and begin to work on them."""
        lines = self.files.get(batch.file_id or "", b"").splitlines()
        if not lines:
            raise Rejected("the input file is empty or unknown")
        now = self.clock.now()
        created = FakeBatch(
            remote_id=f"fake-{len(self.batches) + 1}",
            marker=batch.marker,
            model=batch.model,
            lines=lines,
            created=now,
            due=now + self.turnaround_seconds,
        )
        self.batches[created.remote_id] = created
        self.submitted.update(orjson.dumps(orjson.loads(line)["body"]) for line in lines)
        return created

    def batch(self, remote_id: str) -> FakeBatch:
        """The batch of that id. Raises `Missing`."""
        try:
            return self.batches[remote_id]
        except KeyError:
            raise Missing(f"no batch {remote_id}") from None

    def duplicates(self) -> dict[bytes, int]:
        """Payloads that were accepted more than once, and how often."""
        return {payload: count for payload, count in self.submitted.items() if count > 1}


class FakeSettings(ProviderSettings):
    """A `FakeProvider` is configured with the remote it talks to."""

    remote: InstanceOf[FakeRemote]


class FakeProvider(Provider):
    """OpenAI-shaped chat batches in memory. It answers each request with its own last message, so that answers can be told
    apart; nothing is kept in the instance.
    """

    kind: ClassVar[str] = "fake"
    Settings: ClassVar[type[ProviderSettings]] = FakeSettings
    limits: ClassVar[Limits] = Limits(max_requests=1000, max_bytes=10_000_000, max_line_bytes=1_000_000)

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        super().__init__(name, settings, clock, directory)
        if not isinstance(settings, FakeSettings):
            raise TypeError("FakeProvider needs FakeSettings, with the remote it talks to")
        self.remote = settings.remote

    def encode(self, call: Call) -> bytes:
        """The body as it is; a field called `unsupported` is refused."""
        if "unsupported" in call.body:
            raise Unsupported("unsupported", "FakeProvider refuses this field, for tests")
        body = {name: value for name, value in call.body.items() if name not in ("stream", "stream_options")}
        return envelope(call.endpoint, orjson.dumps(body))

    def decode(self, row: bytes) -> Result:
        """What a row of `fetch` says; a row that is no JSON names no line."""
        try:
            parsed = orjson.loads(row)
            status: int = parsed["response"]["status_code"]
            body: dict[str, object] = parsed["response"]["body"]
            line_id: str = parsed["custom_id"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return Result(line_id=None, status=0, retriable=True)
        if status == 200:
            return Result(line_id=line_id, status=status, body=body)
        error = ErrorBody(message=f"fake failure {status}", type="fake_error")
        return Result(line_id=line_id, status=status, error=error, retriable=status == 429 or status >= 500)

    async def upload(self, batch: Batch) -> str | None:
        """Keep the spool's bytes."""
        self.remote.enter("upload")
        self.remote.uploads += 1
        file_id = f"file-{self.remote.uploads}"
        self.remote.files[file_id] = batch.spool.read_bytes()
        self.remote.leave("upload")
        return file_id

    async def submit(self, batch: Batch) -> RemoteBatch:
        """Create the batch."""
        self.remote.enter("submit")
        created = self.remote.create(batch)
        self.remote.leave("submit")
        return self._seen(created)

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """Every batch with this marker, oldest first."""
        self.remote.enter("find")
        found = [self._seen(each) for each in self.remote.batches.values() if each.marker == batch.marker]
        self.remote.leave("find")
        return found

    async def list_ours(self, since: datetime) -> list[RemoteBatch]:
        """Every batch made since then, with its marker."""
        self.remote.enter("list_ours")
        batches = [batch for batch in self.remote.batches.values() if as_datetime(batch.created) >= since]
        self.remote.leave("list_ours")
        return [replace(self._seen(batch), marker=batch.marker) for batch in batches]

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """The batch as it is at this moment of the clock."""
        self.remote.enter("poll")
        seen = self._seen(self.remote.batch(remote.remote_id), remote.where)
        self.remote.leave("poll")
        return seen

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """Write the rows of a batch, the last line first: order means nothing."""
        self.remote.enter("fetch")
        batch = self.remote.batch(remote.remote_id)
        rows = [row for line in reversed(batch.lines) if (row := self._row(batch, line)) is not None]
        to.write_bytes(b"".join(row + b"\n" for row in rows))  # noqa: ASYNC240 - small, and only in tests
        self.remote.leave("fetch")

    async def cancel(self, remote: RemoteBatch) -> None:
        """End the batch now, with nothing done."""
        self.remote.enter("cancel")
        batch = self.remote.batch(remote.remote_id)
        if self.clock.now() < batch.due:
            batch.cancelled, batch.due = True, self.clock.now()
        self.remote.leave("cancel")

    async def discard(self, batch: Batch, remote: RemoteBatch | None) -> None:
        """Forget the input file."""
        self.remote.enter("discard")
        self.remote.files.pop(batch.file_id or "", None)
        self.remote.leave("discard")

    async def complete(self, call: Call) -> Result:
        """The same answer as in a batch, at once."""
        self.remote.enter("complete")
        self.remote.leave("complete")
        return Result(line_id=None, status=200, body=_completion(call.model, _prompt(call.body)))

    def _seen(self, batch: FakeBatch, where: Mapping[str, str] | None = None) -> RemoteBatch:
        ended = self.clock.now() >= batch.due
        seen = RemoteBatch(
            remote_id=batch.remote_id,
            state=RemoteState.ENDED if ended else RemoteState.RUNNING,
            created=as_datetime(batch.created),
            total=len(batch.lines),
            done=len(batch.lines) if ended and not batch.cancelled else 0,
            where=where or {},
        )
        return seen if batch.refusal is None else replace(seen, state=RemoteState.REFUSED, refusal=batch.refusal)

    def _row(self, batch: FakeBatch, line: bytes) -> bytes | None:
        parsed = orjson.loads(line)
        prompt = _prompt(parsed["body"])
        if prompt in self.remote.lost:
            return None
        status = 500 if batch.cancelled else self.remote.statuses.get(prompt, 200)
        body = _completion(batch.model, prompt) if status == 200 else {"error": {"message": f"fake failure {status}"}}
        return orjson.dumps({"custom_id": parsed["custom_id"], "response": {"status_code": status, "body": body}})


def _prompt(body: Mapping[str, object]) -> str:
    """The last message's content, as text."""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else {}
    content = last.get("content", "") if isinstance(last, dict) else ""
    return content if isinstance(content, str) else orjson.dumps(content).decode()


def _completion(model: str, prompt: str) -> dict[str, object]:
    words = len(prompt.split())
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": model,
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"echo: {prompt}"}}
        ],
        "usage": {"prompt_tokens": words, "completion_tokens": words + 1, "total_tokens": 2 * words + 1},
    }
