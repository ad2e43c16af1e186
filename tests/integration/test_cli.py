"""The commands as a person runs them: processes of their own, a simulated provider, a running gateway."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.store.lock import DirectoryLock

#: Only a hang reaches it.
DEADLINE_SECONDS = 60.0

CONFIG = """
[server]
port = {port}
[batching]
window_seconds = {window}
idle_seconds = {window}
[polling]
min_seconds = 0.05
max_seconds = 0.1
[providers.openai]
kind = "openai"
base_url = "{base_url}"
api_key = "sandbox"
limits = {{ min_poll_seconds = 0.05 }}
"""


def command(*arguments: str) -> list[str]:
    """A `batchway` command of this environment."""
    return [sys.executable, "-m", "gateway", *arguments]


def until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, kw_only=True)
class Running:
    """A gateway and its configuration file."""

    config: Path
    port: int

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command on this gateway's configuration."""
        words = command(name, "--config", str(self.config), *arguments)
        return subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)

    def listed(self, name: str, *arguments: str) -> list[dict[str, object]]:
        """What a list has for programs."""
        found = self.run(name, "--json", *arguments)
        assert found.returncode == 0, found.stderr
        rows: list[dict[str, object]] = json.loads(found.stdout)
        return rows

    def accept(self, custom_id: str) -> None:
        """Leave a request with the gateway, without waiting for it."""
        body = {"model": "sim-small", "messages": [{"role": "user", "content": f"I am {custom_id}"}]}
        headers = {"prefer": "respond-async", "x-batchway-custom-id": custom_id, "content-type": "application/json"}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as response:
            assert response.status == 202

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """The base URL of `batchway sandbox openai`."""
    words = command(
        "sandbox", "openai", "--port", "0", "--json", "--validating-seconds", "0", "--running-seconds", "0.1"
    )
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        text = b""
        while not text.endswith(b"]\n"):
            text += process.stdout.readline()
        [place] = json.loads(text)
        yield place["base_url"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0


@pytest.fixture
def running(provider: str, tmp_path: Path) -> Iterator[Running]:
    """A gateway whose windows stay open unless they are flushed."""
    port = free_port()
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(port=port, window=300, base_url=provider), encoding="utf-8")
    gateway = Running(config=config, port=port)
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command("serve", "--config", str(config)), stderr=log) as process,
    ):
        until(gateway.ready)
        yield gateway
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0


def test_a_queued_request_is_listed_flushed_and_read(running: Running) -> None:
    """What waits is seen, `flush` sends it off, and `result` prints its own answer once it is there."""
    running.accept("first")
    [queued] = running.listed("requests")
    pending = running.run("result", "first")
    flushed = running.run("flush")
    until(lambda: running.listed("requests")[0]["state"] == "succeeded")
    answer = json.loads(running.run("result", "first").stdout)
    [batch] = running.listed("batches")

    assert (queued["custom_id"], queued["state"], queued["batch_id"]) == ("first", "queued", None)
    assert (pending.returncode, pending.stdout) == (1, "")
    assert "has not ended: queued" in pending.stderr
    assert flushed.stdout.startswith("1 queued")
    assert "I am first" in answer["choices"][0]["message"]["content"]
    assert (batch["requests"], batch["submissions"]) == (1, 1)
    assert running.listed("requests", "--batch", str(batch["batch_id"]), "--state", "succeeded") != []
    assert running.listed("requests", "--batch", "99") == running.listed("requests", "--client", "x") == []


def test_a_queued_request_is_cancelled(running: Running) -> None:
    """`cancel` ends what is queued, `result` shows the error object, and nothing of it is ever submitted."""
    running.accept("unwanted")
    cancelled = running.run("cancel", "unwanted")
    again = running.run("cancel", "unwanted")
    result = running.run("result", "unwanted")

    assert (cancelled.returncode, cancelled.stdout) == (0, "unwanted: cancelled\n")
    assert again.returncode == 0
    assert (result.returncode, json.loads(result.stdout)["error"]["code"]) == (1, "cancelled")
    assert "status 410" in result.stderr
    assert running.listed("batches") == []


def test_what_is_not_there_is_said_so(running: Running) -> None:
    """A request or batch that nobody knows is a message and exit status 1, not a traceback."""
    for words in (["result", "nobody"], ["cancel", "nobody"], ["cancel", "--batch", "7"]):
        found = running.run(*words)

        assert found.returncode == 1
        assert found.stderr.startswith("Error: ")
        assert "here is no" in found.stderr


def test_lists_are_plain_where_there_is_no_terminal(running: Running) -> None:
    """A pipe gets one line for the headings and one for each request."""
    running.accept("one")
    running.accept("two")
    lines = running.run("requests").stdout.splitlines()

    assert [line.split()[0] for line in lines] == ["custom_id", "two", "one"]


def test_the_demonstration_is_right(tmp_path: Path) -> None:
    """`demo` goes through crash, restart and second pass, and its bill has no line twice."""
    directory = tmp_path / "demo"
    words = command("demo", "--requests", "12", "--batch-seconds", "1", "--directory", str(directory))
    done = subprocess.run(words, capture_output=True, text=True, timeout=110, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed (kill -9)" in done.stdout
    assert "12 answers from store" in done.stdout
    assert [line.split()[-1] for line in done.stdout.splitlines() if "submitted more than once" in line] == ["0"]
    assert "Every answer was that of its own question." in done.stdout


def test_an_interrupted_demonstration_leaves_nobody_behind(tmp_path: Path) -> None:
    """Ctrl-C ends gateway and sandbox too: the ledger's lock is free afterwards."""
    directory = tmp_path / "demo"
    words = command("demo", "--batch-seconds", "300", "--directory", str(directory))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until((directory / "data" / "ledger.sqlite").exists)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=DEADLINE_SECONDS)

    assert process.returncode == 130
    assert b"have been stopped" in stderr
    DirectoryLock.acquire(directory / "data", wait_seconds=0).release()


def test_a_killed_demonstration_leaves_nobody_behind(tmp_path: Path) -> None:
    """After `kill -9` nobody can stop gateway and sandbox: they see for themselves that they are alone."""
    directory = tmp_path / "demo"
    words = command("demo", "--provider", "openai", "--batch-seconds", "300", "--directory", str(directory))
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        until((directory / "data" / "ledger.sqlite").exists)
        process.kill()
    config = (directory / "config.toml").read_text(encoding="utf-8")
    ports = [int(port) for port in re.findall(r"(?:^port = |://127\.0\.0\.1:)(\d+)", config, re.MULTILINE)]

    assert len(ports) == 2
    until(lambda: not any(map(listens, ports)))


def listens(port: int) -> bool:
    """Whether anybody takes a call there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_folder_in_use_is_not_demonstrated_in(tmp_path: Path) -> None:
    """`demo` does not touch a folder that has something in it."""
    (tmp_path / "mine").touch()
    done = subprocess.run(command("demo", "--directory", str(tmp_path)), capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_ordered_fault_strikes(tmp_path: Path) -> None:
    """A fault given to `sandbox` is in the book of every simulator it starts."""
    words = command("sandbox", "--port", "0", "--json", "--fault", "status,operation=create,status=503,times=2")
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        text = b""
        while not text.endswith(b"]\n"):
            text += process.stdout.readline()
        orders = []
        places = json.loads(text)
        for place in places:
            with urllib.request.urlopen(f"{place['control_url']}/faults", timeout=10) as response:
                orders += json.load(response).values()
        process.send_signal(signal.SIGTERM)

    assert len(places) > 1
    assert [(each["kind"], each["status"], each["times"]) for each in orders] == [("status", 503, 2)] * len(places)
