"""From the rows of an ended job to the objects below its output prefix."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from gateway.sandbox import Life, Simulator, StoredBatch, new_id
from gateway_vertex.simulated.buckets import Buckets, parse_uri

#: A job with more answers than this writes them in shards, and failures to a file of their own.
SHARD_ROWS = 100
#: In the record of a batch: where its results are, and how many rows say that a line failed.
DIRECTORY, FAILED_ROWS = "directory", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The results of one job, as its resource tells of them."""

    directory: str
    succeeded: int
    failed: int


def published(batch: StoredBatch) -> Published | None:
    """What `publish` left in the record; None before that."""
    directory = batch.extra.get(DIRECTORY)
    if directory is None or batch.results is None:
        return None
    return Published(
        directory=directory, succeeded=batch.results.succeeded, failed=int(batch.extra.get(FAILED_ROWS, "0"))
    )


async def publish(simulator: Simulator, buckets: Buckets, batch: StoredBatch, where: Life) -> StoredBatch:
    """Move the rows of a batch that has run into its bucket, and keep in its record where they are.

    Lines that were never answered have no row; the framework writes an empty one for each.
    """
    results = batch.results
    if results is None or where.in_progress_at is None:
        return batch
    started = datetime.fromtimestamp(where.in_progress_at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    directory = f"prediction-{batch.model.rpartition('/')[2]}-{started}.{batch.number:06d}Z/"
    prefix = (batch.metadata or {})["output_uri"]
    bucket, name = parse_uri(prefix if prefix.endswith("/") else f"{prefix}/") or ("lost", "")
    answers = _rows(simulator, results.output_file_id)
    failures = [row for row in _rows(simulator, results.error_file_id) if row.strip()]
    failed = len(failures)
    shards: list[tuple[str, list[bytes]]] = []
    if results.succeeded <= SHARD_ROWS:
        shards.append(("predictions.jsonl", [*_whole(answers), *failures]))
    else:
        for number, rows in enumerate(iter(lambda: list(itertools.islice(answers, SHARD_ROWS)), []), start=1):
            shards.append((f"predictions_{number:04d}.jsonl", rows))
            await asyncio.sleep(0)
        shards.append(("errors_0001.jsonl", failures))
    for base, rows in shards:
        if rows:
            file_id = new_id("file-")
            simulator.store.path(file_id).write_bytes(b"".join(rows))
            buckets.put(bucket, name + directory + base, file_id)
    for file_id in (results.output_file_id, results.error_file_id):
        if file_id in simulator.store.files:
            simulator.store.delete_file(file_id)
    extra = {**batch.extra, DIRECTORY: f"gs://{bucket}/{name}{directory.rstrip('/')}", FAILED_ROWS: str(failed)}
    return simulator.store.put_batch(replace(batch, extra=extra))


def _rows(simulator: Simulator, file_id: str) -> Iterator[bytes]:
    """The rows of a file of the framework, each with its newline as far as it has one."""
    if file_id:
        with simulator.store.path(file_id).open("rb") as file:
            yield from file


def _whole(rows: Iterator[bytes]) -> Iterator[bytes]:
    """Rows that others can be put behind: an ordered cut leaves the last one without its newline."""
    return (row if row.endswith(b"\n") else row + b"\n" for row in rows)
