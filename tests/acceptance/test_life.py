"""Start and stop of the real process, as callers and operators see them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from typing import BinaryIO

import aiohttp
import pytest

from gateway.records import BatchState, RequestState
from gateway.sandbox import Fault, FaultKind
from tests.acceptance.stand import COMMAND, Finished, Stand, Times, is_answer, request_body, run_client, until

PATH = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
#: What a client tells of its own read timeout: it is committed to after half of it, or after 10 s at most.
HASTY = {**JSON, "x-stainless-read-timeout": "1"}
PATIENT = {**JSON, "x-stainless-read-timeout": "600"}
#: From a signal to end until the process is gone; it takes about 0.2 s on a quiet machine.
GONE_SECONDS = 5.0

#: A start that comes as far as loading the HTTP server and waits there for a file.
SLOW_LOADING = """
import pathlib, sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        while name == "aiohttp" and not pathlib.Path(__file__).with_name("loading-may-go-on").exists():
            time.sleep(0.01)

sys.meta_path.insert(0, Slow())
"""


async def test_models_with_a_batch_price_are_listed(stand: Stand) -> None:
    """Nobody has asked for anything yet, and the list of models has those that the price list knows in batches."""
    await stand.start()
    async with aiohttp.ClientSession(stand.url) as http, http.get("/v1/models") as response:
        listed = {model["id"]: model["owned_by"] for model in (await response.json())["data"]}

    assert listed["gpt-4.1-mini"] == "sim"


async def test_sigterm_sends_callers_away_and_leaves_the_provider_at_work(stand: Stand) -> None:
    """Callers in grace get a 503 to try again, committed ones are cut off; the next start delivers what was paid for."""
    stand.simulator.faults.order(Fault(kind=FaultKind.ENDLESS, times=None))
    await stand.start()
    async with aiohttp.ClientSession(stand.url) as http:
        committed = await http.post(PATH, data=request_body("Committed?"), headers=HASTY)
        in_grace = asyncio.create_task(http.post(PATH, data=request_body("In grace?"), headers=PATIENT).__aenter__())
        await until(lambda: stand.in_batches(BatchState.SUBMITTED) == 2, "both are with the provider")

        status = await stand.terminate(GONE_SECONDS)

        sent_away = await in_grace
        assert (sent_away.status, sent_away.headers["Retry-After"]) == (503, "5")
        assert (await sent_away.json())["error"]["code"] == "stopping"
        assert committed.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await committed.read()
    assert status == 0
    assert stand.simulator.ledger.calls["cancel"] == 0

    await stand.start()
    stand.simulator.faults.clear()
    for batch_id in list(stand.simulator.store.batches):
        await stand.simulator.finish(batch_id)
    async with aiohttp.ClientSession(stand.url) as http:
        for question in ("Committed?", "In grace?"):
            assert is_answer(await answer(http, question), question)
    assert await stand.asked_once(2)


async def test_sigterm_with_hundreds_of_callers_ends_as_quickly(stand: Stand) -> None:
    """However many wait, the process is gone a moment after SIGTERM, and everyone in grace was told to come again."""
    await stand.start(Times(window_seconds=600.0, idle_seconds=600.0))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(stand.url, connector=connector) as http:
        callers = [
            asyncio.create_task(http.post(PATH, data=request_body(f"Number {n}?"), headers=PATIENT).__aenter__())
            for n in range(400)
        ]
        await until(lambda: stand.requests(RequestState.QUEUED) == len(callers), "all are queued")
        status = await stand.terminate(GONE_SECONDS)
        answers = await asyncio.gather(*callers)

    assert status == 0
    assert {response.status for response in answers} == {503}


@pytest.mark.parametrize("log", ["full", "closed"])
async def test_a_log_that_cannot_be_written_holds_up_nothing(stand: Stand, log: str) -> None:
    """On a full disk, or with a reader that has gone, the gateway starts, answers, and stops in order."""
    stand.configure(Times())
    with Path("/dev/full").open("wb") if log == "full" else unread() as errors:
        process = subprocess.Popen([COMMAND, "serve", "--config", stand.config], stderr=errors)
    try:
        async with aiohttp.ClientSession(stand.url) as http:
            _, first = await first_connection(stand.port)
            first.close()
            assert is_answer(await answer(http, "Does anybody listen?"), "Does anybody listen?")
        process.terminate()
        await until(lambda: process.poll() is not None, "the process ends")
    finally:
        process.kill()

    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_ctrl_c_and_a_closed_terminal_end_it_in_order(stand: Stand, number: signal.Signals) -> None:
    """As SIGTERM does: callers in grace are told to come again."""
    before = signal.signal(number, signal.SIG_DFL)  # what the process inherits, also under nohup
    await stand.start(Times(window_seconds=600.0, idle_seconds=600.0))
    signal.signal(number, before)
    async with aiohttp.ClientSession(stand.url) as http:
        caller = asyncio.create_task(http.post(PATH, data=request_body("In grace?"), headers=PATIENT).__aenter__())
        await until(lambda: stand.requests(RequestState.QUEUED) == 1, "it is queued")
        stand.send(number)
        status = await stand.gone(GONE_SECONDS)

        assert (status, (await caller).status) == (0, 503)


async def test_nobody_is_refused_from_the_moment_it_listens(stand: Stand, tmp_path: Path) -> None:
    """However long loading takes, callers that connect meanwhile are kept by the kernel and answered; nobody is refused."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_LOADING, encoding="utf-8")
    stand.launch(PYTHONPATH=str(tmp_path))
    reader, writer = await first_connection(stand.port)
    body = request_body("Anybody home?")
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode("ascii") + body)
    others = [await asyncio.open_connection("127.0.0.1", stand.port) for _ in range(300)]

    (tmp_path / "loading-may-go-on").touch()
    while not stand.events("listening"):
        others.append(await asyncio.open_connection("127.0.0.1", stand.port))
        await asyncio.sleep(0.01)
    text = (await asyncio.wait_for(reader.read(), 60)).decode()
    for _, each in [(reader, writer), *others]:
        each.close()

    assert text.startswith("HTTP/1.1 200 ")
    assert "You said: Anybody home? " in text


async def test_a_second_gateway_on_one_directory_is_refused(stand: Stand) -> None:
    """A second `serve` on a directory in use ends with a non-zero status and names the process it met; the first goes on."""
    await stand.start()
    assert stand.process is not None
    owner = stand.process.pid

    ended = await serve_once(stand.config)

    assert ended.status != 0
    assert f"in use by process {owner}" in ended.errors
    async with aiohttp.ClientSession(stand.url) as http:
        assert is_answer(await answer(http, "Still there?"), "Still there?")


async def test_a_taken_port_is_named(stand: Stand, tmp_path: Path) -> None:
    """A `serve` whose port is taken ends with a non-zero status and names address and port."""
    await stand.start()
    config = tmp_path / "other.toml"
    config.write_text(f'[server]\nport = {stand.port}\n[storage]\ndirectory = "elsewhere"\n', encoding="utf-8")

    ended = await serve_once(config)

    assert ended.status != 0
    assert f"127.0.0.1:{stand.port}" in ended.errors


async def test_a_bad_configuration_is_told_whole(tmp_path: Path) -> None:
    """A `serve` with mistakes in its configuration ends with a non-zero status and lists all of them, without a traceback."""
    config = tmp_path / "config.toml"
    config.write_text(
        "[server]\nport = 99999\n[batching]\nwindow_secs = 3\n[polling]\nmin_seconds = -1\n"
        '[providers.x]\nkind = "nonsense"\n[[routes]]\nmodel = "*"\nprovider = "y"\n',
        encoding="utf-8",
    )

    ended = await serve_once(config)

    assert ended.status != 0
    assert "Traceback" not in ended.errors
    for mistake in ("server.port", "batching.window_secs", "polling.min_seconds", "nonsense", "providers.y"):
        assert mistake in ended.errors


def unread() -> BinaryIO:
    """A pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "wb")


async def first_connection(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The first connection that is accepted on `port`."""
    found: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def connects() -> bool:
        try:
            found.append(await asyncio.open_connection("127.0.0.1", port))
        except ConnectionRefusedError:
            return False
        return True

    await until(connects, "somebody listens", look_seconds=0.001)
    return found[0]


async def answer(http: aiohttp.ClientSession, question: str) -> str:
    """The answer to an ordinary call."""
    async with http.post(PATH, data=request_body(question), headers=JSON) as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["choices"][0]["message"]["content"])


async def serve_once(config: Path) -> Finished:
    """Run `batchway serve` to its end, which should come soon."""
    return await run_client([COMMAND, "serve", "--config", config], seconds=60.0)
