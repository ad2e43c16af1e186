"""What is in the simulated buckets; every bucket that is asked for exists."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from gateway.sandbox import Simulator, StoredFile

#: Objects among the stored files.
PURPOSE = "object"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """Checksums in base64, as Cloud Storage writes them."""

    md5: str
    crc32c: str


class Buckets:
    """Objects by bucket and name, over a simulator's store of files."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def find(self, bucket: str, name: str) -> StoredFile | None:
        """The object of that name; the latest, if it was overwritten."""
        return next((file for file in self.below(bucket, name) if file.filename == name), None)

    def below(self, bucket: str, prefix: str) -> list[StoredFile]:
        """The objects whose names begin with `prefix`, in the order of names."""
        files = [
            file
            for file in self._simulator.store.files.values()
            if file.purpose == PURPOSE and file.extra.get("bucket") == bucket and file.filename.startswith(prefix)
        ]
        return sorted(files, key=lambda file: file.filename)

    def put(self, bucket: str, name: str, file_id: str, digests: Digests) -> StoredFile:
        """Make an object of the bytes that are in the store under `file_id`; one of the same name is gone then."""
        earlier = self.find(bucket, name)
        made = StoredFile(
            id=file_id,
            filename=name,
            purpose=PURPOSE,
            size=self._simulator.store.path(file_id).stat().st_size,
            created=self._simulator.clock.now(),
            extra={"bucket": bucket, "md5": digests.md5, "crc32c": digests.crc32c},
        )
        self._simulator.store.put_file(made)
        if earlier is not None:
            self._simulator.delete_file(earlier.id)
        return made


def generation(file: StoredFile | None) -> int:
    """The number of an object's version; 0 where there is none."""
    return 0 if file is None else int(file.id.removeprefix("file-")[:13], 16)


def parse_uri(uri: str) -> tuple[str, str] | None:
    """Bucket and name of `gs://BUCKET/NAME`; None when it is none."""
    bucket, slash, name = uri.removeprefix("gs://").partition("/")
    return (bucket, name) if uri.startswith("gs://") and bucket and slash else None


async def digests(path: Path) -> Digests:
    """The checksums of a file; a large one takes seconds, beside the event loop."""
    return await asyncio.to_thread(_digests, path)


def _digests(path: Path) -> Digests:
    md5, crc32c = hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            md5.update(chunk)
            crc32c = google_crc32c.extend(crc32c, chunk)
    return Digests(
        md5=base64.b64encode(md5.digest()).decode(), crc32c=base64.b64encode(crc32c.to_bytes(4, "big")).decode()
    )
