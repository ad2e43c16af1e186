"""Taking a multipart upload straight to disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import BodyPartReader, web

_CHUNK_BYTES = 1 << 18
_MAX_FIELD_BYTES = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A form: its small fields, and its one file, which is at the path that was given."""

    fields: Mapping[str, str]
    #: None: there was no part called `file`.
    filename: str | None = None
    #: Bytes of the file.
    size: int = 0


async def receive(request: web.Request, path: Path) -> Upload:
    """Read a multipart form, whose part called `file` goes to `path` piece by piece; without one nothing is written.

    Raises ValueError for what is no such form; then what has come of a file may be at `path`.
    """
    if not request.content_type.startswith("multipart/"):
        raise ValueError("the body is no multipart form")
    fields: dict[str, str] = {}
    filename, size = None, 0
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader) or part.name is None:
            continue
        if part.name == "file":
            filename, size = part.filename or "upload", await _write(part, path)
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
