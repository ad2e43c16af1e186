"""What processes leave in the system's temporary directory, where prompts have no business: nothing, however they end."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.test_cli import command

ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GATEWAY = '[server]\nport = 0\n[storage]\ndirectory = "data"\n[providers.openai]\nkind = "openai"\nsandbox = true\n'


def begun(temporary: Path, *words: str) -> subprocess.Popen[str]:
    """The command as a process whose temporary directory this is."""
    temporary.mkdir(exist_ok=True)
    # Tests that run under nohup would hand its deafness on.
    heard = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        return subprocess.Popen(
            command(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(temporary),
            # A terminal is not closed, nor Ctrl-C pressed, for the process alone.
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGHUP, heard)


def environment(temporary: Path) -> Mapping[str, str]:
    """The environment with another temporary directory."""
    return {**os.environ, "TMPDIR": str(temporary)}


def test_a_sandbox_leaves_nothing(tmp_path: Path) -> None:
    """Ended, interrupted, its terminal closed, or not begun because its port is taken: no folder stays."""
    places = [tmp_path / number.name for number in ENDINGS]
    sandboxes = [begun(place, "sandbox", "openai", "--port", "0") for place in places]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = begun(tmp_path / "refused", "sandbox", "openai", "--port", str(taken.getsockname()[1]))
        assert "cannot listen" in refused.communicate()[1]
    for sandbox, place in zip(sandboxes, places, strict=True):
        assert sandbox.stdout is not None
        assert sandbox.stdout.readline()
        assert len(list(place.iterdir())) == 1
    for sandbox, number in zip(sandboxes, ENDINGS, strict=True):
        sandbox.send_signal(number)

    assert [(sandbox.communicate()[1], sandbox.returncode) for sandbox in sandboxes] == [("", 0)] * len(ENDINGS)
    assert [list(place.iterdir()) for place in (*places, tmp_path / "refused")] == [[]] * (len(ENDINGS) + 1)


def test_what_a_killed_sandbox_left_goes_with_the_next(tmp_path: Path) -> None:
    """A sandbox that was killed can tidy nothing up: the next one does."""
    for number in (signal.SIGKILL, signal.SIGTERM):
        sandbox = begun(tmp_path / "temporary", "sandbox", "openai", "--port", "0")
        assert sandbox.stdout is not None
        assert sandbox.stdout.readline()
        assert len(list((tmp_path / "temporary").iterdir())) == 1
        sandbox.send_signal(number)
        sandbox.communicate()

    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_demonstration_whose_terminal_is_closed_leaves_nothing(tmp_path: Path) -> None:
    """Neither its folder nor its processes stay when the window is closed in the middle."""
    demonstration = begun(tmp_path / "temporary", "demo", "--provider", "openai", "--requests", "8")
    assert demonstration.stdout is not None
    while "asks 8 questions" not in (line := demonstration.stdout.readline()):
        assert line, demonstration.communicate()[1]
    [port] = re.findall(r"127\.0\.0\.1:(\d+)/v1", line)
    demonstration.send_signal(signal.SIGHUP)

    assert "Interrupted" in demonstration.communicate()[1]
    assert list((tmp_path / "temporary").iterdir()) == []
    with socket.socket() as caller, pytest.raises(ConnectionRefusedError):
        caller.connect(("127.0.0.1", int(port)))


def test_a_gateway_keeps_its_simulators_files_with_its_own(tmp_path: Path) -> None:
    """With `sandbox = true` they lie in the storage directory, for its owner only, and the next start uses them again."""
    (tmp_path / "config.toml").write_text(GATEWAY.replace('"data"', f'"{tmp_path / "data"}"'))
    home = tmp_path / "data" / "sandbox"
    for number in (signal.SIGKILL, signal.SIGTERM):
        gateway = begun(tmp_path / "temporary", "serve", "--config", str(tmp_path / "config.toml"))
        assert gateway.stderr is not None
        while '"listening"' not in gateway.stderr.readline():
            pass
        gateway.send_signal(number)
        gateway.communicate()

    assert list((tmp_path / "temporary").iterdir()) == []
    assert [path.name for path in home.iterdir()] == ["openai"]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (home, *home.rglob("*"))} == {0}
