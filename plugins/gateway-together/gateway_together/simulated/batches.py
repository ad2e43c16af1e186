"""`/v1/batches` of the simulator: errors are sentences, lists are bare arrays."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
from aiohttp import web

from gateway.sandbox import Life, NewBatch, Operation, Route, Simulator, Stage, StoredBatch, StoredFile, reply
from gateway_together.simulated.lines import read_frame
from gateway_together.simulated.objects import READY, STATE, job_object

_AUDIO = frozenset({"/v1/audio/transcriptions", "/v1/audio/translations"})


class _Refused(Exception):
    """A create call that is answered with 400."""


class Batches:
    """The batch endpoints over a simulator's store; `endpoint` is the one that it can serve."""

    def __init__(self, simulator: Simulator, endpoint: str) -> None:
        self._simulator = simulator
        self._endpoint = endpoint

    def routes(self) -> Iterator[Route]:
        """Every path of batches."""
        yield Route(method="POST", path="/v1/batches", answer=self.create, operation=Operation.CREATE)
        yield Route(method="GET", path="/v1/batches", answer=self.list, operation=Operation.LIST)
        yield Route(method="GET", path="/v1/batches/{batch_id}", answer=self.retrieve, operation=Operation.POLL)
        yield Route(method="POST", path="/v1/batches/{batch_id}/cancel", answer=self.cancel, operation=Operation.CANCEL)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Make a job; its lines are looked at later. Fields that the API does not have are not looked at."""
        try:
            asked = self._asked(await request.read())
        except _Refused as refused:
            return self._simulator.refuse(400, str(refused))
        made = await self._simulator.create(asked)
        if isinstance(made, web.Response):
            return made
        return reply({"job": self._shown(made, Life(stage=Stage.VALIDATING)), "warning": None}, 201)

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """One job as it is now."""
        batch_id = request.match_info["batch_id"]
        if not self._simulator.known(batch_id):
            return self._lost()
        return reply(self._shown(*await self._simulator.current(batch_id)))

    async def list(self, _request: web.Request) -> web.StreamResponse:
        """All of the account's jobs, in one piece."""
        return reply([self._shown(batch, self._simulator.glance(batch)) for batch in self._simulator.listed()])

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Ask for a job's end."""
        batch_id = request.match_info["batch_id"]
        if not self._simulator.known(batch_id):
            return self._lost()
        _, where = await self._simulator.current(batch_id)
        if where.stage not in (Stage.VALIDATING, Stage.IN_PROGRESS, Stage.FINALIZING):
            return self._simulator.refuse(400, f"Cannot cancel a job that is {where.stage.upper()}")
        await self._simulator.cancel(batch_id)
        return reply(self._shown(*await self._simulator.current(batch_id)))

    def _shown(self, batch: StoredBatch, where: Life) -> dict[str, object]:
        file = self._simulator.store.files.get(batch.file_id)
        return job_object(batch, where, file.size if file is not None else 0)

    def _lost(self) -> web.Response:
        return self._simulator.refuse(404, "Batch job not found")

    def _asked(self, content: bytes) -> NewBatch:
        """The create call's body, checked. Raises `_Refused`."""
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError:
            raise _Refused("The body is not JSON") from None
        if not isinstance(body, dict):
            raise _Refused("The body must be an object")
        if body.get("endpoint") in _AUDIO:
            raise _Refused("The sandbox has no audio")
        if body.get("endpoint") != self._endpoint:
            raise _Refused(f"endpoint must be {self._endpoint}")
        if body.get("completion_window", "24h") != "24h":
            raise _Refused("completion_window must be 24h")
        file = self._input(body.get("input_file_id"))
        with self._simulator.store.path(file.id).open("rb") as lines:
            model = read_frame(lines.readline()).model
        if body.get("model_id", model) != model:
            raise _Refused("model_id is not the model of the lines")
        return NewBatch(file_id=file.id, endpoint=self._endpoint, model=model, size=file.size)

    def _input(self, file_id: object) -> StoredFile:
        file = self._simulator.store.files.get(file_id) if isinstance(file_id, str) else None
        now = self._simulator.clock.now()
        if file is None or now < file.hidden_until:
            raise _Refused(f"Input file {str(file_id)[:64]} not found")
        if file.purpose != "batch-api":
            raise _Refused("The input file's purpose must be batch-api")
        if file.extra.get(STATE) != READY or now < file.pending_until or "problem" in file.extra:
            raise _Refused("The input file has not been processed")
        return file
