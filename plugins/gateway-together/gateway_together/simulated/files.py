"""`/v1/files` of the simulator, but for the ways in."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from gateway.sandbox import Operation, Route, Simulator, StoredFile, reply, send
from gateway_together.simulated.objects import ANNOUNCED, STATE, error_object, file_object


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
        return await send(self._simulator, request, self._simulator.store.path(file.id))

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
