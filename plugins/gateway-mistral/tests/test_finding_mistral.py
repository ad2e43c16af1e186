"""Finding our job in a list of numbered pages, which do not say where they end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from mistral_lab import Lab, chat

from gateway.clock import as_datetime


async def test_find_reads_all_pages(lab: Lab) -> None:
    """Our job is found behind 250 others, by its marker and by its file, and nothing else is."""
    started = as_datetime(lab.clock.now())
    batch = await lab.uploaded(chat("mine"))
    ours = await lab.provider.submit(batch)
    for n in range(250):
        lab.clock.jump(1)
        await lab.inline.submit(lab.seal(chat(str(n)), marker=f"{n:020d}"))
    by_marker = await lab.provider.find(replace(batch, file_id=None, first_sent=started))
    by_file = await lab.provider.find(replace(batch, marker="z" * 20, first_sent=started))

    assert [remote.remote_id for remote in by_marker] == [ours.remote_id]
    assert [remote.remote_id for remote in by_file] == [ours.remote_id]
    assert await lab.provider.find(replace(batch, marker="z" * 20, file_id=None, first_sent=started)) == []


async def test_find_stops_at_its_horizon(lab: Lab) -> None:
    """Jobs from before the first create call, less a day, are not even listed."""
    for n in range(150):
        await lab.inline.submit(lab.seal(chat(str(n)), marker=f"{n:020d}"))
    lab.clock.jump(48 * 3600)
    before = lab.simulator.ledger.calls["list"]
    batch = replace(lab.seal(chat("x")), first_sent=as_datetime(lab.clock.now()) - timedelta(minutes=1))

    assert await lab.provider.find(batch) == []
    assert lab.simulator.ledger.calls["list"] - before == 1
