"""A real disk of a few megabytes that is filled to the last byte under a running gateway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from gateway.clock import SystemClock
from gateway.errors import StorageFull
from gateway.sandbox import SandboxServer, SandboxSettings
from gateway_openai.sandbox import OpenAISimulator
from tests.disk.world import FastClock, World, a_life
from tests.integration.house import MODEL, messages

DISK_BYTES = 24 << 20
MIN_FREE_BYTES = 4 << 20
#: Batches take this long: there is time to fill the disk.
SLOW = SandboxSettings(validating_seconds=0.0, running_seconds=1.0, finalizing_seconds=0.0)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Of its own; only whoever may mount one can have it."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", place], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@asynccontextmanager
async def open_world(disk: Path) -> AsyncIterator[World]:
    """A provider that stays, and a directory on the small disk."""
    simulator = OpenAISimulator(clock=SystemClock(), name="sim", settings=SLOW)
    async with SandboxServer([simulator]) as server:
        yield World(
            directory=disk / "data",
            simulator=simulator,
            provider_url=server.base_url(simulator),
            clock=FastClock(),
            min_free_bytes=MIN_FREE_BYTES,
        )


def free(disk: Path) -> int:
    """Bytes that may still be written."""
    room = os.statvfs(disk)
    return room.f_bavail * room.f_frsize


def fill(disk: Path, leave: int) -> None:
    """Let somebody else's file grow until only so much is left, or nothing at all."""
    with (disk / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while (left := free(disk) - leave) > 0:
            file.write(bytes(min(left, 1 << 16)))


async def post(http: httpx2.AsyncClient, text: str, **headers: str) -> httpx2.Response:
    """One question."""
    asking = {"x-stainless-read-timeout": "600", **headers}
    body = {"model": MODEL, "messages": messages(text)}
    return await http.post("/v1/chat/completions", json=body, headers=asking)


async def until_ended(http: httpx2.AsyncClient, location: str) -> httpx2.Response:
    """The answer of what was accepted, when it is there."""
    async with asyncio.timeout(30):
        while (response := await http.get(location)).status_code == 202:
            await asyncio.sleep(0.05)
    return response


async def until_ready(http: httpx2.AsyncClient) -> None:
    """Return when new requests are accepted."""
    async with asyncio.timeout(30):
        while (await http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("leave", [MIN_FREE_BYTES // 2, 0])
async def test_a_full_disk_refuses_serves_and_goes_on(disk: Path, leave: int) -> None:
    """503 for what is new, answers for what is there; when somebody makes room all goes on by itself, reserve and all."""
    async with open_world(disk) as world, a_life(world) as http:
        first = await post(http, "before", **{"x-batchway-custom-id": "name"})
        unnamed = await post(http, "before, without a name")
        under_way = await post(http, "under way", prefer="respond-async")
        fill(disk, leave)
        # What happens meanwhile writes, if only a few bytes: the last megabyte may have to go.
        await asyncio.sleep(0.8)
        fill(disk, leave)
        refused = [await post(http, f"new {n}") for n in range(3)]
        again = [
            await post(http, "before", **{"x-batchway-custom-id": "name"}),
            await post(http, "before, without a name"),
            await http.get("/v1/results/name"),
        ]
        ready = await http.get("/readyz")
        (disk / "ballast").unlink()
        await until_ready(http)
        finished = await until_ended(http, under_way.headers["location"])
        fresh = await post(http, "new 0")
        repeated = (await world.simulator.submissions()).repeated
        reserve = (disk / "data" / "reserve").stat().st_size

    assert [(each.status_code, each.json()["error"]["code"]) for each in refused] == [(503, "storage_full")] * 3
    assert all(0 < int(each.headers["retry-after"]) <= 60 for each in refused)
    assert [each.json() for each in again] == [first.json(), unnamed.json(), first.json()]
    assert ready.status_code == 503
    assert (finished.status_code, fresh.status_code) == (200, 200)
    assert "under way" in finished.text
    assert (repeated, reserve, world.complaints) == ({}, 1 << 20, [])


async def test_a_gateway_starts_on_a_full_disk_and_serves(disk: Path) -> None:
    """The reserve is enough to start with: what is stored is delivered, and the rest goes on when there is room."""
    async with open_world(disk) as world:
        async with a_life(world) as http:
            first = await post(http, "before")
            under_way = await post(http, "under way", prefer="respond-async")
        fill(disk, 0)
        async with a_life(world) as http:
            again = await post(http, "before")
            refused = await post(http, "new")
            (disk / "ballast").unlink()
            finished = await until_ended(http, under_way.headers["location"])

    assert again.json() == first.json()
    assert refused.status_code == 503
    assert "under way" in finished.text


async def test_without_a_reserve_a_full_disk_is_said_at_the_start(disk: Path) -> None:
    """Where there is no byte left to start with, the start is refused in words, and nothing is harmed."""
    async with open_world(disk) as world:
        async with a_life(world) as http:
            first = await post(http, "before")
        (disk / "data" / "reserve").unlink()
        fill(disk, 0)
        with pytest.raises(StorageFull, match="no room on the disk"):
            async with a_life(world):
                pass
        (disk / "ballast").unlink()
        async with a_life(world) as http:
            again = await post(http, "before")

    assert again.json() == first.json()
