"""`files` of the simulator: uploaded ones, and results, which alone can be downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from aiohttp import web

from gateway.sandbox import Operation, Route, Simulator, StoredBatch, StoredFile, reply, send
from gateway_gemini.simulated.objects import RETENTION_SECONDS, file_object, refusal, result_file_object
from gateway_gemini.simulated.paging import page_of
from gateway_gemini.simulated.uploads import present

_RESULT = "batch-"


class Files:
    """The file endpoints over a simulator's store."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def routes(self) -> Iterator[Route]:
        """Every path of files but those of uploads."""
        files = "/{version:v1|v1beta}/files"
        one = files + "/{file_id:[^/:]+}"
        yield Route(method="GET", path=files, answer=self.list, operation=Operation.LIST)
        yield Route(method="GET", path=one, answer=self.get, operation=Operation.POLL)
        yield Route(method="GET", path=one + ":download", answer=self.download, operation=Operation.FETCH)
        yield Route(method="DELETE", path=one, answer=self.delete, operation=Operation.DISCARD)

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Uploaded files, newest first."""
        kept = [file for name in self._ids() if (file := present(self._simulator, name)) is not None]
        part = page_of(kept[::-1], request.query, most=100)
        if part is None:
            return refusal(400, "page_token is not valid.")
        shown = [self._shown(file, request) for file in part.items]
        return reply({"files": shown} | ({"nextPageToken": part.token} if part.token else {}))

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One file."""
        file_id = request.match_info["file_id"]
        batch = self._result(file_id)
        if batch is not None and batch.results is not None:
            size = sum(path.stat().st_size for path in result_paths(self._simulator, batch))
            return reply(result_file_object(f"files/{file_id}", size, batch.created, self._root(request)))
        file = present(self._simulator, file_id)
        return _lost(file_id) if file is None else reply(self._shown(file, request))

    async def download(self, request: web.Request) -> web.StreamResponse:
        """The rows of a result; answers and errors lie in one file."""
        file_id = request.match_info["file_id"]
        if request.query.get("alt") != "media":
            return refusal(400, "Downloads want alt=media.")
        batch = self._result(file_id)
        if batch is None:
            if present(self._simulator, file_id) is not None:
                return refusal(400, "Only generated files can be downloaded.")
            return _lost(file_id)
        paths = result_paths(self._simulator, batch)
        return await send(self._simulator, request, *paths, content_type="application/jsonl")

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Forget a file."""
        file_id = request.match_info["file_id"]
        batch, file = self._result(file_id), present(self._simulator, file_id)
        if batch is not None and batch.results is not None:
            for name in (batch.results.output_file_id, batch.results.error_file_id):
                if name in self._simulator.store.files:
                    self._simulator.delete_file(name)
            return reply({})
        if file is None:
            return _lost(file_id)
        self._simulator.delete_file(file.id)
        return reply({})

    def _ids(self) -> Sequence[str]:
        return [name.removeprefix("in_") for name in self._simulator.store.files if name.startswith("in_")]

    def _shown(self, file: StoredFile, request: web.Request) -> dict[str, object]:
        name = f"files/{file.id.removeprefix('in_')}"
        return file_object(file, name, self._root(request), self._simulator.clock.now())

    def _root(self, request: web.Request) -> str:
        return f"{request.url.origin()}/{self._simulator.name}/{request.match_info['version']}"

    def _result(self, file_id: str) -> StoredBatch | None:
        """The batch whose result file that is, while it is kept."""
        batch = self._simulator.store.batches.get(file_id.removeprefix(_RESULT))
        if batch is None or not file_id.startswith(_RESULT) or not result_paths(self._simulator, batch):
            return None
        return batch


def result_name(batch: StoredBatch) -> str:
    """The name of a batch's result file."""
    return f"files/{_RESULT}{batch.id}"


def result_paths(simulator: Simulator, batch: StoredBatch) -> list[Path]:
    """Where the rows of an ended batch lie; nowhere once they have been deleted or their time is over."""
    if batch.results is None:
        return []
    kept = [simulator.store.files.get(name) for name in (batch.results.output_file_id, batch.results.error_file_id)]
    now = simulator.clock.now()
    return [simulator.store.path(file.id) for file in kept if file and file.created + RETENTION_SECONDS > now]


def _lost(file_id: str) -> web.Response:
    message = f"You do not have permission to access the File {file_id[:64]} or it may not exist."
    return refusal(403, message)
