"""`batches` of the simulator: made from a file or from requests inside the call, shown as operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import orjson
from aiohttp import web

from gateway.reading import items, mapping, text
from gateway.sandbox import Life, NewBatch, Operation, Route, Simulator, Stage, StoredBatch, new_id, reply
from gateway_gemini.encode import CHAT, EMBEDDINGS
from gateway_gemini.simulated.files import result_name, result_paths
from gateway_gemini.simulated.lines import body_problem
from gateway_gemini.simulated.objects import RETENTION_SECONDS, UNKEYED, inlined, operation, refusal
from gateway_gemini.simulated.paging import page_of
from gateway_gemini.simulated.schema import camel
from gateway_gemini.simulated.uploads import present

_FIELDS = frozenset({"displayName", "inputConfig", "priority", "webhookConfig", "model", "name"})
_MAX_INLINE_BYTES = 20_000_000
_ENDPOINTS = {"batchGenerateContent": CHAT, "asyncBatchEmbedContent": EMBEDDINGS}
_INLINED = {CHAT: "inlinedResponses", EMBEDDINGS: "inlinedEmbedContentResponses"}


class _Refused(Exception):
    """A create call that is answered with an error."""

    def __init__(self, message: str, status: int = 400) -> None:
        self.message = message
        self.status = status
        super().__init__(message)


class Answering(Protocol):
    """What decides how results come back."""

    @property
    def inline_output_lines(self) -> int:
        """Batches from files of at most so many lines are answered inline all the same."""
        ...

    @property
    def keeps_cancelled(self) -> bool:
        """A cancelled batch shows what was done by then."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Where a batch's lines lie, and what is shown of it."""

    file_id: str
    size: int
    shown: Mapping[str, str]


class Batches:
    """The batch endpoints over a simulator's store."""

    def __init__(self, simulator: Simulator, answering: Answering) -> None:
        self._simulator = simulator
        self._answering = answering
        self._deleted: set[str] = set()

    def routes(self) -> Iterator[Route]:
        """Every path of batches."""
        version = "/{version:v1|v1beta}"
        one = version + "/batches/{batch_id:[^/:]+}"
        verbs = "|".join(_ENDPOINTS)
        create = version + "/models/{model:[^/:]+}:{verb:" + verbs + "}"
        yield Route(method="POST", path=create, answer=self.create, operation=Operation.CREATE)
        yield Route(method="GET", path=version + "/batches", answer=self.list, operation=Operation.LIST)
        yield Route(method="GET", path=one, answer=self.get, operation=Operation.POLL)
        yield Route(method="POST", path=one + ":cancel", answer=self.cancel, operation=Operation.CANCEL)
        yield Route(method="DELETE", path=one, answer=self.delete, operation=Operation.DISCARD)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Make a batch; the lines of a file are looked at later, those inside the call now."""
        model, endpoint = request.match_info["model"], _ENDPOINTS[request.match_info["verb"]]
        try:
            raw = await request.read()
            batch = self._asked(raw)
            source = self._source(_named(batch.get("inputConfig")), model, endpoint, len(raw))
        except _Refused as refused:
            return refusal(refused.status, refused.message)
        asked = NewBatch(
            file_id=source.file_id,
            endpoint=endpoint,
            model=model,
            size=source.size,
            metadata={"displayName": str(batch["displayName"]), **source.shown},
            output_seconds=RETENTION_SECONDS,
        )
        made = await self._simulator.create(asked)
        if isinstance(made, web.Response):
            return made
        return reply(operation(made, Life(stage=Stage.VALIDATING), None))

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One batch as it is now, with its output."""
        batch_id = request.match_info["batch_id"]
        if not self._known(batch_id):
            return _lost()
        batch, where = await self._simulator.current(batch_id)
        return reply(operation(batch, where, self._output(batch, where)))

    async def list(self, request: web.Request) -> web.StreamResponse:
        """The account's batches; inlined responses are left out."""
        listed = [batch for batch in self._simulator.listed() if batch.id not in self._deleted]
        part = page_of(listed, request.query, most=100)
        if part is None:
            return refusal(400, "page_token is not valid.")
        shown = [self._glanced(batch) for batch in part.items]
        content = {"operations": shown} if shown else {}
        return reply(content | ({"nextPageToken": part.token} if part.token else {}))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Ask for a batch's end."""
        batch_id = request.match_info["batch_id"]
        if not self._known(batch_id):
            return _lost()
        _, where = await self._simulator.current(batch_id)
        if where.stage.ended:
            return refusal(400, "Batch is already in a terminal state.")
        await self._simulator.cancel(batch_id)
        return reply({})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Hide a batch for good; it goes on running if it has not ended."""
        batch_id = request.match_info["batch_id"]
        if not self._known(batch_id):
            return _lost()
        self._deleted.add(batch_id)
        return reply({})

    def _known(self, batch_id: str) -> bool:
        return batch_id not in self._deleted and self._simulator.known(batch_id)

    def _glanced(self, batch: StoredBatch) -> dict[str, object]:
        where = self._simulator.glance(batch)
        inline = self._inline(batch)
        return operation(batch, where, None if inline else self._output(batch, where))

    def _inline(self, batch: StoredBatch) -> bool:
        return "inline" in (batch.metadata or {}) or batch.total <= self._answering.inline_output_lines

    def _output(self, batch: StoredBatch, where: Life) -> dict[str, object] | None:
        """What the batch gave: nothing when it expired."""
        paths = result_paths(self._simulator, batch)
        yields = where.stage is Stage.COMPLETED
        yields = yields or (where.stage is Stage.CANCELLED and self._answering.keeps_cancelled)
        if not paths or not yields:
            return None
        if self._inline(batch):
            rows = [row for path in paths for row in path.read_bytes().split(b"\n") if row]
            return inlined(rows, _INLINED[batch.endpoint])
        return {"responsesFile": result_name(batch)}

    def _asked(self, raw: bytes) -> Mapping[str, object]:
        """The batch inside a create call's body, checked. Raises `_Refused`."""
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise _Refused("Invalid JSON payload received.") from None
        for name in mapping(body):
            if name != "batch":
                raise _Refused(f'Invalid JSON payload received. Unknown name "{name[:64]}": Cannot find field.')
        batch = _named(mapping(body).get("batch"))
        for name in batch:
            if name not in _FIELDS:
                raise _Refused(
                    f"Invalid JSON payload received. Unknown name \"{name[:64]}\" at 'batch': Cannot find field."
                )
        if text(batch.get("displayName")) is None:
            raise _Refused("* BatchGenerateContentRequest.batch.display_name: must be set.")
        return batch

    def _source(self, config: Mapping[str, object], model: str, endpoint: str, size: int) -> _Source:
        """The file that is named, or one made of the requests in the call. Raises `_Refused`."""
        if (config.keys() & {"fileName", "requests"}) != config.keys() or len(config) != 1:
            raise _Refused("* batch.input_config: needs exactly one of file_name and requests.")
        if "fileName" in config:
            return self._file(text(config["fileName"]) or "")
        if size > _MAX_INLINE_BYTES:
            raise _Refused("Request payload size exceeds the limit: 20000000 bytes.")
        requests = [mapping(each) for each in items(mapping(config["requests"]).get("requests"))]
        for n, each in enumerate(requests):
            self._check_inline(each, f"batch.input_config.requests.requests[{n}]", model, endpoint)
        file_id = new_id("inline-")
        with self._simulator.store.path(file_id).open("wb") as lines:
            for n, each in enumerate(requests):
                key = text(mapping(each.get("metadata")).get("key")) or f"{UNKEYED}{n}"
                lines.write(orjson.dumps({"key": key, "request": each["request"]}) + b"\n")
        return _Source(file_id=file_id, size=size, shown={"inline": "yes"})

    def _check_inline(self, each: Mapping[str, object], at: str, model: str, endpoint: str) -> None:
        for name in each:
            if name not in ("request", "metadata"):
                raise _Refused(
                    f"Invalid JSON payload received. Unknown name \"{name[:64]}\" at '{at}': Cannot find field."
                )
        problem = body_problem(each.get("request"), model, endpoint)
        if problem is not None:
            raise _Refused(problem)

    def _file(self, name: str) -> _Source:
        file = present(self._simulator, name.removeprefix("files/"))
        now = self._simulator.clock.now()
        if file is None or now < file.hidden_until:
            raise _Refused(f"You do not have permission to access the File {name[:64]} or it may not exist.", 403)
        if now < file.pending_until:
            raise _Refused(f"The File {name[:64]} is not in an ACTIVE state and usage is not allowed.")
        return _Source(file_id=file.id, size=file.size, shown={"fileName": name})


def _named(content: object) -> Mapping[str, object]:
    """An object with its names in camelCase: the SDK writes some of them otherwise."""
    return {camel(name): field for name, field in mapping(content).items()}


def _lost() -> web.Response:
    return refusal(404, "Requested entity was not found.")
