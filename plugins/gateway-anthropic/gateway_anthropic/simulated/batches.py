"""The simulated batch endpoints: create, list, look, results, cancel, delete."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import orjson
from aiohttp import web

from gateway.sandbox import (
    Life,
    NewBatch,
    Operation,
    Problem,
    Route,
    Simulator,
    StoredBatch,
    StoredFile,
    new_id,
    page,
    reply,
    send,
)
from gateway_anthropic.simulated.objects import RETENTION_SECONDS, TALLY, batch_object, list_object, tally

_PATH = "/v1/messages/batches"
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_LONGEST_NAME = 64
#: Requests between two moments in which the loop may do something else.
_SLICE = 200


#: What a request's text and params were told to refuse the batch with; line 0 stands for: do not name it.
Poisoned = Callable[[bytes, Mapping[str, object]], Problem | None]


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """What a create call holds; nothing else is allowed."""

    requests: list[msgspec.Raw]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spooled:
    """Requests that were written down as lines."""

    count: int
    size: int
    #: Of the first one; others may have their own.
    model: str


class Refused(Exception):
    """Why a create call is refused as a whole."""

    def __init__(self, message: str, status: int = 400) -> None:
        self.message = message
        self.status = status
        super().__init__(message)


class Batches:
    """Batches of one simulated workspace."""

    def __init__(self, simulator: Simulator, poisoned: Poisoned) -> None:
        """`poisoned` says what a line was told to spoil its whole batch with."""
        self._simulator = simulator
        self._poisoned = poisoned

    def routes(self) -> Iterator[Route]:
        """Every path of batches."""
        one = f"{_PATH}/{{batch_id}}"
        yield Route(method="POST", path=_PATH, answer=self.create, operation=Operation.CREATE)
        yield Route(method="GET", path=_PATH, answer=self.list, operation=Operation.LIST)
        yield Route(method="GET", path=one, answer=self.retrieve, operation=Operation.POLL)
        yield Route(method="GET", path=f"{one}/results", answer=self.results, operation=Operation.FETCH)
        yield Route(method="POST", path=f"{one}/cancel", answer=self.cancel, operation=Operation.CANCEL)
        yield Route(method="DELETE", path=one, answer=self.delete, operation=Operation.DISCARD)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Make a batch of the requests in the body, or say what is wrong with it as a whole."""
        limit = self._simulator.settings.max_bytes
        if (request.content_length or 0) > limit:
            return self._too_large(limit)
        content = await request.read()
        if len(content) > limit:
            return self._too_large(limit)
        store = self._simulator.store
        file_id = new_id("file-")
        try:
            spooled = await self._spool(_requests(content), store.path(file_id))
        except Refused as refused:
            store.path(file_id).unlink(missing_ok=True)
            return self._simulator.refuse(refused.status, refused.message)
        now = self._simulator.clock.now()
        name, size = "requests.jsonl", spooled.size
        store.put_file(StoredFile(id=file_id, filename=name, purpose="batch", size=size, created=now))
        asked = NewBatch(file_id=file_id, endpoint="/v1/messages", model=spooled.model, size=size)
        made = await self._simulator.create(asked)
        if isinstance(made, web.Response):
            return made
        if made.plan.refusal is not None:
            return self._refuse(made, made.plan.refusal)
        version = request.headers.get("anthropic-version", "")
        for batch in [batch for batch in store.batches.values() if batch.file_id == file_id]:
            store.put_batch(replace(batch, total=spooled.count, extra={"version": version}))
        return self._reply(request, made.id)

    async def list(self, request: web.Request) -> web.StreamResponse:
        """The workspace's batches, newest first."""
        query = request.query
        limit, after, before = query.get("limit", "20"), query.get("after_id"), query.get("before_id")
        if not limit.isdecimal() or not 1 <= int(limit) <= 1000:
            return self._simulator.refuse(400, "limit: Input should be between 1 and 1000")
        if after is not None and before is not None:
            return self._simulator.refuse(400, "after_id and before_id cannot both be given")
        batches = self._simulator.listed()
        if before is not None:
            batches.reverse()
        part = page(batches, after=after or before, limit=int(limit))
        if part is None:
            return self._simulator.refuse(400, "after_id or before_id names no batch")
        items = [*reversed(part.items)] if before is not None else [*part.items]
        shown = [await self._shown(request, batch.id) for batch in items]
        return reply(list_object(shown, has_more=part.has_more))

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """One batch as it is now."""
        batch_id = request.match_info["batch_id"]
        if not self._simulator.known(batch_id):
            return self._lost(batch_id)
        return reply(await self._shown(request, batch_id))

    async def results(self, request: web.Request) -> web.StreamResponse:
        """All rows of a batch that has ended."""
        batch_id = request.match_info["batch_id"]
        if not self._simulator.known(batch_id):
            return self._lost(batch_id)
        batch, where = await self._simulator.current(batch_id)
        archived = self._simulator.clock.now() >= batch.created + RETENTION_SECONDS
        if not where.stage.ended or batch.results is None or archived:
            return self._simulator.refuse(404, f"Batch {batch_id[:64]} has no available results.")
        names = [name for name in (batch.results.output_file_id, batch.results.error_file_id) if name]
        paths = [self._simulator.store.path(name) for name in names]
        return await send(self._simulator, request, *paths, content_type="application/x-jsonl")

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Ask for a batch's end; at first it always says that it is canceling."""
        batch_id = request.match_info["batch_id"]
        if not self._simulator.known(batch_id):
            return self._lost(batch_id)
        _, where = await self._simulator.current(batch_id)
        if where.stage.ended:
            return self._simulator.refuse(400, f"Batch {batch_id[:64]} cannot be canceled: it has ended.")
        await self._simulator.cancel(batch_id)
        shown = await self._shown(request, batch_id)
        running = dict.fromkeys(("succeeded", *TALLY), 0) | {
            "processing": self._simulator.store.batches[batch_id].total
        }
        shown |= {"processing_status": "canceling", "request_counts": running, "ended_at": None, "results_url": None}
        return reply(shown)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Forget a batch that has ended."""
        batch_id = request.match_info["batch_id"]
        if not self._simulator.known(batch_id):
            return self._lost(batch_id)
        _, where = await self._simulator.current(batch_id)
        if not where.stage.ended:
            return self._simulator.refuse(400, f"Batch {batch_id[:64]} cannot be deleted while it is processing.")
        self._simulator.store.delete_batch(batch_id)
        return reply({"id": batch_id, "type": "message_batch_deleted"})

    async def _spool(self, requests: Sequence[msgspec.Raw], path: Path) -> _Spooled:
        """Write the requests as lines, each checked for what fails a whole batch. Raises `Refused`."""
        if not requests:
            raise Refused("requests: List should have at least 1 item after validation, not 0")
        most = self._simulator.settings.max_requests
        if len(requests) > most:
            raise Refused(f"requests: List should have at most {most} items after validation, not {len(requests)}")
        seen: set[str] = set()
        with path.open("wb") as file:
            for n, raw in enumerate(requests):
                if n % _SLICE == 0:
                    await asyncio.sleep(0)
                line = bytes(raw)
                name = self._checked(line, n)
                if name in seen:
                    raise Refused(f"requests.{n}.custom_id: Duplicate custom_id: '{name}'")
                seen.add(name)
                file.write((orjson.dumps(orjson.loads(line)) if b"\n" in line else line) + b"\n")
            return _Spooled(count=len(requests), size=file.tell(), model=_model(bytes(requests[0])))

    def _checked(self, line: bytes, n: int) -> str:
        """The name of request `n`. Raises `Refused`."""
        content = orjson.loads(line)
        where = f"requests.{n}"
        if not isinstance(content, dict):
            raise Refused(f"{where}: Input should be a valid dictionary")
        for field in ("custom_id", "params"):
            if field not in content:
                raise Refused(f"{where}.{field}: Field required")
        if strange := content.keys() - {"custom_id", "params"}:
            raise Refused(f"{where}.{min(strange)}: Extra inputs are not permitted")
        name = content["custom_id"]
        if isinstance(name, str) and len(name) > _LONGEST_NAME:
            raise Refused(f"{where}.custom_id: String should have at most 64 characters")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise Refused(f"{where}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
        if not isinstance(content["params"], dict):
            raise Refused(f"{where}.params: Input should be a valid dictionary")
        problem = self._poisoned(line, content["params"])
        if problem is not None:
            raise Refused(problem.message if problem.line == 0 else f"{where}.params: {problem.message}")
        return name

    async def _shown(self, request: web.Request, batch_id: str) -> dict[str, object]:
        batch, where = await self._simulator.current(batch_id)
        if where.stage.ended and batch.results is not None and TALLY[0] not in batch.extra:
            name = batch.results.error_file_id
            errors = self._simulator.store.path(name).read_bytes() if name else b""
            batch = self._simulator.store.put_batch(replace(batch, extra={**batch.extra, **tally(errors)}))
        return self._object(request, batch, where)

    def _object(self, request: web.Request, batch: StoredBatch, where: Life) -> dict[str, object]:
        prefix = request.path.partition(_PATH)[0]
        results = f"{request.scheme}://{request.host}{prefix}{_PATH}/{batch.id}/results"
        return batch_object(batch, where, self._simulator.clock.now(), results)

    def _reply(self, request: web.Request, batch_id: str) -> web.Response:
        batch = self._simulator.store.batches[batch_id]
        return reply(self._object(request, batch, self._simulator.glance(batch)))

    def _refuse(self, made: StoredBatch, problem: Problem) -> web.Response:
        """A batch that was to fail in validation: here, the create call says so and makes none."""
        for batch in [batch for batch in self._simulator.store.batches.values() if batch.file_id == made.file_id]:
            self._simulator.store.delete_batch(batch.id)
        return self._simulator.refuse(400, problem.message, code=problem.code)

    def _too_large(self, limit: int) -> web.Response:
        return self._simulator.refuse(413, f"Request exceeds the maximum size of {limit} bytes.")

    def _lost(self, batch_id: str) -> web.Response:
        return self._simulator.refuse(404, f"Message batch {batch_id[:64]} was not found.")


def _model(line: bytes) -> str:
    model = orjson.loads(line)["params"].get("model")
    return model if isinstance(model, str) else ""


def _requests(content: bytes) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(content, type=_Body).requests
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"The request body is not valid: {error}") from None
