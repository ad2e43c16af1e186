"""From the rows of an ended job to the objects below its output prefix."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from gateway.sandbox import Life, Simulator, StoredBatch, new_id
from gateway_vertex.simulated.buckets import Buckets, digests, parse_uri

#: A job with more answers than this writes them in shards, and failures to a file of their own.
SHARD_ROWS = 100
_MOST_SHARDS = 8
#: Rows between two moments in which the loop may do something else.
_SLICE = 500
#: In the record of a batch: where its results are.
_DIRECTORY = "directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The results of one job, as its resource tells of them."""

    directory: str
    succeeded: int
    failed: int


def published(batch: StoredBatch) -> Published | None:
    """What `publish` left in the record; None before that."""
    directory = batch.extra.get(_DIRECTORY)
    if directory is None or batch.results is None:
        return None
    return Published(directory=directory, succeeded=batch.results.succeeded, failed=batch.results.failed)


async def publish(simulator: Simulator, buckets: Buckets, batch: StoredBatch, where: Life) -> StoredBatch:
    """Move the rows of a batch that has run into its bucket, and keep in its record where they are.

    A small job has one object, its failures behind its answers; a larger one has shards, and its failures in an object of
    their own: both have been described.
    """
    results = batch.results
    if results is None or where.in_progress_at is None:
        return batch
    started = datetime.fromtimestamp(where.in_progress_at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    directory = f"prediction-{batch.model.rpartition('/')[2]}-{started}.{batch.number:06d}Z"
    prefix = (batch.metadata or {})["output_uri"].rstrip("/")
    bucket, name = parse_uri(f"{prefix}/{directory}/") or ("lost", "")
    answers, failures = _rows(simulator, results.output_file_id), _rows(simulator, results.error_file_id)
    if results.succeeded <= SHARD_ROWS:
        await _write(simulator, buckets, bucket, f"{name}predictions.jsonl", itertools.chain(_whole(answers), failures))
    else:
        size = max(SHARD_ROWS, -(-results.succeeded // _MOST_SHARDS))
        last = -(-results.succeeded // size)
        for number in range(1, last + 1):
            shard = answers if number == last else itertools.islice(answers, size)
            await _write(simulator, buckets, bucket, f"{name}predictions_{number:04d}.jsonl", shard)
        await _write(simulator, buckets, bucket, f"{name}errors_0001.jsonl", failures)
    for file_id in (results.output_file_id, results.error_file_id):
        if file_id in simulator.store.files:
            simulator.store.delete_file(file_id)
    return simulator.store.put_batch(
        replace(batch, extra={**batch.extra, _DIRECTORY: f"gs://{bucket}/{name}".rstrip("/")})
    )


async def _write(simulator: Simulator, buckets: Buckets, bucket: str, name: str, rows: Iterator[bytes]) -> None:
    """Make an object of `rows`; none of none."""
    file_id = new_id("file-")
    path = simulator.store.path(file_id)
    with path.open("wb") as file:
        for written, row in enumerate(rows):
            file.write(row)
            if written % _SLICE == 0:
                await asyncio.sleep(0)
        empty = file.tell() == 0
    if empty:
        path.unlink()
    else:
        buckets.put(bucket, name, file_id, await digests(path))


def _rows(simulator: Simulator, file_id: str) -> Iterator[bytes]:
    """The rows of a file of the framework, each with its newline as far as it has one."""
    if file_id:
        with simulator.store.path(file_id).open("rb") as file:
            yield from file


def _whole(rows: Iterator[bytes]) -> Iterator[bytes]:
    """Rows that others can be put behind: an ordered cut leaves the last one without its newline."""
    return (row if row.endswith(b"\n") else row + b"\n" for row in rows)
