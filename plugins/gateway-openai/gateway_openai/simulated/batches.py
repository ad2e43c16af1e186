"""`/v1/batches` of the simulator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson
from aiohttp import web

from gateway.sandbox import Life, NewBatch, Operation, Route, Simulator, Stage, StoredBatch, StoredFile, page, reply
from gateway_openai.simulated.lines import metadata_problem, read_frame
from gateway_openai.simulated.objects import batch_object, list_object
from gateway_openai.simulated.shape import Shape

#: How cursors look, and how many batches a page has that goes by them.
_CURSOR = "cursor_"
_CURSOR_PAGE = 20
_DAY = 86_400.0
_NEVER = 10 * 365 * 86_400.0
_FIELDS = frozenset({"input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"})


class _Refused(Exception):
    """A create call that is answered with 400."""

    def __init__(self, message: str, param: str | None = None) -> None:
        self.message = message
        self.param = param
        super().__init__(message)


class Batches:
    """The batch endpoints over a simulator's store, as `shape` says."""

    def __init__(self, simulator: Simulator, shape: Shape) -> None:
        self._simulator = simulator
        self._shape = shape

    def routes(self) -> Iterator[Route]:
        """Every path of batches."""
        yield Route(method="POST", path="/v1/batches", answer=self.create, operation=Operation.CREATE)
        yield Route(method="GET", path="/v1/batches", answer=self.list, operation=Operation.LIST)
        yield Route(method="GET", path="/v1/batches/{batch_id}", answer=self.retrieve, operation=Operation.POLL)
        yield Route(method="POST", path="/v1/batches/{batch_id}/cancel", answer=self.cancel, operation=Operation.CANCEL)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Make a batch; its lines are looked at later."""
        try:
            asked = self._asked(await request.read())
        except _Refused as refused:
            return self._simulator.refuse(400, refused.message, param=refused.param)
        made = await self._simulator.create(asked)
        if isinstance(made, web.Response):
            return made
        return reply(batch_object(made, Life(stage=Stage.VALIDATING), self._shape))

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """One batch as it is now."""
        batch_id = request.match_info["batch_id"]
        return await self._shown(batch_id) if self._simulator.known(batch_id) else self._lost(batch_id)

    async def list(self, request: web.Request) -> web.StreamResponse:
        """The account's batches, newest first."""
        query = request.query
        if self._shape.by_cursor:
            return self._cursor_page(query.get("cursor"))
        limit = query.get("limit", "20")
        if not limit.isdecimal() or not 1 <= int(limit) <= 100:
            return self._simulator.refuse(400, "limit must be between 1 and 100.", param="limit")
        part = page(self._simulator.listed(), after=query.get("after"), limit=int(limit))
        if part is None:
            return self._simulator.refuse(400, "after names no batch.", param="after")
        shown = [self._listed(batch) for batch in part.items]
        return reply(list_object(shown, has_more=part.has_more))

    def _cursor_page(self, cursor: str | None) -> web.Response:
        after = None if cursor is None else cursor.removeprefix(_CURSOR)
        part = page(self._simulator.listed(), after=after, limit=_CURSOR_PAGE)
        if part is None:
            return self._simulator.refuse(400, "cursor is not one of ours.", param="cursor")
        following = _CURSOR + part.items[-1].id if part.has_more else None
        shown = [self._listed(batch) for batch in part.items]
        return reply({"object": "list", "data": shown, "paging": {"next_cursor": following}})

    def _listed(self, batch: StoredBatch) -> dict[str, object]:
        return batch_object(batch, self._simulator.glance(batch), self._shape, again=True)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Ask for a batch's end."""
        batch_id = request.match_info["batch_id"]
        if not self._simulator.known(batch_id):
            return self._lost(batch_id)
        _, where = await self._simulator.current(batch_id)
        if where.stage.ended:
            return self._simulator.refuse(409, f"Cannot cancel a batch with status '{where.stage}'.")
        await self._simulator.cancel(batch_id)
        return await self._shown(batch_id)

    async def _shown(self, batch_id: str) -> web.Response:
        batch, where = await self._simulator.current(batch_id)
        return reply(batch_object(batch, where, self._shape, again=True))

    def _lost(self, batch_id: str) -> web.Response:
        return self._simulator.refuse(404, f"No batch found with id '{batch_id[:64]}'.", param="id")

    def _asked(self, content: bytes) -> NewBatch:
        """The create call's body, checked. Raises `_Refused`."""
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError:
            raise _Refused("We could not parse the JSON body of your request.") from None
        if not isinstance(body, dict):
            raise _Refused("The body must be an object.")
        if not self._shape.liberal and (strange := body.keys() - _FIELDS):
            raise _Refused(f"Unknown parameter: '{min(strange)[:64]}'.", param=min(strange)[:64])
        shape, endpoint = self._shape, body.get("endpoint")
        if endpoint not in shape.endpoints and not (shape.liberal and isinstance(endpoint, str)):
            raise _Refused(f"endpoint must be one of {sorted(shape.endpoints)}.", param="endpoint")
        window_seconds = shape.window_of(body.get("completion_window"))
        if window_seconds is None:
            raise _Refused(f"completion_window must be one of {sorted(shape.windows)}.", param="completion_window")
        if problem := metadata_problem(body.get("metadata")):
            raise _Refused(problem, param="metadata")
        file = self._input(body.get("input_file_id"))
        return NewBatch(
            file_id=file.id,
            endpoint=body["endpoint"],
            model=self._model(file, body["endpoint"]),
            size=file.size,
            metadata=body.get("metadata"),
            output_seconds=_output_seconds(body.get("output_expires_after")),
            window_seconds=self._lifetime(window_seconds),
        )

    def _lifetime(self, window_seconds: float) -> float | None:
        """What was asked for; None: the simulator's own setting, as for OpenAI's one window."""
        if self._shape.endless_window:
            return _NEVER
        ordinary = not self._shape.liberal and len(self._shape.windows) == 1
        return None if ordinary or (self._shape.liberal and window_seconds == _DAY) else window_seconds

    def _input(self, file_id: object) -> StoredFile:
        file = self._simulator.store.files.get(file_id) if isinstance(file_id, str) else None
        now = self._simulator.clock.now()
        if file is None or now < max(file.hidden_until, file.pending_until) or (file.expires or now + 1) <= now:
            message = f"Cannot find file {str(file_id)[:64]}, or project does not have access to it."
            raise _Refused(message, param="file_id")
        if file.purpose != "batch":
            raise _Refused("The input file's purpose must be 'batch'.", param="input_file_id")
        return file

    def _model(self, file: StoredFile, endpoint: str) -> str:
        """The model of the first line, which the others have to have too."""
        with self._simulator.store.path(file.id).open("rb") as lines:
            return read_frame(lines.readline(), endpoint, loose=self._shape.loose_urls).model


def _output_seconds(wanted: object) -> float | None:
    if wanted is None:
        return None
    seconds = wanted.get("seconds") if isinstance(wanted, Mapping) and wanted.get("anchor") == "created_at" else None
    if not isinstance(seconds, int) or not 3_600 <= seconds <= 2_592_000:
        raise _Refused("output_expires_after needs anchor created_at and 3600 to 2592000 seconds.")
    return float(seconds)
