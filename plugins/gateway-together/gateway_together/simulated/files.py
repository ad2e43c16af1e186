"""`/v1/files` of the simulator, but for the ways in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from aiohttp import web

from gateway.sandbox import FaultKind, Operation, Route, Simulator, StoredFile
from gateway_together.simulated.objects import ANNOUNCED, STATE, error_object, file_object, reply


class Files:
    """Files that are there."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def routes(self) -> Iterator[Route]:
        """Every path of files."""
        yield Route(method="GET", path="/v1/files", answer=self.list, operation=Operation.LIST)
        yield Route(method="GET", path="/v1/files/{file_id}", answer=self.retrieve, operation=Operation.POLL)
        yield Route(method="GET", path="/v1/files/{file_id}/content", answer=self.content, operation=Operation.FETCH)
        yield Route(method="DELETE", path="/v1/files/{file_id}", answer=self.delete, operation=Operation.DISCARD)

    async def list(self, _request: web.Request) -> web.StreamResponse:
        """All of the account's files, in one piece."""
        now = self._simulator.clock.now()
        return reply({"data": [file_object(file, now) for file in self._simulator.store.files.values()]})

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """One file's record."""
        file = self._file(request)
        return _lost() if file is None else reply(file_object(file, self._simulator.clock.now()))

    async def content(self, request: web.Request) -> web.StreamResponse:
        """A file's bytes, with their length."""
        file = self._file(request)
        if file is None or file.extra.get(STATE) == ANNOUNCED:
            return _lost()
        path = self._simulator.store.path(file.id)
        faults = self._simulator.faults
        if faults and faults.take(FaultKind.CUT, operation=Operation.FETCH, when="during", text=request.path):
            return await _half(request, path.read_bytes())
        return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Forget a file."""
        file = self._file(request)
        if file is None:
            return _lost()
        self._simulator.delete_file(file.id)
        return reply({"id": file.id, "deleted": True})

    def _file(self, request: web.Request) -> StoredFile | None:
        return self._simulator.store.files.get(request.match_info["file_id"])


def _lost() -> web.Response:
    return reply(error_object(404, "File not found", code="not_found"), 404)


async def _half(request: web.Request, content: bytes) -> web.StreamResponse:
    """Half of a file, then a cut connection."""
    response = web.StreamResponse(headers={"Content-Length": str(len(content))})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    await asyncio.sleep(0)
    if request.transport is not None:
        request.transport.close()
    return response
