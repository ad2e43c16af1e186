"""The gateway under measurement: `batchway serve` as a real process, with a configuration made for it."""

from __future__ import annotations

import http.client
import mmap
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.bodies import KILOBYTE, Bodies
from benchmarks.processes import SERVER_CORE, Child

STORAGE = "data"
#: Long enough for nothing to happen by itself in a measurement.
NEVER_SECONDS = 1_000_000.0
DEADLINE_SECONDS = 180.0
_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a measurement wants of the configuration; as it is, queued requests stay queued until a flush."""

    window_seconds: float = NEVER_SECONDS
    idle_seconds: float = NEVER_SECONDS
    durability: str = "full"
    #: Lines of one batch; provider and gateway alike.
    max_requests: int = 10_000_000
    kind: str = "openai"
    #: What else the kind's table needs, as lines of TOML.
    keys: str = ""

    def toml(self, port: int, upstream: str) -> str:
        """The configuration file."""
        return (
            f'[server]\nport = {port}\n[storage]\ndirectory = "{STORAGE}"\n'
            f'durability = "{self.durability}"\n'
            f"[batching]\nwindow_seconds = {self.window_seconds}\nmax_window_seconds = {NEVER_SECONDS}\n"
            f"idle_seconds = {self.idle_seconds}\nmax_requests = {self.max_requests}\nmax_bytes = 100_000_000_000\n"
            "[polling]\nmin_seconds = 0.1\nmax_seconds = 0.1\n"
            f'[providers.sim]\nkind = "{self.kind}"\napi_key = "sandbox"\nbase_url = "{upstream}"\n{self.keys}'
            f"[providers.sim.limits]\nmin_poll_seconds = 0.1\nmax_requests = {self.max_requests}\n"
            'max_bytes = 100_000_000_000\n[[routes]]\nmodel = "*"\nprovider = "sim"\n'
        )


class Gateway(Child):
    """One process of the gateway on a directory that may outlive it."""

    def __init__(self, directory: Path, upstream: str, setting: Setting, *, counted: bool = False) -> None:
        """Starts it; `wait` returns when it answers. `counted`: its commits are counted, see `commits`."""
        directory.mkdir(parents=True, exist_ok=True)
        self.port = _free_port()
        self.directory = directory
        self.log = directory / "serve.log"
        config = directory / "config.toml"
        config.write_text(setting.toml(self.port, upstream), encoding="utf-8")
        self._count = directory / "commits"
        self._count.write_bytes(bytes(8))
        module = "benchmarks.counted" if counted else "gateway"
        self._collected_before = self._events("batch_collected")
        super().__init__(
            "-m", module, "serve", "--config", config,
            core=SERVER_CORE, log=self.log, environment={"COMMIT_COUNT": str(self._count)},
        )  # fmt: skip

    def wait(self, pause: float = _LOOK_SECONDS) -> None:
        """Return when it answers."""
        until(lambda: self._get("/readyz") == 200, "the gateway answers", pause)

    def answer(self, body: bytes) -> None:
        """Send one call and return when its answer is there."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        assert (answer.status, b"choices" in text) == (200, True), text
        connection.close()

    @property
    def commits(self) -> int:
        """Transactions committed so far, if counted."""
        with self._count.open("rb") as file, mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ) as memory:
            return int.from_bytes(memory[:8], "little")

    def accepted(self) -> int:
        """Requests recorded since it started."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.search(r"^batchway_requests_accepted_total\{.*\} (\S+)$", text, re.MULTILINE)
        return int(float(found[1])) if found else 0

    def until_accepted(self, count: int) -> None:
        """Return when so many requests have been recorded since it started."""
        until(lambda: self.accepted() >= count, f"{count} requests are accepted")

    def flush(self) -> None:
        """Seal what is queued now."""
        token = (self.directory / STORAGE / "operator.token").read_text().strip()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", "/ops/flush", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        assert answer.status == 202, answer.read()
        connection.close()

    def collected(self) -> int:
        """Batches collected since it started; read from its log, which costs it nothing."""
        return self._events("batch_collected") - self._collected_before

    def until_collected(self, count: int) -> None:
        """Return when so many batches have been collected since it started."""
        until(lambda: self.collected() >= count, f"{count} batches are collected")

    def accept_one(self, tag: str) -> None:
        """Send one request and return when it is accepted, from the first moment that somebody listens."""
        body = Bodies(tag=tag).of(0)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nPrefer: respond-async\r\n"
            f"Content-Length: {KILOBYTE}\r\nConnection: close\r\n\r\n"
        )
        until(self._listens, "the gateway listens", 0.002)
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_SECONDS) as caller:
            caller.sendall(head.encode() + body)
            answer = caller.recv(65536)
        assert answer.startswith(b"HTTP/1.1 202"), answer[:200]

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _get(self, path: str) -> int:
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def _events(self, name: str) -> int:
        if not self.log.exists():
            return 0
        return sum(
            orjson.loads(line).get("event") == name for line in self.log.read_bytes().splitlines() if line[:1] == b"{"
        )


def until(condition: Callable[[], bool], what: str, pause: float = _LOOK_SECONDS) -> None:
    """Return when `condition` holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {DEADLINE_SECONDS:g} s: {what}")
        time.sleep(pause)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
