"""Uploads to the simulator: the three steps of the SDK, and the one step of the specification."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import orjson
from aiohttp import web

from gateway.sandbox import Operation, Route, Simulator, StoredFile, Upload, new_id, receive, reply
from gateway_together.simulated.objects import (
    ANNOUNCED,
    PURPOSES,
    READY,
    STATE,
    STORED,
    error_object,
    file_object,
)

STORAGE = "/storage/"

_TYPES = frozenset({"jsonl", "csv", "parquet"})
_CHUNK_BYTES = 1 << 18


class Uploads:
    """The ways in which files arrive."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def routes(self) -> Iterator[Route]:
        """Every path of uploads."""
        table = [
            ("POST", "/v1/files", self.announce),
            ("POST", "/v1/files/upload", self.upload),
            ("PUT", STORAGE + "{file_id}", self.put),
            ("POST", "/v1/files/{file_id}/preprocess", self.preprocess),
        ]
        for method, path, answer in table:
            yield Route(method=method, path=path, answer=answer, operation=Operation.UPLOAD)

    async def announce(self, request: web.Request) -> web.StreamResponse:
        """Step one: take a form without a file and send its sender to storage; a form with a file is an upload."""
        file_id = new_id("file-")
        form = await _receive(request, self._simulator.store.path(file_id))
        if form.filename is not None:
            return self._keep(file_id, form)
        if problem := _form_problem(form):
            return reply(error_object(400, problem), 400)
        checksum = form.fields.get("checksum", "")
        known = self._known(checksum, form.fields["purpose"])
        if known is not None:
            return reply({"file_id": known.id}, 409)
        signature = secrets.token_hex(16)
        extra = {STATE: ANNOUNCED, "checksum": checksum, "signature": signature}
        self._simulator.store.put_file(self._new(file_id, form, 0, extra))
        prefix = request.path.removesuffix("/v1/files")
        target = f"{request.url.origin()}{prefix}{STORAGE}{file_id}?signature={signature}"
        return web.Response(status=302, headers={"Location": target, "X-Together-File-Id": file_id})

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """The file with its form, in one step."""
        file_id = new_id("file-")
        form = await _receive(request, self._simulator.store.path(file_id))
        if form.filename is None:
            return reply(error_object(400, "file is required", param="file"), 400)
        return self._keep(file_id, form)

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Step two, at the storage: bytes of a told length, under a signature in the place of a key."""
        file = self._simulator.store.files.get(request.match_info["file_id"])
        if file is None:
            return web.Response(status=404, text="NoSuchKey")
        if "Authorization" in request.headers:
            return web.Response(status=400, text="InvalidArgument: only one way to sign in is allowed")
        if request.content_length is None:
            return web.Response(status=411, text="MissingContentLength")
        path = self._simulator.store.path(file.id)
        digest, size = hashlib.sha256(), 0
        with path.open("wb") as target:
            async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
                digest.update(chunk)
                size += target.write(chunk)
        told = file.extra.get("checksum")
        if size != request.content_length or (told and told != digest.hexdigest()):
            path.unlink()
            return web.Response(status=400, text="BadDigest")
        self._simulator.store.put_file(replace(file, size=size, extra={**file.extra, STATE: STORED}))
        return web.Response(status=200)

    async def preprocess(self, request: web.Request) -> web.StreamResponse:
        """Step three: look at the bytes; again and again, if asked to."""
        simulator = self._simulator
        file = simulator.store.files.get(request.match_info["file_id"])
        if file is None:
            return reply(error_object(404, "File not found"), 404)
        if file.extra.get(STATE) == ANNOUNCED:
            return reply(error_object(400, "The file has not been uploaded"), 400)
        if file.extra.get(STATE) == STORED:
            file = self._ready(file)
            simulator.store.put_file(file)
        return reply(file_object(file, simulator.clock.now()))

    def _keep(self, file_id: str, form: Upload) -> web.Response:
        """A file that came whole."""
        store = self._simulator.store
        if problem := _form_problem(form):
            store.path(file_id).unlink(missing_ok=True)
            return reply(error_object(400, problem), 400)
        with store.path(file_id).open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        known = self._known(checksum, form.fields["purpose"])
        if known is not None:
            store.path(file_id).unlink()
            return reply({"file_id": known.id}, 409)
        kept = self._ready(self._new(file_id, form, form.size, {"checksum": checksum}))
        store.put_file(kept)
        return reply(file_object(kept, self._simulator.clock.now()))

    def _known(self, checksum: str, purpose: str) -> StoredFile | None:
        """A file of the same bytes, also one that was only announced."""
        files = self._simulator.store.files.values()
        same = (file for file in files if file.purpose == purpose and file.extra.get("checksum") == checksum)
        return next(same, None) if checksum else None

    def _new(self, file_id: str, form: Upload, size: int, extra: Mapping[str, str]) -> StoredFile:
        name = form.fields.get("file_name") or form.filename or "upload.jsonl"
        created = self._simulator.clock.now()
        return StoredFile(
            id=file_id, filename=name, purpose=form.fields["purpose"], size=size, created=created, extra=extra
        )

    def _ready(self, file: StoredFile) -> StoredFile:
        """The file after its bytes came: what is wrong with them shows when they have been looked at."""
        simulator = self._simulator
        now = simulator.clock.now()
        problem = _content_problem(simulator.store.path(file.id))
        return replace(
            file,
            pending_until=now + simulator.settings.file_pending_seconds,
            hidden_until=simulator.found_from(),
            extra={**file.extra, STATE: READY, **({"problem": problem} if problem else {})},
        )


def _form_problem(form: Upload) -> str | None:
    if form.fields.get("purpose") not in PURPOSES:
        return f"purpose must be one of {sorted(PURPOSES)}"
    if not form.fields.get("file_name"):
        return "file_name is required"
    if form.fields.get("file_type", "jsonl") not in _TYPES:
        return f"file_type must be one of {sorted(_TYPES)}"
    return None


def _content_problem(path: Path) -> str | None:
    """What a glance at the first line finds; the lines themselves are the job's to validate."""
    with path.open("rb") as file:
        line = file.readline()
    try:
        fine = isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        fine = False
    return None if fine else "The first line is not a JSON object"


async def _receive(request: web.Request, path: Path) -> Upload:
    """Read a form of either encoding; a part called `file` goes to `path`. What is no form has no fields."""
    if request.content_type.startswith("multipart/"):
        return await receive(request, path)
    posted = await request.post()
    return Upload(fields={key: text for key, text in posted.items() if isinstance(text, str)})
