"""`/v1/files` of the simulator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aiohttp import web

from gateway.sandbox import Operation, Route, Simulator, StoredFile, new_id, page, receive, reply, send
from gateway_openai.simulated.objects import file_object, list_object

_PURPOSES = frozenset({"batch", "assistants", "fine-tune", "vision", "user_data", "evals"})
_MAX_UPLOAD_BYTES = 512_000_000
_DEFAULT_SECONDS = 30 * 86_400


class Files:
    """The file endpoints over a simulator's store."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def routes(self) -> Iterator[Route]:
        """Every path of files."""
        yield Route(method="POST", path="/v1/files", answer=self.upload, operation=Operation.UPLOAD)
        yield Route(method="GET", path="/v1/files", answer=self.list, operation=Operation.LIST)
        yield Route(method="GET", path="/v1/files/{file_id}", answer=self.retrieve, operation=Operation.POLL)
        yield Route(method="GET", path="/v1/files/{file_id}/content", answer=self.content, operation=Operation.FETCH)
        yield Route(method="DELETE", path="/v1/files/{file_id}", answer=self.delete, operation=Operation.DISCARD)

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Take a file."""
        simulator = self._simulator
        if not request.content_type.startswith("multipart/"):
            return simulator.refuse(400, "Send the file as multipart/form-data.")
        file_id = new_id("file-")
        try:
            form = await receive(request, simulator.store.path(file_id))
        except ValueError:
            return simulator.refuse(400, "The form cannot be read.")
        purpose = form.fields.get("purpose", "")
        lifetime = _lifetime(form.fields)
        problem = None
        if form.filename is None:
            problem = ("'file' is a required property", "file")
        elif purpose not in _PURPOSES:
            problem = (f"'{purpose[:40]}' is not one of the purposes", "purpose")
        elif lifetime is None:
            problem = ("expires_after needs anchor created_at and 3600 to 2592000 seconds", "expires_after")
        elif form.size > _MAX_UPLOAD_BYTES:
            problem = ("The file is too large.", "file")
        if problem is not None:
            simulator.store.path(file_id).unlink(missing_ok=True)
            return simulator.refuse(400, problem[0], param=problem[1])
        now = simulator.clock.now()
        file = StoredFile(
            id=file_id,
            filename=form.filename or "",
            purpose=purpose,
            size=form.size,
            created=now,
            expires=now + lifetime if lifetime else None,
            pending_until=now + simulator.settings.file_pending_seconds,
            hidden_until=simulator.found_from(),
        )
        simulator.store.put_file(file)
        return reply(file_object(file, now))

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """One file's record."""
        file = self._file(request)
        return self._lost(request) if file is None else reply(file_object(file, self._simulator.clock.now()))

    async def list(self, request: web.Request) -> web.StreamResponse:
        """The account's files, newest first unless asked otherwise."""
        query = request.query
        now = self._simulator.clock.now()
        purpose = query.get("purpose")
        files = [file for file in self._simulator.store.files.values() if purpose in (None, file.purpose)]
        files.sort(key=lambda file: file.created, reverse=query.get("order", "desc") == "desc")
        limit = query.get("limit", "10000")
        if not limit.isdecimal() or not 1 <= int(limit) <= 10_000:
            return self._simulator.refuse(400, "limit must be between 1 and 10000.", param="limit")
        part = page(files, after=query.get("after"), limit=int(limit))
        if part is None:
            return self._simulator.refuse(400, "after names no file.", param="after")
        return reply(list_object([file_object(file, now) for file in part.items], has_more=part.has_more))

    async def content(self, request: web.Request) -> web.StreamResponse:
        """A file's bytes, with their length."""
        file = self._file(request)
        if file is None:
            return self._lost(request)
        return await send(self._simulator, request, self._simulator.store.path(file.id))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Forget a file."""
        file = self._file(request)
        if file is None:
            return self._lost(request)
        self._simulator.delete_file(file.id)
        return reply({"id": file.id, "object": "file", "deleted": True})

    def _file(self, request: web.Request) -> StoredFile | None:
        file = self._simulator.store.files.get(request.match_info["file_id"])
        expired = file is not None and file.expires is not None and file.expires <= self._simulator.clock.now()
        return None if expired else file

    def _lost(self, request: web.Request) -> web.Response:
        return self._simulator.refuse(404, f"No such File object: {request.match_info['file_id'][:64]}", param="id")


def _lifetime(fields: Mapping[str, str]) -> int | None:
    """Seconds until the file expires; None when the fields are wrong."""
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return _DEFAULT_SECONDS if fields.get("purpose") == "batch" else 0
    if anchor != "created_at" or seconds is None or not seconds.isdecimal():
        return None
    return int(seconds) if 3_600 <= int(seconds) <= 2_592_000 else None
