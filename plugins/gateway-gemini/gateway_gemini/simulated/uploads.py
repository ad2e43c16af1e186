"""The resumable upload protocol, as the SDK speaks it: start, chunks at their offsets, finalize."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from gateway.reading import count, mapping, text
from gateway.sandbox import Operation, Route, Simulator, StoredFile, new_id, reply
from gateway_gemini.simulated.objects import RETENTION_SECONDS, file_object, refusal

_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_MAX_FILE_BYTES = 2 << 30
_PIECE_BYTES = 1 << 18


@dataclass(slots=True, kw_only=True)
class _Session:
    """One upload under way."""

    file_id: str
    display_name: str
    mime_type: str
    size: int
    path: Path
    received: int = 0
    sha256: Any = field(default_factory=hashlib.sha256)


class Uploads:
    """Uploads into a simulator's store; sessions are forgotten with the process."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._sessions: dict[str, _Session] = {}

    def routes(self) -> Iterator[Route]:
        """The start of an upload, and the address of its chunks; each call counts as an upload."""
        version = "{version:v1|v1beta}"
        yield Route(method="POST", path=f"/upload/{version}/files", answer=self.start, operation=Operation.UPLOAD)
        path = f"/upload/{version}/sessions/{{session}}"
        yield Route(method="POST", path=path, answer=self.take, operation=Operation.UPLOAD)

    async def start(self, request: web.Request) -> web.StreamResponse:
        """Open a session, unless the wanted name is taken or not a name."""
        headers = request.headers
        if headers.get("X-Goog-Upload-Protocol") != "resumable" or headers.get("X-Goog-Upload-Command") != "start":
            return refusal(400, "Uploads have to be resumable and begin with the command start.")
        size = count(headers.get("X-Goog-Upload-Header-Content-Length"))
        if size is None or size > _MAX_FILE_BYTES:
            return refusal(400, "The file is larger than 2 GB, or its size is not told.")
        try:
            file = mapping(mapping(orjson.loads(await request.read())).get("file"))
        except orjson.JSONDecodeError:
            return refusal(400, "Invalid JSON payload received.")
        wanted = text(file.get("name"))
        file_id = (wanted or f"files/{new_id('')[:12]}").removeprefix("files/")
        if not _ID.fullmatch(file_id):
            return refusal(
                400, "* CreateFileRequest.file.name: the ID has to be 1-40 of lowercase letters, digits, dashes."
            )
        if present(self._simulator, file_id) is not None:
            return refusal(409, f"Requested entity already exists: files/{file_id}")
        session = new_id("")
        self._sessions[session] = _Session(
            file_id=file_id,
            display_name=text(file.get("displayName")) or text(file.get("display_name")) or "",
            mime_type=headers.get("X-Goog-Upload-Header-Content-Type", ""),
            size=size,
            path=self._simulator.store.path(store_id(file_id)),
        )
        here = f"{request.url.origin()}{request.path.removesuffix('/files')}/sessions/{session}"
        return web.Response(headers={"X-Goog-Upload-URL": here, "X-Goog-Upload-Status": "active"})

    async def take(self, request: web.Request) -> web.StreamResponse:
        """One chunk; the last one makes the file."""
        session = self._sessions.get(request.match_info["session"])
        command = request.headers.get("X-Goog-Upload-Command", "")
        if session is None or command not in ("upload", "upload, finalize"):
            return refusal(404, "There is no such upload.")
        if count(request.headers.get("X-Goog-Upload-Offset")) != session.received:
            return refusal(400, f"The offset has to be {session.received}.")
        with session.path.open("r+b" if session.received else "wb") as file:
            file.seek(session.received)
            async for piece in request.content.iter_chunked(_PIECE_BYTES):
                session.received += file.write(piece)
                session.sha256.update(piece)
        if command == "upload":
            return web.Response(headers={"X-Goog-Upload-Status": "active"})
        if session.received != session.size:
            return refusal(400, f"The file has {session.received} bytes, {session.size} were announced.")
        del self._sessions[request.match_info["session"]]
        root = f"{request.url.origin()}/{self._simulator.name}/{request.match_info['version']}"
        stored = self._keep(session)
        shown = file_object(stored, f"files/{session.file_id}", root, self._simulator.clock.now())
        response = reply({"file": shown})
        response.headers["X-Goog-Upload-Status"] = "final"
        return response

    def _keep(self, session: _Session) -> StoredFile:
        simulator = self._simulator
        now = simulator.clock.now()
        stored = StoredFile(
            id=store_id(session.file_id),
            filename=session.display_name,
            purpose="batch",
            size=session.size,
            created=now,
            expires=now + RETENTION_SECONDS,
            pending_until=now + simulator.settings.file_pending_seconds,
            hidden_until=simulator.found_from(),
            extra={"mime_type": session.mime_type, "sha256": session.sha256.hexdigest()},
        )
        simulator.store.put_file(stored)
        return stored


def store_id(file_id: str) -> str:
    """What the store calls an uploaded file; no name that a client can choose is another record's."""
    return f"in_{file_id}"


def present(simulator: Simulator, file_id: str) -> StoredFile | None:
    """The uploaded file of that id, unless it has expired."""
    file = simulator.store.files.get(store_id(file_id))
    return None if file is None or (file.expires or 0) <= simulator.clock.now() else file
