"""Temporary folders, and what becomes of them when their owner is killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.sandbox.store import Store
from gateway.sandbox.temporary import TemporaryFolder
from gateway_openai.sandbox import OpenAISimulator

PREFIX = "batchway-test-"
OWNER = f"""
import time
from gateway.sandbox.temporary import TemporaryFolder
folder = TemporaryFolder({PREFIX!r})
(folder.path / "prompt").write_text("secret")
print(folder.path, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary directory, for this test only."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def killed_owner() -> Path:
    """What a process has left that was killed with a folder of its own."""
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        path = Path(owner.stdout.readline().strip())
        TemporaryFolder(PREFIX).remove()
        assert (path / "prompt").exists()
        owner.send_signal(signal.SIGKILL)
    return path


def test_a_folder_is_private_and_goes_with_its_owner(place: Path) -> None:
    """Nobody else can look into it, and nothing is left when its block, or the object, has ended."""
    with TemporaryFolder(PREFIX) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        (path / "prompt").write_text("secret")
    folder = TemporaryFolder(PREFIX)
    del folder

    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(place: Path) -> None:
    """While its owner lives a folder stays; when it was killed, the next folder of that prefix takes it away."""
    path = killed_owner()

    assert (path / "prompt").exists()
    with TemporaryFolder("batchway-other-"):
        assert path.exists()
    with TemporaryFolder(PREFIX) as mine:
        assert [each.name for each in place.iterdir()] == [mine.name]


def test_what_is_not_certainly_abandoned_stays(place: Path) -> None:
    """A folder without a lock, a file, and a link to somewhere else of that name are not touched."""
    elsewhere = killed_owner().rename(place / "elsewhere")
    (place / f"{PREFIX}link").symlink_to(elsewhere)
    (place / f"{PREFIX}plain").mkdir()
    (place / f"{PREFIX}file").write_text("")

    with TemporaryFolder(PREFIX):
        pass

    assert (elsewhere / "prompt").exists()
    assert {path.name for path in place.iterdir()} == {
        "elsewhere",
        *(PREFIX + name for name in ("link", "plain", "file")),
    }


def test_the_end_of_a_forked_process_takes_nothing_away(place: Path) -> None:
    """A child that ends in the ordinary way does not delete its parent's folder."""
    forking = (
        f"import os\nfrom gateway.sandbox.temporary import TemporaryFolder\nfolder = TemporaryFolder({PREFIX!r})\n"
        "if not os.fork(): raise SystemExit\nos.wait()\nprint(folder.path.exists())"
    )
    done = subprocess.run([sys.executable, "-c", forking], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "True"
    assert list(place.iterdir()) == []


def test_a_simulator_without_a_folder_leaves_none(place: Path) -> None:
    """What a simulator keeps for itself goes when it goes."""
    simulator = OpenAISimulator(clock=SystemClock())
    assert len(list(place.iterdir())) == 1
    del simulator

    assert list(place.iterdir()) == []


def test_what_a_simulator_keeps_is_private(place: Path) -> None:
    """Prompts and answers lie where only their owner can look, whatever the user's mask says."""
    before = os.umask(0)
    try:
        Store(place / "new" / "home")
    finally:
        os.umask(before)

    folders = [place / "new" / "home", *(place / "new" / "home").iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
