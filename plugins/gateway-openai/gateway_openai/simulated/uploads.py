"""Taking a multipart upload straight to disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiohttp import BodyPartReader, web

_CHUNK_BYTES = 1 << 18
_MAX_FIELD_BYTES = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A multipart form: its small fields, and its one file, which is at the path that was given."""

    fields: dict[str, str]
    filename: str | None
    size: int


async def receive(request: web.Request, path: Path) -> Upload:
    """Read the form; without a part called `file` nothing is written and `filename` is None. ValueError: not a form."""
    fields: dict[str, str] = {}
    filename, size = None, 0
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader) or part.name is None:
            continue
        if part.name == "file":
            filename = part.filename or "upload"
            size = await _write(part, path)
        else:
            fields[part.name] = (await part.read_chunk(_MAX_FIELD_BYTES)).decode("utf-8", "replace")
            await part.release()
    return Upload(fields=fields, filename=filename, size=size)


async def _write(part: BodyPartReader, path: Path) -> int:
    size = 0
    with path.open("wb") as file:
        while chunk := await part.read_chunk(_CHUNK_BYTES):
            size += file.write(chunk)
    return size
