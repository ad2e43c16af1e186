"""Bugs in a plugin whose exceptions quote a key and a prompt: their words reach nobody, wherever they are raised.

One real process, its log at debug level; then the commands that look at what it left.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2

from gateway.clock import SystemClock
from gateway.sandbox import Fault, FaultKind, Operation, SandboxServer, SandboxSettings
from gateway_openai.sandbox import OpenAISimulator
from tests.acceptance.stand import COMMAND, MODEL, Times, clean_environment, free_port, until
from tests.integration import leaky

CHAT = "/v1/chat/completions"
#: Known as keys by their table only: nothing about their shape says so.
KEY = "kq7zkeycanary"
PROMPT = "pq7zpromptcanary"
CLIENTS = {"one": "client-of-one", "two": "client-of-two"}
QUICK = SandboxSettings(validating_seconds=0.0, running_seconds=0.05, finalizing_seconds=0.0)
#: The simulators: one that is quick, one whose batches run on, one that loses the answers to creates.
SLOW, LOST = leaky.name("cancel"), leaky.name("find")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One process and its broken plugin."""

    directory: Path
    site: Path
    http: httpx2.AsyncClient

    @property
    def log(self) -> bytes:
        """What the process wrote to standard error."""
        return (self.directory / "serve.log").read_bytes()

    def command(self, words: str) -> bytes:
        """What a command says, on both of its outputs."""
        done = subprocess.run(
            [COMMAND, *words.split(), "--config", self.directory / "config.toml"],
            capture_output=True,
            check=False,
            timeout=60,
            env=clean_environment(PYTHONPATH=str(self.site)),
        )
        return done.stdout + done.stderr

    async def ask(self, client: str, kind: str) -> bytes:
        """What this client is told, status line and all."""
        body = {
            "model": f"{kind}/{MODEL}",
            "messages": [{"role": "user", "content": f"{PROMPT} of {client}, {kind}"}],
            "response_format": {"type": "json_object"},
        }
        headers = {"Prefer": "respond-async", "x-batchway-custom-id": f"{client}-{kind}", **authorised(client)}
        response = await self.http.post(CHAT, json=body, headers=headers)
        return b"%d %b %b" % (response.status_code, repr(response.headers).encode(), response.content)

    async def get(self, path: str, key: str) -> bytes:
        """What is read there."""
        return (await self.http.get(path, headers={"Authorization": f"Bearer {key}"})).content


def authorised(client: str) -> dict[str, str]:
    """A client's key."""
    return {"Authorization": f"Bearer {CLIENTS[client]}"}


@contextmanager
def served(directory: Path, site: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The gateway, until the end of the block."""
    with (directory / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [COMMAND, "serve", "--config", directory / "config.toml", "--log-level", "debug"],
            stdin=subprocess.DEVNULL,
            stderr=log,
            env=clean_environment(PYTHONPATH=str(site)),
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[tuple[Scene, subprocess.Popen[bytes]]]:
    """A process with every kind that is broken."""
    site = leaky.installed(directory / "site", f"{KEY}-of-a-plugin was sent with {PROMPT}")
    clock = SystemClock()
    names = {"quick": QUICK, "slow": replace(QUICK, running_seconds=3_000.0), "lost": QUICK}
    simulators = {
        name: OpenAISimulator(clock=clock, name=name, settings=settings, directory=directory / name)
        for name, settings in names.items()
    }
    simulators["lost"].faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="after", times=None))
    port = free_port()
    async with SandboxServer(list(simulators.values())) as server:
        addresses = {SLOW: server.base_url(simulators["slow"]), LOST: server.base_url(simulators["lost"])}
        quick = server.base_url(simulators["quick"])
        clients = "".join(f'[[clients]]\nname = "{name}"\nkey = "{key}"\n' for name, key in CLIENTS.items())
        tables = "".join(leaky.table(kind, addresses.get(kind, quick), f"{KEY}-of-a-plugin") for kind in leaky.KINDS)
        storage = f'[server]\nport = {port}\n[storage]\ndirectory = "data"\n{Times(quarantine_seconds=0.2).toml()}'
        storage += 'invalid_output = "retry"\n'
        (directory / "config.toml").write_text(storage + clients + tables, encoding="utf-8")
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, verify=False) as http:
            with served(directory, site) as process:
                here = Scene(directory=directory, site=site, http=http)
                await until(lambda: b'"listening"' in here.log, "serve listens")
                yield here, process


def unbroken(here: Scene) -> list[str]:
    """The verbs that have not raised yet, as far as the log says."""
    told = [
        (line["provider"], line["verb"])
        for line in map(json.loads, here.log.splitlines())
        if line["event"] == "plugin_fault"
    ]
    return [verb for verb in leaky.FAULTY if (leaky.name(verb), verb) not in told]


async def test_the_words_of_a_plugins_exceptions_reach_nobody(tmp_path: Path) -> None:
    """Whatever verb raises them: not the log, the metrics, an operator's lists, another client, nor, with a key, anybody."""
    async with scene(tmp_path) as (here, process):
        ones = [await here.ask("one", kind) for kind in leaky.KINDS]

        async def over() -> bool:
            batches = json.loads(await here.get("/ops/batches", operator))["data"]
            if any(batch["provider"] == SLOW and batch["state"] == "submitted" for batch in batches):
                await here.http.delete(f"/v1/results/one-{SLOW}", headers=authorised("one"))
            sealed = [batch for batch in batches if batch["provider"] == leaky.name("seal") and batch["parked_reason"]]
            return bool(sealed) and not unbroken(here)

        operator = (tmp_path / "data" / "operator.token").read_text().strip()
        try:
            await until(over, "every verb has broken", 60, look_seconds=0.2)
        except AssertionError as error:
            raise AssertionError(f"not broken: {unbroken(here)}") from error
        twos = [await here.ask("two", kind) for kind in leaky.KINDS]
        ones += [await here.get(f"/v1/results/one-{kind}", CLIENTS["one"]) for kind in leaky.KINDS]
        steered = {
            path: (await here.http.post(path, json=body, headers={"Authorization": f"Bearer {operator}"})).content
            for path, body in (("/ops/flush", {}), ("/ops/cancel", {"custom_id": "one-leaky-poll"}))
        }
        paths = ("/ops/batches", "/readyz", "/healthz", "/metrics", "/v1/models", "/v1/results")
        places = {
            **steered,
            **{path: await here.get(path, operator if path.startswith("/ops") else CLIENTS["two"]) for path in paths},
            "told to the other client": b"\n".join(twos),
        }
        running = ["batches", "requests", "doctor", "plugins"]
        places |= await said(here, running)
        process.terminate()
        await asyncio.to_thread(process.wait)
        places |= await said(here, ["reconcile --all"])
        places["log"] = here.log
    kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]

    assert b"plugin of kind 'leaky-poll' raised RuntimeError in poll" in places["/ops/batches"]
    assert b"leaky-submit" in places["reconcile --all"]
    assert [name for name, place in places.items() if KEY.encode() in place] == []
    assert [name for name, place in places.items() if PROMPT.encode() in place] == []
    assert [told for told in ones if KEY.encode() in told] == []
    assert [path.name for path in kept if KEY.encode() in path.read_bytes()] == []


async def said(here: Scene, commands: list[str]) -> dict[str, bytes]:
    """What the commands say; in threads, since they may ask the simulators."""
    told = await asyncio.gather(*(asyncio.to_thread(here.command, words) for words in commands))
    return dict(zip(commands, told, strict=True))
