"""Files and batches of one simulator, in a folder: what is there survives a restart of the process (not a power cut).

`files/ID` has a file's bytes, `records/ID.json` the record of a file or a batch, `lines/BATCH` what was submitted.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

from gateway.sandbox.records import StoredBatch, StoredFile
from gateway.sandbox.temporary import TemporaryFolder

#: What a folder for a simulator that was given none is called in the system's temporary directory.
TEMPORARY_PREFIX = "batchway-sandbox-"


class Store:
    """All records in memory, each also on disk; bodies on disk only."""

    def __init__(self, directory: Path | None) -> None:
        """Read what `directory` has; it is made if need be, for its owner only (0700). None: a `TemporaryFolder`."""
        if directory is None:
            self._temporary = TemporaryFolder(TEMPORARY_PREFIX)
            directory = self._temporary.path
        self.directory = directory
        self.files: dict[str, StoredFile] = {}
        #: In the order of creation.
        self.batches: dict[str, StoredBatch] = {}
        # Prompts and answers are in there; only the last part of a path gets the mode.
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for room in ("files", "records", "lines"):
            (directory / room).mkdir(mode=0o700, exist_ok=True)
        self._load()

    def path(self, file_id: str) -> Path:
        """Where the bytes of a file are, or are to be written; the id is one that `new_id` made."""
        return self.directory / "files" / file_id

    def put_file(self, file: StoredFile) -> None:
        """Keep the record of a file whose bytes are at `path`."""
        self.files[file.id] = file
        self._write(file.id, file)

    def put_batch(self, batch: StoredBatch) -> StoredBatch:
        """Keep `batch` in place of an earlier record with its id, and return it."""
        self.batches[batch.id] = batch
        self._write(batch.id, batch)
        return batch

    def delete_file(self, file_id: str, *, keep_bytes: bool = False) -> None:
        """Forget a file, which has to be there; its bytes too, unless somebody still needs them."""
        del self.files[file_id]
        (self.directory / "records" / f"{file_id}.json").unlink(missing_ok=True)
        if not keep_bytes:
            self.path(file_id).unlink(missing_ok=True)

    def delete_batch(self, batch_id: str) -> None:
        """Forget a batch, which has to be there; its files stay."""
        del self.batches[batch_id]
        (self.directory / "records" / f"{batch_id}.json").unlink(missing_ok=True)

    def next_number(self) -> int:
        """The place of the next batch in the order of creation."""
        return len(self.batches) + 1

    def clear(self) -> None:
        """Forget everything."""
        self.files.clear()
        self.batches.clear()
        for room in ("files", "records", "lines"):
            for path in (self.directory / room).iterdir():
                path.unlink(missing_ok=True)

    def _load(self) -> None:
        batches = []
        for path in (self.directory / "records").glob("*.json"):
            text = path.read_bytes()
            if "plan" in msgspec.json.decode(text, type=dict[str, object]):
                batches.append(msgspec.json.decode(text, type=StoredBatch))
            else:
                file = msgspec.json.decode(text, type=StoredFile)
                self.files[file.id] = file
        self.batches = {batch.id: batch for batch in sorted(batches, key=lambda batch: batch.number)}

    def _write(self, name: str, record: StoredBatch | StoredFile) -> None:
        replace_file(self.directory / "records" / f"{name}.json", msgspec.json.encode(record))


def new_id(prefix: str) -> str:
    """A fresh id that begins with `prefix`."""
    return prefix + secrets.token_hex(12)


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` so that a reader, also after a crash of this process, sees the old bytes or the new ones."""
    temporary = path.with_suffix(".new")
    temporary.write_bytes(content)
    os.replace(temporary, path)  # noqa: PTH105 - one call less on the way of every batch
