"""Cloud Storage's uploads: in one request of two parts, or in a session of several pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import orjson
from aiohttp import BodyPartReader, web

from gateway.sandbox import Operation, Route, Simulator, new_id, reply
from gateway_vertex.simulated.buckets import Buckets, digests, generation
from gateway_vertex.simulated.objects import object_resource

_PATH = "/upload/storage/v1/b/{bucket}/o"
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_CHUNK_BYTES = 1 << 18
#: Pieces of a session, but the last, are multiples of this.
_GRAIN_BYTES = 1 << 18
_MAX_METADATA_BYTES = 1 << 16


@dataclass(slots=True, kw_only=True)
class _Session:
    """An upload that is under way; forgotten with the process."""

    bucket: str
    name: str
    condition: str | None
    file_id: str
    received: int = 0


class Uploads:
    """The endpoint that makes objects."""

    def __init__(self, simulator: Simulator, buckets: Buckets) -> None:
        self._simulator = simulator
        self._buckets = buckets
        self._sessions: dict[str, _Session] = {}

    def routes(self) -> Iterator[Route]:
        """Beginning an upload, and the pieces of a session."""
        yield Route(method="POST", path=_PATH, answer=self.begin, operation=Operation.UPLOAD)
        yield Route(method="PUT", path=_PATH, answer=self.piece, operation=Operation.UPLOAD)

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """A whole object, or a session for one."""
        kind = request.query.get("uploadType")
        if kind == "multipart" and request.content_type.startswith("multipart/"):
            return await self._whole(request)
        if kind != "resumable":
            return self._simulator.refuse(400, f"Unknown upload type: {str(kind)[:40]}", code="invalid")
        name = _name(await request.read()) or request.query.get("name")
        if not name:
            return self._simulator.refuse(400, "Required parameter: name", code="required")
        bucket, condition = request.match_info["bucket"], request.query.get("ifGenerationMatch")
        if not self._holds(bucket, name, condition):
            return self._exists()
        upload_id = new_id("upload-")
        self._sessions[upload_id] = _Session(bucket=bucket, name=name, condition=condition, file_id=new_id("file-"))
        where = request.url.with_query({"uploadType": "resumable", "upload_id": upload_id})
        return web.Response(headers={"Location": str(where), "X-GUploader-UploadID": upload_id})

    async def piece(self, request: web.Request) -> web.StreamResponse:
        """The next piece of a session; the last one makes the object."""
        session = self._sessions.get(request.query.get("upload_id", ""))
        if session is None:
            return self._simulator.refuse(404, "No such upload session.", code="notFound")
        found = _RANGE.fullmatch(request.headers.get("Content-Range", ""))
        if found is None:
            return self._simulator.refuse(400, "Content-Range cannot be read.", code="invalid")
        first, last, total = found.groups()
        if first is not None:
            if int(first) != session.received:
                return self._simulator.refuse(503, f"Expected byte {session.received}.", code="backendError")
            size = await self._append(request, session)
            if size != int(last) - int(first) + 1 or (total == "*" and size % _GRAIN_BYTES):
                return self._simulator.refuse(400, "The piece has another size than it says.", code="invalid")
        if total == "*" or session.received < int(total):
            so_far = {"Range": f"bytes=0-{session.received - 1}"} if session.received else {}
            return web.Response(status=308, headers=so_far)
        del self._sessions[request.query["upload_id"]]
        return await self._made(session)

    async def _whole(self, request: web.Request) -> web.StreamResponse:
        session = _Session(
            bucket=request.match_info["bucket"],
            name=request.query.get("name", ""),
            condition=request.query.get("ifGenerationMatch"),
            file_id=new_id("file-"),
        )
        try:
            reader = await request.multipart()
            metadata, media = await reader.next(), None
            if isinstance(metadata, BodyPartReader):
                session.name = _name(bytes(await metadata.read_chunk(_MAX_METADATA_BYTES))) or session.name
                await metadata.release()
                media = await reader.next()
        except ValueError:
            media = None
        if not isinstance(media, BodyPartReader) or not session.name:
            return self._simulator.refuse(400, "Malformed multipart body.", code="badRequest")
        with self._simulator.store.path(session.file_id).open("wb") as file:
            while chunk := await media.read_chunk(_CHUNK_BYTES):
                file.write(chunk)
        return await self._made(session)

    async def _append(self, request: web.Request, session: _Session) -> int:
        size = 0
        with self._simulator.store.path(session.file_id).open("ab") as file:
            async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
                size += file.write(chunk)
        session.received += size
        return size

    async def _made(self, session: _Session) -> web.Response:
        """The object that a finished upload makes, unless another came first."""
        path = self._simulator.store.path(session.file_id)
        path.touch()
        sums = await digests(path)
        if not self._holds(session.bucket, session.name, session.condition):
            path.unlink()
            return self._exists()
        return reply(object_resource(self._buckets.put(session.bucket, session.name, session.file_id, sums)))

    def _holds(self, bucket: str, name: str, condition: str | None) -> bool:
        return condition is None or condition == str(generation(self._buckets.find(bucket, name)))

    def _exists(self) -> web.Response:
        message = "At least one of the pre-conditions you specified did not hold."
        return self._simulator.refuse(412, message, code="conditionNotMet")


def _name(metadata: bytes) -> str | None:
    """The object's name in its metadata."""
    try:
        content = orjson.loads(metadata)
    except orjson.JSONDecodeError:
        return None
    name = content.get("name") if isinstance(content, dict) else None
    return name if isinstance(name, str) and name else None
