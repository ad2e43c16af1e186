"""Keys and prompts are planted everywhere, everything goes wrong, and nothing of them is found where it must not be.

One real process with every kind, its log at debug level; what it wrote, answered and left behind is searched as bytes.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import stat
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx2
import pytest

from gateway.cli.demo.cast import parts
from gateway.clock import SystemClock
from gateway.sandbox import Fault, FaultKind, Operation, SandboxServer, SandboxSettings, Simulator
from gateway.store.sqlite import FILE_NAME
from gateway_openai.sandbox import OpenAISimulator
from tests.acceptance.stand import COMMAND, Times, clean_environment, free_port, until

QUICK = SandboxSettings(validating_seconds=0.0, running_seconds=0.05, finalizing_seconds=0.0)
#: In every key, and nowhere else. No known shape of a key: what is found must have been known to be one.
KEY = "kq7zkeycanary"
PROMPT = "pq7zpromptcanary"
CLIENTS = {"one": f"{KEY}-client-one", "two": f"{KEY}-client-two"}
BILLED = f"{KEY}-password"
SEALED_SECONDS = 0.5
CHAT = "/v1/chat/completions"
LATER = {"Prefer": "respond-async"}
#: How often a batch is made again differs from run to run: unless told otherwise, lists end after the latest 50.
ALL_BATCHES, ALL_REQUESTS = "batches --json --limit 1000", "requests --json --limit 1000"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One process before every kind of provider."""

    directory: Path
    process: subprocess.Popen[bytes]
    kinds: Sequence[str]
    simulators: Mapping[str, Simulator]
    models: Mapping[str, str]
    http: httpx2.AsyncClient
    #: What was told to the client that asked nothing of it.
    told_to_two: list[bytes] = field(default_factory=list)

    @property
    def log(self) -> bytes:
        """What the process wrote to standard error."""
        return (self.directory / "serve.log").read_bytes()

    async def ask(self, kind: str, words: str, **headers: str) -> httpx2.Response:
        """A question of the first client."""
        body = {"model": f"{kind}/{self.models[kind]}", "messages": [{"role": "user", "content": f"{PROMPT} {words}"}]}
        return await self.post("one", CHAT, body, **headers)

    async def post(self, client: str, path: str, body: object, **headers: str) -> httpx2.Response:
        """What this client is told; bytes are sent as they are."""
        given = {"Authorization": f"Bearer {CLIENTS[client]}", "Content-Type": "application/json", **headers}
        if isinstance(body, bytes):
            return await self.http.post(path, content=body, headers=given)
        return await self.http.post(path, json=body, headers=given)

    async def get(self, client: str, path: str) -> httpx2.Response:
        """What this client reads."""
        return await self.http.get(path, headers={"Authorization": f"Bearer {CLIENTS[client]}"})

    def command(self, *words: str) -> bytes:
        """What a command says, on both of its outputs."""
        done = subprocess.run(
            [COMMAND, *words, "--config", self.directory / "config.toml"],
            capture_output=True,
            check=False,
            timeout=60,
            env=environment(),
        )
        return done.stdout + done.stderr


def environment() -> dict[str, str]:
    """One client's key comes from there."""
    return clean_environment(CLIENT_ONE=CLIENTS["one"])


def configured(kinds: Sequence[str], addresses: Mapping[str, str], port: int) -> str:
    """Every kind with a key of its own; one more with a password in its address, and one with a key in a header."""
    tables = [
        f'[providers.{kind}]\nkind = "{kind}"\nsandbox = true\nsandbox_url = "{addresses[kind]}"\n'
        f'api_key = "{KEY}-{kind}"\nlimits = {{ min_poll_seconds = 0.05 }}\n'
        for kind in kinds
    ]
    plain = 'kind = "openai-compatible"\n'
    with_password = addresses["credentials"].replace("://", f"://user:{BILLED}@")
    return (
        f'[server]\nport = {port}\n[storage]\ndirectory = "data"\n{Times(idle_seconds=SEALED_SECONDS).toml()}'
        '[[clients]]\nname = "one"\nkey = "${CLIENT_ONE}"\n'
        f'[[clients]]\nname = "two"\nkey = "{CLIENTS["two"]}"\n'
        + "".join(tables)
        + f'[providers.credentials]\n{plain}api_key = "{KEY}-credentials"\nbase_url = "{with_password}"\n'
        + f'[providers.header]\n{plain}api_key = "{KEY}-header"\nkey_header = "X-Api-Key"\n'
        + f'base_url = "{addresses["header"]}"\nlimits = {{ min_poll_seconds = 0.05 }}\n'
    )


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    """The process and its providers."""
    cast = parts([])
    clock = SystemClock()
    simulators: dict[str, Simulator] = {
        part.kind: part.simulator_class(
            clock=clock,
            name=part.kind,
            settings=replace(QUICK, api_key="" if part.kind == "vertex" else f"{KEY}-{part.kind}"),
        )
        for part in cast
    }
    more = {name: OpenAISimulator(clock=clock, name=name, settings=QUICK) for name in ("credentials", "header")}
    port = free_port()
    async with SandboxServer([*simulators.values(), *more.values()]) as server:
        addresses = {name: server.base_url(each) for name, each in {**simulators, **more}.items()}
        config = directory / "config.toml"
        config.write_text(configured(list(simulators), addresses, port), encoding="utf-8")
        with (directory / "serve.log").open("wb") as log:
            process = subprocess.Popen(
                [COMMAND, "serve", "--config", config, "--log-level", "debug"],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=environment(),
            )
        models = {part.kind: part.model for part in cast} | dict.fromkeys(more, "sim-small")
        url = f"http://127.0.0.1:{port}"
        try:
            async with httpx2.AsyncClient(base_url=url, timeout=90, verify=False) as http:
                here = Scene(
                    directory=directory,
                    process=process,
                    kinds=list(simulators),
                    simulators={**simulators, **more},
                    models=models,
                    http=http,
                )
                await until(lambda: b'"listening"' in here.log, "serve listens")
                yield here
        finally:
            process.kill()
            process.wait()


def break_everything(here: Scene) -> None:
    """Refusals that quote the prompt, lost calls, broken rows, a key that is refused: something else at each kind."""
    quoting = f"cannot take this: {PROMPT} is in it"
    lost = itertools.cycle([Operation.UPLOAD, Operation.POLL, Operation.LIST, Operation.FETCH, Operation.DISCARD])
    rows = itertools.cycle([FaultKind.ROW_STATUS_0, FaultKind.ROW_NO_CHOICES])
    for simulator in here.simulators.values():
        for operation in (next(lost), Operation.DISCARD):
            simulator.faults.order(
                Fault(kind=FaultKind.STATUS, operation=operation, status=503, when="after", message=quoting)
            )
        if simulator.kind != "anthropic":
            # Of a batch without a marker, rows without an answer prove nothing: it would be held for as long as anybody waits.
            simulator.faults.order(Fault(kind=next(rows)))
        for operation in (Operation.CREATE, Operation.COMPLETE):
            simulator.faults.order(
                Fault(kind=FaultKind.STATUS, operation=operation, status=400, message=quoting, times=2)
            )
        simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="after"))
    refused = Fault(kind=FaultKind.STATUS, operation=Operation.POLL, status=401, message=f"Incorrect key: {KEY}-groq")
    here.simulators["groq"].faults.order(refused)


async def live(here: Scene) -> None:
    """Everybody asks, what can go wrong goes wrong, and the other client looks wherever it can."""
    break_everything(here)
    asked = [
        here.ask(kind, f"{kind} {words}", **LATER, **{"x-batchway-custom-id": f"one-{kind}-{number}"})
        for kind in here.simulators
        for number, words in enumerate(("plain", "plain too", "[sandbox: status=400]"))
    ]
    broken = [
        f'{{"model": "x", "messages": "{PROMPT}'.encode(),
        {"model": PROMPT, "messages": [{"role": "user", "content": PROMPT}]},
        {"model": "openai/m", "messages": PROMPT},
        {"model": "openai/m", "messages": [{"role": PROMPT}], "stream": PROMPT},
        PROMPT.encode() * 10,
    ]
    await asyncio.gather(*asked, *(here.post("one", CHAT, body) for body in broken))

    async def over() -> bool:
        # A key that is refused stops its table for ten minutes: those are not waited for.
        waited = [kind for kind in here.kinds if kind != "groq"]
        states = [(await here.get("one", f"/v1/results/one-{kind}-0")).status_code for kind in waited]
        return 202 not in states

    await until(over, "the requests end", 200, look_seconds=0.5)
    for kind in here.simulators:
        here.told_to_two.append((await here.get("two", f"/v1/results/one-{kind}-0")).content)
    here.told_to_two.append((await here.get("two", "/v1/results")).content)
    for words in ({"messages": 7}, {"model": "openai/m"}, b"no json"):
        here.told_to_two.append((await here.post("two", CHAT, words)).content)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Scene]:
    """The scene after everything has happened."""
    async with scene(tmp_path) as after:
        await live(after)
        yield after


async def told(here: Scene) -> dict[str, bytes]:
    """Whatever people and other processes can see of a gateway, but for its storage."""
    commands = ["batches", ALL_BATCHES, ALL_REQUESTS, "check", "doctor"]
    # In threads: the simulators are in this process, and a command may ask them.
    said = await asyncio.gather(*(asyncio.to_thread(here.command, *words.split()) for words in commands))
    operator = (here.directory / "data" / "operator.token").read_text().strip()
    steered = await here.http.get("/ops/batches", headers={"Authorization": f"Bearer {operator}"})
    return {
        **dict(zip(commands, said, strict=True)),
        "/ops/batches": steered.content,
        **{path: (await here.get("two", path)).content for path in ("/readyz", "/v1/models", "/v1/results")},
        "log": here.log,
        "metrics": (await here.get("one", "/metrics")).content,
        "its own answer": (await here.get("one", "/v1/results/one-openai-0")).content,
        "other clients": b"\n".join(here.told_to_two),
        "arguments": Path(f"/proc/{here.process.pid}/cmdline").read_bytes(),
        "file names": b"\n".join(os.fsencode(path) for path in (here.directory / "data").rglob("*")),
    }


@pytest.mark.timeout(300)
async def test_no_canary_is_seen(here: Scene) -> None:
    """Keys and prompts are in no log, metric, listing, argument or file name, nor told to other clients; no key is on disk."""
    places = await told(here)
    here.process.terminate()
    await asyncio.to_thread(here.process.wait)
    places["reconcile"] = await asyncio.to_thread(here.command, "reconcile", "--all")

    # The scene is what it says: everything was asked, and everything went wrong.
    assert b"one-openai-0" in places[ALL_REQUESTS]
    assert b"credentials" in places[ALL_BATCHES]
    for event in ("batch_doubted", "batch_adopted", "batch_dissolved", "key_refused", "batch_hitch", "discard_failed"):
        assert f'"event":"{event}"'.encode() in here.log
    assert PROMPT.encode() in places.pop("its own answer")
    assert b"unauthorised_providers" in places["/readyz"]
    assert b'"object": "list"' in places["/ops/batches"]
    assert b"reading what groq has" in places["reconcile"]
    assert [name for name, place in places.items() if KEY.encode() in place] == []
    assert [name for name, place in places.items() if PROMPT.encode() in place] == []
    kept = [path for path in (here.directory / "data").rglob("*") if path.is_file()]
    assert [path.name for path in kept if KEY.encode() in path.read_bytes()] == []
    assert [path for path in kept if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    folders = [path for path in (here.directory / "data").rglob("*") if path.is_dir()]
    assert [path for path in folders if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert rows_of(here.directory / "data" / FILE_NAME, "two", PROMPT) == []


def rows_of(ledger: Path, client: str, text: str) -> list[tuple[object, ...]]:
    """Rows of one client in which `text` is."""
    query = (
        "SELECT r.seq FROM requests r LEFT JOIN payloads p ON p.seq = r.seq LEFT JOIN results s ON s.id = r.result "
        "WHERE r.client = ? AND (instr(p.body, ?) OR instr(s.body, ?))"
    )
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
        found: list[tuple[object, ...]] = connection.execute(query, (client, text.encode(), text.encode())).fetchall()
        return found
