"""Values of the cache: bytes that prove themselves, in a diskcache that knows nothing but bytes.

diskcache would unpickle whatever a row says is a pickle (CVE-2025-69872); `BytesDisk` stores and reads bytes, nothing
else, and keeps them all in the database, so that no row can name a file. A value carries its own hash, taken together
with its key: half a value, a value of another key or somebody else's bytes are misses.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from array import array
from pathlib import Path

import diskcache
from diskcache.core import MODE_RAW

from gateway.store.rows import Sample

MAGIC = b"bwca"
VERSION = 1
#: Magic, version, length of the content, hash of key and content.
_HEADER = struct.Struct(">4sBQ16s")
_ENDED_AT = struct.Struct(">d")


class BytesDisk(diskcache.Disk):  # type: ignore[misc] # diskcache has no annotations
    """Refuses pickle, files and everything else that is not bytes, both ways."""

    def put(self, key: object) -> tuple[sqlite3.Binary, bool]:
        """The database's form of a key."""
        if not isinstance(key, bytes):
            raise TypeError(f"keys of the cache are bytes, not {type(key).__name__}")
        return sqlite3.Binary(key), True

    def get(self, key: object, raw: object) -> bytes:
        """A key from its form in the database."""
        if not raw or not isinstance(key, bytes):
            raise ValueError("a key of the cache is not bytes")
        return key

    def store(self, value: object, read: object, key: object = None) -> tuple[int, int, None, sqlite3.Binary]:
        """What goes into a row: size of a file (none), mode, name of a file (none), the value."""
        if read or not isinstance(value, bytes):
            raise TypeError(f"values of the cache are bytes, not {type(value).__name__}")
        return 0, MODE_RAW, None, sqlite3.Binary(value)

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes:
        """The value of a row. Raises OSError, which diskcache takes for a miss, for a row that we cannot have written."""
        if mode != MODE_RAW or filename is not None or read or not isinstance(value, bytes):
            raise OSError("a row of the cache is not ours")
        return value

    def remove(self, filename: object) -> None:
        """There are no files; a row that names one must not have it deleted."""


def seal_value(key: bytes, content: bytes) -> bytes:
    """`content` with its header."""
    return _HEADER.pack(MAGIC, VERSION, len(content), _hash(key, content)) + content


def open_value(key: bytes, value: object) -> bytes | None:
    """The content; None unless every bit of it is what was stored under `key`."""
    if not isinstance(value, bytes) or len(value) < _HEADER.size:
        return None
    magic, version, length, digest = _HEADER.unpack_from(value)
    content = value[_HEADER.size :]
    if (magic, version, length) != (MAGIC, VERSION, len(content)) or digest != _hash(key, content):
        return None
    return content


def sample_key(fingerprint: bytes, ordinal: int) -> bytes:
    """Where one answer lies; the list of a fingerprint's ordinals lies under the fingerprint itself."""
    return fingerprint + b"/%d" % ordinal


def pack_sample(sample: Sample) -> bytes:
    """An answer as content; the place is in its key."""
    return _ENDED_AT.pack(sample.ended_at) + sample.body


def unpack_sample(ordinal: int, content: bytes) -> Sample | None:
    """The answer out of its content."""
    if len(content) < _ENDED_AT.size:
        return None
    (ended_at,) = _ENDED_AT.unpack_from(content)
    return Sample(ordinal=ordinal, body=content[_ENDED_AT.size :], ended_at=ended_at)


def pack_ordinals(ordinals: set[int]) -> bytes:
    """The list of a fingerprint."""
    return b",".join(b"%d" % ordinal for ordinal in sorted(ordinals))


def unpack_ordinals(content: bytes | None) -> array[int]:
    """Ordinals in ascending order."""
    return array("q", map(int, content.split(b","))) if content else array("q")


def _hash(key: bytes, content: bytes) -> bytes:
    digest = hashlib.blake2b(len(key).to_bytes(4, "big"), digest_size=16)
    digest.update(key)
    digest.update(content)
    return digest.digest()


def file_identity(path: Path) -> tuple[int, int] | None:
    """Which file lies at `path` now; None: none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
