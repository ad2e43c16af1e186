"""What simulators read and write over HTTP whatever their wire format: JSON objects, JSON answers, bytes of files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson
from aiohttp import web

from gateway.sandbox.faults import FaultKind, Operation
from gateway.sandbox.simulator import Simulator

_PIECE_BYTES = 1 << 18


def json_object(content: bytes) -> dict[str, object] | None:
    """The JSON object in a request's body; None where it is none."""
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


def reply(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(body=orjson.dumps(content), status=status, content_type="application/json", headers=headers)


async def send(
    simulator: Simulator,
    request: web.Request,
    *contents: Path | bytes,
    content_type: str = "application/octet-stream",
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """The contents, one behind the other, with their length; half of them under an ordered cut `during` the fetch."""
    order = simulator.faults.take(FaultKind.CUT, operation=Operation.FETCH, when="during", text=request.path)
    shown = {"Content-Type": content_type, **(headers or {})}
    if order is None and len(contents) == 1 and isinstance(contents[0], Path):
        return web.FileResponse(contents[0], headers=shown)
    size = sum(len(content) if isinstance(content, bytes) else content.stat().st_size for content in contents)
    response = web.StreamResponse(headers={**shown, "Content-Length": str(size)})
    await response.prepare(request)
    left = size if order is None else size // 2
    for content in contents:
        for piece in _pieces(content):
            await response.write(piece[:left])
            left -= min(left, len(piece))
    if order is None:
        await response.write_eof()
    elif request.transport is not None:
        await asyncio.sleep(0)
        request.transport.close()
    return response


def _pieces(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
