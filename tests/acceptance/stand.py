"""A stand for acceptance tests: `batchway serve` as a real process on a port of its own, before a simulated OpenAI.

The simulator lives in the test's process, so that a test can order faults and read what was submitted; it stays when the
gateway is killed. Whatever a test waits for is a condition with a deadline, never a pause.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import orjson
from openai import AsyncOpenAI, omit

from gateway.clock import SystemClock
from gateway.records import BatchState, RequestState
from gateway.sandbox import SandboxServer, SandboxSettings, Simulator
from gateway.store.sqlite import FILE_NAME
from gateway_openai.sandbox import OpenAISimulator

MODEL = "sim-small"
#: What `pip install` put beside this interpreter.
COMMAND = Path(sys.executable).with_name("batchway")
#: For what takes well under a second on a quiet machine.
DEADLINE_SECONDS = 60.0
LOOK_SECONDS = 0.02
#: Events of the log that stand for a bug in the gateway, whatever happens around it.
NEVER_LOGGED = ("worker_died", "errand_failed", "request_failed", "library_message")
_EVENT = re.compile(rb'\{"event":"([^"]*)"')
#: A batch takes no longer than it must.
QUICK = SandboxSettings(validating_seconds=0.0, running_seconds=0.05, finalizing_seconds=0.0)


async def until(
    condition: Callable[[], object | Awaitable[object]],
    what: str,
    seconds: float = DEADLINE_SECONDS,
    *,
    look_seconds: float = LOOK_SECONDS,
) -> None:
    """Return when `condition` holds; fail with `what` when it has not within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        outcome = condition()
        if await outcome if inspect.isawaitable(outcome) else outcome:
            return
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(look_seconds)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def is_answer(text: str | None, question: str) -> bool:
    """Whether `text` is the simulated model's answer to `question` and to no other."""
    return (text or "").startswith(f"You said: {question} ")


@dataclass(frozen=True, kw_only=True)
class Times:
    """The gateway's times; short, unless a test wants a request to stay where it is."""

    window_seconds: float = 1.0
    idle_seconds: float = 0.1
    max_requests: int = 50_000
    quarantine_seconds: float = 0.5

    def toml(self) -> str:
        """The sections that hold them."""
        return (
            f"[batching]\nwindow_seconds = {self.window_seconds}\nidle_seconds = {self.idle_seconds}\n"
            f"max_window_seconds = {max(self.window_seconds, 900)}\nmax_requests = {self.max_requests}\n"
            "[polling]\nmin_seconds = 0.05\nmax_seconds = 0.2\n"
            f"[retries]\nquarantine_seconds = {self.quarantine_seconds}\nbackoff_seconds = 0.1\nbreaker_seconds = 0.1\n"
        )


@dataclass(kw_only=True)
class Stand:
    """One storage directory, one port, one simulator, and the process of the gateway that runs on them now, if any."""

    simulator: Simulator
    provider_url: str
    directory: Path
    #: The keys of its table but for the address.
    kind: str = 'kind = "openai"\napi_key = "sandbox"'
    #: Tables of providers, and what else the configuration shall hold, instead of the one table and its route.
    tables: str = ""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    _seen: Counter[str] = field(default_factory=Counter)
    _read_bytes: int = 0

    @property
    def url(self) -> str:
        """Where the gateway answers; `/v1` comes after it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.directory / "config.toml"

    @property
    def storage(self) -> Path:
        """The gateway's storage directory."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """What the processes wrote to standard error, one after the other."""
        return self.directory / "serve.log"

    def configure(self, times: Times) -> None:
        """Write the configuration file."""
        tables = self.tables or (
            f'[providers.sim]\n{self.kind}\nbase_url = "{self.provider_url}"\n'
            '[providers.sim.limits]\nmin_poll_seconds = 0.05\n[[routes]]\nmodel = "*"\nprovider = "sim"\n'
        )
        self.config.write_text(
            f'[server]\nport = {self.port}\n[storage]\ndirectory = "data"\n{times.toml()}{tables}', encoding="utf-8"
        )

    def launch(self, times: Times | None = None, **environment: str) -> None:
        """Start a process, with more variables in its environment, and return at once."""
        assert self.process is None, "the stand has one process at a time"
        self.configure(times or Times())
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "--config", self.config],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=clean_environment(**environment),
            )

    async def start(self, times: Times | None = None) -> None:
        """Start a process and return when it answers."""
        before = self.events("listening")
        self.launch(times)
        process = self.process
        assert process is not None

        def listens() -> bool:
            assert process.poll() is None, f"serve ended with {process.returncode}:\n{self.tail()}"
            return self.events("listening") > before

        await until(listens, "serve says that it listens")

    async def warm(self) -> None:
        """Return when the gateway has loaded what it needs for a request, which is silence to early callers.

        A call that takes nothing but a stored answer goes the whole way of a request and leaves nothing behind.
        """
        headers = {"Cache-Control": "only-if-cached", "Content-Type": "application/json"}
        async with httpx2.AsyncClient(base_url=self.url, timeout=DEADLINE_SECONDS) as http:
            response = await http.post("/v1/chat/completions", content=request_body("Warm?"), headers=headers)
        assert response.status_code == 504, response.text

    async def kill(self) -> None:
        """`kill -9`, and wait until the process is gone."""
        self.send(signal.SIGKILL)
        await self.gone()

    def send(self, number: signal.Signals) -> None:
        """Send it to the process; nothing happens to one that has just ended."""
        assert self.process is not None
        self.process.send_signal(number)

    async def terminate(self, seconds: float = DEADLINE_SECONDS) -> int:
        """SIGTERM, and wait for the exit status, for at most `seconds`."""
        self.send(signal.SIGTERM)
        return await self.gone(seconds)

    async def gone(self, seconds: float = DEADLINE_SECONDS) -> int:
        """The exit status of the process, once it has one."""
        process = self.process
        assert process is not None
        await until(lambda: process.poll() is not None, "the process ends", seconds)
        self.process = None
        return process.returncode

    def events(self, name: str) -> int:
        """How many lines of the log so far tell of an event of this name; what was read once is not read again."""
        if self.log.exists():
            with self.log.open("rb") as log:
                log.seek(self._read_bytes)
                whole = log.read().rpartition(b"\n")[0]
            self._read_bytes += len(whole) + bool(whole)
            found = (_EVENT.match(line) for line in whole.splitlines())
            self._seen.update(match[1].decode() for match in found if match)
        return self._seen[name]

    def tail(self) -> str:
        """The end of the log, for messages."""
        return "\n".join(self._lines()[-20:])

    def _lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []

    def client(self, *, run: str | None = None, timeout: float = 120.0, max_retries: int = 0) -> AsyncOpenAI:
        """The official client, pointed here."""
        base = self.url + (f"/run/{run}" if run else "") + "/v1"
        return AsyncOpenAI(api_key="none", base_url=base, timeout=timeout, max_retries=max_retries)

    def requests(self, state: RequestState) -> int:
        """How many requests are in `state`, by the gateway's ledger; a process that stands still can be asked too."""
        return self._count("SELECT count(*) FROM requests WHERE state = ?", state)

    def recorded(self) -> int:
        """How many requests there are in whatever state."""
        return self._count("SELECT count(*) FROM requests WHERE state <> ?", "")

    def log_bytes(self) -> int:
        """The length of the ledger's write-ahead log, which is copied into its file when it is long."""
        log = self.storage / f"{FILE_NAME}-wal"
        return log.stat().st_size if log.exists() else 0

    def integrity(self) -> str:
        """What SQLite says of the ledger's file."""
        with closing(sqlite3.connect(f"file:{self.storage / FILE_NAME}?mode=ro", uri=True)) as connection:
            return str(connection.execute("PRAGMA integrity_check").fetchone()[0])

    def in_batches(self, state: BatchState) -> int:
        """How many requests are in batches in `state`."""
        return self._count("SELECT coalesce(sum(count), 0) FROM batches WHERE state = ?", state)

    def batches(self, state: BatchState) -> int:
        """How many batches are in `state`."""
        return self._count("SELECT count(*) FROM batches WHERE state = ?", state)

    def _count(self, query: str, state: str) -> int:
        with closing(sqlite3.connect(f"file:{self.storage / FILE_NAME}?mode=ro", uri=True)) as connection:
            return int(connection.execute(query, (state,)).fetchone()[0])

    async def lines(self) -> int:
        """How many lines were ever submitted, of batches that the provider did not refuse."""
        return (await self.simulator.submissions()).accepted_lines

    async def asked_once(self, count: int) -> bool:
        """Whether `count` questions were submitted, each once."""
        submitted = await self.simulator.submissions()
        return submitted.accepted_lines == submitted.distinct == count

    def created(self) -> int:
        """How many batches the provider has made."""
        return len(self.simulator.store.batches)


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment without what would steer a gateway or a client."""
    steering = ("BATCHWAY_", "OPENAI_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    kept = {name: text for name, text in os.environ.items() if not name.upper().startswith(steering)}
    return {**kept, **extra}


@asynccontextmanager
async def open_stand(
    directory: Path, settings: SandboxSettings = QUICK, simulator: OpenAISimulator | None = None
) -> AsyncIterator[Stand]:
    """A stand whose gateway has not been started; its process and simulator end with the block."""
    simulator = simulator or OpenAISimulator(clock=SystemClock(), name="sim", settings=settings)
    async with SandboxServer([simulator]) as server:
        stand = Stand(simulator=simulator, provider_url=server.base_url(simulator), directory=directory)
        async with watched(stand):
            yield stand


@asynccontextmanager
async def watched(stand: Stand) -> AsyncIterator[None]:
    """The process of a stand ends with the block, and must not have logged a bug."""
    try:
        yield
    finally:
        if stand.process is not None:
            await stand.kill()
        # pytest shows it when the test has failed.
        sys.stderr.write(stand.tail())
    assert not [name for name in NEVER_LOGGED if stand.events(name)], stand.tail()


async def ask(client: AsyncOpenAI, question: str, *, temperature: float | None = None) -> str:
    """One ordinary call; the answer's text."""
    completion = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        temperature=omit if temperature is None else temperature,
    )
    return completion.choices[0].message.content or ""


def request_body(question: str, **more: object) -> bytes:
    """The JSON of one call, for clients that write it themselves."""
    return orjson.dumps({"model": MODEL, "messages": [{"role": "user", "content": question}], **more})


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A client's process that has ended."""

    status: int
    output: str
    errors: str


async def run_client(
    command: Iterable[str | Path], environment: Mapping[str, str] | None = None, seconds: float = 100.0
) -> Finished:
    """Run a client's process to its end; it is killed after `seconds`."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(**(environment or {})),
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Finished(status=process.returncode or 0, output=output.decode(), errors=errors.decode())
