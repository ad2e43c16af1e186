"""Lines on their way into the bucket, and rows on their way out of it: once, whole, and in nobody's way."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from vertex_lab import MARKER, PREFIX, Google, chat

from gateway.sandbox import Fault, FaultKind
from gateway.testing import Lab
from gateway_vertex.places import Place
from gateway_vertex.storage import ObjectStore
from gateway_vertex.threads import Leash, LeashedFile, leashed


async def test_an_upload_is_made_once(lab: Lab, google: Google) -> None:
    """A second upload of the same lines leaves the first object as it is."""
    batch = await lab.upload(chat("a"))
    first = await google.blocking(lambda bucket: bucket.get_blob(f"{PREFIX}/input.jsonl", retry=None).generation)
    again = await lab.provider.upload(batch)
    second = await google.blocking(lambda bucket: bucket.get_blob(f"{PREFIX}/input.jsonl", retry=None).generation)

    assert again == batch.file_id
    assert first == second


async def test_an_upload_of_another_size_takes_the_place(lab: Lab, google: Google) -> None:
    """An object of our name that is not ours by its size is overwritten."""
    await google.put(f"{PREFIX}/input.jsonl", b"something else")
    batch = await lab.upload(chat("a"))

    assert await google.read(f"{PREFIX}/input.jsonl") == batch.spool.read_bytes()


async def test_a_large_upload_goes_in_pieces(lab: Lab, google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool of several pieces arrives whole, and no piece is larger than 8 MiB."""
    sizes: list[int] = []
    batch = lab.seal(*(chat(f"{n} {'x' * 1_000_000}") for n in range(20)))
    real = LeashedFile.read

    def read(self: LeashedFile, size: int = -1) -> bytes:
        sizes.append(size)
        return real(self, size)

    monkeypatch.setattr(LeashedFile, "read", read)
    await lab.provider.upload(batch)

    assert await google.read(f"{PREFIX}/input.jsonl") == batch.spool.read_bytes()
    assert max(sizes) == 8 << 20
    assert min(sizes) >= 0


class Held:
    """Two downloads of one batch: the first stops at a point until it is told to go on, and so does the second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
        self.reached = [threading.Event(), threading.Event()]
        self.go_on = [threading.Event(), threading.Event()]
        self.first_ended = threading.Event()
        self._numbers = itertools.count()
        self._point = point
        self._download, self._write = ObjectStore.download, LeashedFile.write
        held = self

        def download(self: ObjectStore, place: Place, names: list[str], to: Path, leash: Leash) -> None:
            number = next(held._numbers)
            held._stop(number, "before")
            leash.number = number  # type: ignore[attr-defined]
            try:
                held._download(self, place, names, to, leash)
            finally:
                if number == 0:
                    held.first_ended.set()

        def write(self: LeashedFile, chunk: bytes) -> int:
            held._stop(self._leash.number, "while")  # type: ignore[attr-defined]
            return held._write(self, chunk)

        monkeypatch.setattr(ObjectStore, "download", download)
        monkeypatch.setattr(LeashedFile, "write", write)

    def _stop(self, number: int, point: str) -> None:
        if point == (self._point if number == 0 else "while"):
            self.reached[number].set()
            assert self.go_on[number].wait(30)


@pytest.mark.parametrize("point", ["before", "while"])
async def test_a_cancelled_fetch_harms_no_other(lab: Lab, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """A download that nobody waits for any more stops by itself, touches no file of the next one, and leaves none behind."""
    remote = await lab.run(*(chat(f"{n}") for n in range(50)))
    home = lab.directory / "fetches"
    home.mkdir()
    held = Held(monkeypatch, point)
    first = asyncio.get_running_loop().create_task(lab.provider.fetch(remote, home / "rows"))
    await asyncio.to_thread(held.reached[0].wait, 30)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.get_running_loop().create_task(lab.provider.fetch(remote, home / "rows"))
    await asyncio.to_thread(held.reached[1].wait, 30)
    held.go_on[0].set()
    await asyncio.to_thread(held.first_ended.wait, 30)
    held.go_on[1].set()
    await second

    assert [path.name for path in home.iterdir()] == ["rows"]
    assert (home / "rows").read_bytes().count(b"\n") == 50


async def test_transfers_have_threads_of_their_own(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer takes no thread from the few that the loop keeps for quick work, and holds up no end of the process."""
    threads: list[threading.Thread] = []
    real = ObjectStore.upload

    def upload(self: ObjectStore, place: Place, name: str, path: Path, leash: Leash) -> None:
        threads.append(threading.current_thread())
        real(self, place, name, path, leash)

    monkeypatch.setattr(ObjectStore, "upload", upload)
    await lab.upload(chat("a"))
    pool = await asyncio.to_thread(threading.current_thread)

    assert [(thread.daemon, thread.name.startswith(pool.name[:7])) for thread in threads] == [(True, False)]


async def test_a_fetch_that_is_cancelled_at_its_end_leaves_no_file(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that was whole just as its wait was cancelled is not left lying about."""
    remote = await lab.run(chat("a"))
    home = lab.directory / "fetches"
    home.mkdir()

    async def cancelled(work: Callable[[Leash], None]) -> None:
        await leashed(work)
        raise asyncio.CancelledError

    monkeypatch.setattr("gateway_vertex.provider.leashed", cancelled)
    with pytest.raises(asyncio.CancelledError):
        await lab.provider.fetch(remote, home / "rows")

    assert list(home.iterdir()) == []


async def test_a_shard_that_was_cut_does_not_swallow_the_next(lab: Lab) -> None:
    """The newline that a truncated shard lacks is put in, so the first row behind it stays readable."""
    lab.simulator.faults.order(Fault(kind=FaultKind.LAST_ROW_TRUNCATED))
    remote = await lab.run(*(chat(f"{n}") for n in range(120)), chat("bad [sandbox: status=400]"))
    results = await lab.results(remote)

    assert [result.line_id for result in results if result.status == 400] == [f"{MARKER}-120"]
    assert [result.line_id for result in results if result.status == 0] == [None]
    assert len(results) == 121
