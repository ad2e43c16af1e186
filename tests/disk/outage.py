"""A gateway that accepts until the power goes, and the next one that looks for what was accepted."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx2

from gateway.clock import SystemClock
from gateway.sandbox import SandboxServer
from gateway.store.ledger import Ledger
from gateway.store.sqlite import FILE_NAME, SqliteDatabase
from gateway_openai.sandbox import OpenAISimulator
from tests.disk import world
from tests.integration.house import MODEL, messages

CLIENTS = 6
prepare = world.prepare


def accept_for_ever(directory: Path, durability: str, tell: int) -> None:
    """Accept requests, and write the name of each to `tell` as soon as its client has the gateway's word for it."""
    world.quietly(directory.parent / "log")
    asyncio.run(_accept(directory, durability, tell))


async def _accept(directory: Path, durability: str, tell: int) -> None:
    # Beside what loses power: the provider does not.
    home = directory.parent / "provider"
    simulator = OpenAISimulator(clock=SystemClock(), name="sim", settings=world.QUICK, directory=home)
    async with SandboxServer([simulator]) as server:
        here = world.World(
            directory=directory,
            simulator=simulator,
            provider_url=server.base_url(simulator),
            clock=world.FastClock(),
            durability=durability,
        )
        async with world.a_life(here) as http:
            await asyncio.gather(*(_client(http, number, tell) for number in range(CLIENTS)))


async def _client(http: httpx2.AsyncClient, number: int, tell: int) -> None:
    for question in range(100_000):
        name = f"{number}-{question}"
        response = await http.post(
            "/v1/chat/completions",
            json={"model": MODEL, "messages": messages(name)},
            headers={"prefer": "respond-async", "x-batchway-custom-id": name},
        )
        if response.status_code == 202:
            os.write(tell, name.encode() + b"\n")


def missing(directory: Path, names: list[str]) -> tuple[int, str]:
    """How many of `names` the ledger does not know; and what is wrong with it."""
    return asyncio.run(_missing(directory, names))


async def _missing(directory: Path, names: list[str]) -> tuple[int, str]:
    ledger = await Ledger.open(SqliteDatabase.open(directory), SystemClock())
    found = [await ledger.requests.find("", "", name) for name in names]
    await ledger.close()
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        sound = connection.execute("PRAGMA integrity_check").fetchall()
    return found.count(None), "" if sound == [("ok",)] else str(sound)
