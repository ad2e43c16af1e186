"""The sandbox and the gateway as processes of their own, as a user would start them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import msgspec
import orjson

from gateway.clock import Clock
from gateway.errors import BatchwayError
from gateway.sandbox import Submissions

#: How long a process may take to be there, and to go.
START_SECONDS = 60.0
STOP_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_LAST_WORDS = 2_000


class DemoFailed(BatchwayError):
    """The demonstration cannot go on; the message says why."""


class Child:
    """One `batchway` command in a process of its own; it outlives neither `stop` nor us."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        """What it writes to standard error goes to the file `log`."""
        self._arguments = arguments
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; what it needs to be ready is for others to wait for."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway.cli.demo.leash", *self._arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for the demonstration, which then stops its children in order.
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.returncode is None

    async def read_json(self) -> object:
        """The JSON array it prints when it is ready."""
        if self._process is None or self._process.stdout is None:
            raise DemoFailed("the process was not started")
        text = b""
        async with self.in_time():
            while not text.endswith(b"\n]\n"):
                line = await self._process.stdout.readline()
                if not line:
                    raise DemoFailed(f"`batchway {self._arguments[0]}` ended: {self.last_words()}")
                text += line
        return orjson.loads(text)

    @contextlib.asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """What is inside must be done within `START_SECONDS`."""
        try:
            async with asyncio.timeout(START_SECONDS):
                yield
        except TimeoutError:
            raise DemoFailed(
                f"`batchway {self._arguments[0]}` is not there after {START_SECONDS:g} s: {self.last_words()}"
            ) from None

    async def kill(self) -> None:
        """SIGKILL: no time for anything."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._end(signal.SIGTERM)
        except TimeoutError:
            await self.kill()

    async def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        await process.wait()

    def last_words(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-_LAST_WORDS:].strip() if self._log.exists() else ""


class SandboxProcess:
    """`batchway sandbox` with the simulated providers."""

    def __init__(self, directory: Path, kinds: Sequence[str], *, batch_seconds: float) -> None:
        """Keeps its state in `directory`; batches run for about `batch_seconds`."""
        self._child = Child(
            [
                *("sandbox", *kinds, "--port", "0", "--json", "--directory", str(directory / "provider")),
                *(
                    "--validating-seconds",
                    "0.3",
                    "--running-seconds",
                    str(batch_seconds),
                    "--finalizing-seconds",
                    "0.3",
                ),
                *("--jitter", "0.35"),
            ],
            directory / "sandbox.log",
        )
        #: By kind.
        self.base_urls: dict[str, str] = {}
        self._control_urls: dict[str, str] = {}

    async def start(self) -> None:
        """Returns once it listens."""
        await self._child.start()
        places = await self._child.read_json()
        for place in places if isinstance(places, list) else ():
            self.base_urls[place["kind"]] = place["base_url"]
            self._control_urls[place["kind"]] = place["control_url"]

    async def submissions(self) -> dict[str, Submissions]:
        """The ledger of each kind: what was submitted, and how often."""
        found: dict[str, Submissions] = {}
        async with aiohttp.ClientSession() as session:
            for kind, url in self._control_urls.items():
                async with session.get(f"{url}/ledger") as response:
                    found[kind] = msgspec.json.decode(await response.read(), type=Submissions)
        return found

    async def stop(self) -> None:
        """End it."""
        await self._child.stop()


class GatewayProcess:
    """`batchway serve` on a port that stays the same when it is started again."""

    def __init__(self, directory: Path, config: Path, port: int, clock: Clock) -> None:
        """`config` has the port and lies in `directory`."""
        self._child = Child(["serve", "--config", str(config)], directory / "gateway.log")
        self._address = f"http://127.0.0.1:{port}"
        self._clock = clock
        self.base_url = f"{self._address}/v1"

    async def start(self) -> None:
        """Start it, and return once it answers."""
        await self._child.start()
        async with self._child.in_time(), aiohttp.ClientSession() as session:
            while not await self._answers(session):
                if not self._child.running:
                    raise DemoFailed(f"the gateway ended: {self._child.last_words()}")
                await self._clock.sleep(_LOOK_SECONDS)

    async def kill(self) -> None:
        """SIGKILL."""
        await self._child.kill()

    async def stop(self) -> None:
        """SIGTERM."""
        await self._child.stop()

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self._address}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
