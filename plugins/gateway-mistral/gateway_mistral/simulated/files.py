"""`/v1/files` of the simulator."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Iterator

from aiohttp import web

from gateway.sandbox import Operation, Route, Simulator, StoredFile, Upload, receive, reply, send
from gateway_mistral.simulated.objects import HIDDEN, file_object
from gateway_mistral.simulated.schema import detail

_PURPOSES = frozenset({"fine-tune", "batch", "ocr", "agentic_safety"})
_VISIBILITIES = frozenset({"workspace", "user"})
_MAX_FILE_BYTES = 512_000_000
_HOUR = 3_600
_MAX_EXPIRY_HOURS = 168


class Files:
    """The file endpoints over a simulator's store."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._secret = secrets.token_bytes(16)

    def routes(self) -> Iterator[Route]:
        """Every path of files."""
        one = "/v1/files/{file_id}"
        yield Route(method="POST", path="/v1/files", answer=self.upload, operation=Operation.UPLOAD)
        yield Route(method="GET", path="/v1/files", answer=self.list, operation=Operation.LIST)
        yield Route(method="GET", path=one, answer=self.retrieve, operation=Operation.POLL)
        yield Route(method="GET", path=f"{one}/content", answer=self.content, operation=Operation.FETCH)
        yield Route(method="GET", path=f"{one}/url", answer=self.url, operation=Operation.POLL)
        yield Route(method="GET", path=f"{one}/signed", answer=self.signed)
        yield Route(method="DELETE", path=one, answer=self.delete, operation=Operation.DISCARD)

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Take a file."""
        simulator = self._simulator
        file_id = str(uuid.uuid4())
        path = simulator.store.path(file_id)
        try:
            form = await receive(request, path)
        except ValueError:
            return simulator.refuse(422, "The form cannot be read.")
        problem = _form_problem(form)
        if problem is not None:
            path.unlink(missing_ok=True)
            return reply({"detail": [problem]}, 422)
        now = simulator.clock.now()
        expiry = form.fields.get("expiry")
        file = StoredFile(
            id=file_id,
            filename=form.filename or "",
            purpose=form.fields.get("purpose", "fine-tune"),
            size=form.size,
            created=now,
            expires=None if expiry is None else now + int(expiry) * _HOUR,
            hidden_until=simulator.found_from(),
            extra={"visibility": form.fields.get("visibility", "workspace")},
        )
        simulator.store.put_file(file)
        return reply(file_object(file))

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """One file's record."""
        file = self._file(request)
        return self._lost(request) if file is None else reply({**file_object(file), "deleted": False})

    async def list(self, request: web.Request) -> web.StreamResponse:
        """The workspace's files, newest first; `search` looks into their names."""
        query = request.query
        number, size = query.get("page", "0"), query.get("page_size", "100")
        if not (number.isdecimal() and size.isdecimal() and 1 <= int(size) <= 1_000):
            return self._simulator.refuse(422, "page and page_size must be numbers.")
        files = [file for file in reversed(self._simulator.store.files.values()) if file.purpose != HIDDEN]
        shown = [file_object(file) for file in files if query.get("search", "") in file.filename]
        for field in ("purpose", "sample_type", "source"):
            wanted = query.getall(field, [])
            shown = [file for file in shown if not wanted or file[field] in wanted]
        start = int(number) * int(size)
        answer: dict[str, object] = {"object": "list", "data": shown[start : start + int(size)]}
        if query.get("include_total", "true").lower() == "true":
            answer["total"] = len(shown)
        return reply(answer)

    async def content(self, request: web.Request) -> web.StreamResponse:
        """A file's bytes, with their length."""
        file = self._file(request)
        if file is None:
            return self._lost(request)
        return await send(self._simulator, request, self._simulator.store.path(file.id))

    async def url(self, request: web.Request) -> web.StreamResponse:
        """An address that needs no key."""
        file = self._file(request)
        hours = request.query.get("expiry", "24")
        if file is None:
            return self._lost(request)
        if not hours.isdecimal() or not 1 <= int(hours) <= _MAX_EXPIRY_HOURS:
            return self._simulator.refuse(422, "expiry must be 1 to 168 hours.")
        path = str(request.rel_url.path).removesuffix("/url")
        return reply({"url": f"{request.url.origin()}{path}/signed?signature={self._signature(file.id)}"})

    async def signed(self, request: web.Request) -> web.StreamResponse:
        """A file's bytes, for whoever has the address."""
        file = self._file(request)
        offered = request.query.get("signature", "")
        if file is None or not hmac.compare_digest(offered, self._signature(file.id)):
            return self._simulator.refuse(403, "The signature is not valid.")
        return web.FileResponse(self._simulator.store.path(file.id))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Forget a file."""
        file = self._file(request)
        if file is None:
            return self._lost(request)
        self._simulator.delete_file(file.id)
        return reply({"id": file.id, "object": "file", "deleted": True})

    def _signature(self, file_id: str) -> str:
        return hashlib.blake2b(file_id.encode(), key=self._secret, digest_size=16).hexdigest()

    def _file(self, request: web.Request) -> StoredFile | None:
        file = self._simulator.store.files.get(request.match_info["file_id"])
        gone = file is None or (file.expires is not None and file.expires <= self._simulator.clock.now())
        return None if gone or file is None or file.purpose == HIDDEN else file

    def _lost(self, request: web.Request) -> web.Response:
        return self._simulator.refuse(404, f"No file matches the given query: {request.match_info['file_id'][:64]}")


def _form_problem(form: Upload) -> dict[str, object] | None:
    """What is wrong with an upload."""
    if form.filename is None:
        return detail("missing", ["file"], "Field required")
    if form.size > _MAX_FILE_BYTES:
        return detail("too_large", ["file"], "The file is larger than 512 MB")
    if form.fields.get("purpose", "fine-tune") not in _PURPOSES:
        return detail("enum", ["purpose"], f"Input should be one of {sorted(_PURPOSES)}")
    if form.fields.get("visibility", "workspace") not in _VISIBILITIES:
        return detail("enum", ["visibility"], f"Input should be one of {sorted(_VISIBILITIES)}")
    expiry = form.fields.get("expiry")
    if expiry is not None and not (expiry.isdecimal() and int(expiry) > 0):
        return detail("int_parsing", ["expiry"], "Input should be a number of hours")
    return None
