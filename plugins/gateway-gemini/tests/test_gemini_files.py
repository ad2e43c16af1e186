"""Bringing a spool to Gemini: the name is ours, so that every upload of a batch is of the same file."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
from gemini_lab import MARKER, chat, simulator

from gateway import (
    Batch,
    RemoteState,
    Retryable,
)
from gateway.sandbox import Fault, FaultKind
from gateway.testing import Lab
from gateway_gemini.wire import _Stoppable


async def test_a_second_upload_finds_the_first(lab: Lab) -> None:
    """An upload that is repeated, as after a crash, uses the file that is there whole, and uploads nothing."""
    batch = lab.seal(chat("x"))
    first = await lab.provider.upload(batch)
    second = await lab.provider.upload(batch)

    assert first == second
    assert len(lab.simulator.store.files) == 1


async def test_a_file_that_is_not_whole_is_replaced(lab: Lab) -> None:
    """A file of our name and another size is deleted, and the next try uploads it anew."""
    await lab.provider.upload(lab.seal(chat("x")))
    batch = lab.seal(chat("a longer one"))
    with pytest.raises(Retryable, match="not whole"):
        await lab.provider.upload(batch)
    file_id = await lab.provider.upload(batch)

    assert simulator(lab).store.path(f"in_{MARKER}").read_bytes() == batch.spool.read_bytes()
    assert file_id == f"files/{MARKER}"


async def test_an_upload_waits_until_the_file_is_read(lab: Lab) -> None:
    """A file in PROCESSING is waited for, also one of a former upload; one that never ends is Retryable."""
    simulator(lab).settings = replace(lab.simulator.settings, file_pending_seconds=30)
    batch = await lab.upload(chat("x"))
    assert (await lab.provider.submit(batch)).state is RemoteState.RUNNING

    simulator(lab).settings = replace(lab.simulator.settings, file_pending_seconds=1_000_000)
    with pytest.raises(Retryable, match="still PROCESSING"):
        await lab.provider.upload(lab.seal(chat("x"), marker="z" * 20))
    with pytest.raises(Retryable, match="still PROCESSING"):
        await lab.provider.upload(lab.seal(chat("x"), marker="z" * 20))


async def test_a_file_that_the_batches_do_not_see_yet_is_retryable(lab: Lab) -> None:
    """A create call that cannot find the file just uploaded is tried again, and its 403 stops no account."""
    lab.simulator.faults.order(Fault(kind=FaultKind.FILE_LAG, seconds=10))
    batch = await lab.upload(chat("x"))
    with pytest.raises(Retryable, match="may not exist"):
        await lab.provider.submit(batch)
    lab.clock.jump(11)

    assert (await lab.provider.submit(batch)).state is RemoteState.RUNNING


async def test_concurrent_uploads_of_one_batch_end_well(lab: Lab) -> None:
    """Two uploads of one batch at once, as of two processes, leave one file; whoever comes late finds it or tries again."""
    batch = lab.seal(chat("x"))
    found = await asyncio.gather(*(lab.provider.upload(batch) for _ in range(3)), return_exceptions=True)

    assert f"files/{MARKER}" in found
    assert all(isinstance(each, str | Retryable) for each in found)
    assert await lab.provider.upload(batch) == f"files/{MARKER}"
    assert simulator(lab).store.path(f"in_{MARKER}").read_bytes() == batch.spool.read_bytes()


async def test_a_cancelled_upload_stops(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives an upload up does not leave a thread behind that goes on sending."""
    spool = lab.directory / "large"
    spool.write_bytes(b"x" * 30_000_000)
    batch = Batch(marker=MARKER, endpoint="/v1/chat/completions", model="m", count=1, size=30_000_000, spool=spool)
    started, stopped = threading.Event(), threading.Event()
    read = _Stoppable.read

    def watched(self: _Stoppable, size: int | None = -1, /) -> bytes:
        try:
            content = read(self, size)
        except InterruptedError:
            stopped.set()
            raise
        started.set()
        # The test decides when the next chunk goes: nobody waits for the upload any more by then.
        cancelled.wait(30)
        return content

    cancelled = threading.Event()
    monkeypatch.setattr(_Stoppable, "read", watched)
    upload = asyncio.ensure_future(lab.provider.upload(batch))
    await asyncio.to_thread(started.wait, 30)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    cancelled.set()

    assert await asyncio.to_thread(stopped.wait, 30)
    assert lab.simulator.store.files == {}
