"""A storage directory that this user may not look into, as an operator meets it who is not the service's user."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.store.lock import DirectoryLock

#: Nobody's number on most systems; any but root's would do.
NOBODY = 65_534
COMMANDS = [
    ["requests"],
    ["batches"],
    ["result", "one"],
    ["reconcile", "--all"],
    ["doctor", "--offline"],
    ["doctor"],
    ["check"],
    ["cancel", "one"],
    ["serve"],
]


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """Nobody may look into `folder` meanwhile, and we are not root."""
    root = os.geteuid() == 0
    folder.chmod(0)
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)


def said(words: list[str], directory: Path) -> Result:
    """What a command says whose storage is there; the configuration comes from the environment."""
    return CliRunner().invoke(main, words, env={"BATCHWAY_STORAGE__DIRECTORY": str(directory)})


@pytest.mark.parametrize("place", ["data", "."])
@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words) for words in COMMANDS])
def test_a_directory_that_may_not_be_looked_into_is_said_so(
    words: list[str], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ends with the reason, and names the place; a doctor that cannot look does not say that all is gone."""
    monkeypatch.chdir("/")
    home = tmp_path / "home"
    directory = home / "data"
    directory.mkdir(parents=True)
    DirectoryLock.acquire(directory).release()
    (directory / "ledger.sqlite").write_bytes(b"")
    # What a command imports when it is used may be out of reach later.
    assert said(["doctor", "--offline"], directory).exit_code == 1
    importlib.import_module("gateway.cli.serve")
    said(["check"] if words == ["serve"] else words, tmp_path / "elsewhere")
    with closed(home / place):
        result = said(words, directory)

    told = result.stdout + result.stderr
    assert (result.exit_code, type(result.exception)) == (1, SystemExit), told
    assert "Permission denied" in told
    assert str(directory) in told
    assert "backup" not in told
    assert "no gateway has run" not in told


@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words) for words in COMMANDS])
def test_a_name_that_none_can_have_is_said_so(words: list[str], tmp_path: Path) -> None:
    """Nor is a place where no file system has a file a reason for a traceback."""
    result = said(words, tmp_path / ("x" * 300))

    told = result.stdout + result.stderr
    assert (result.exit_code, type(result.exception)) == (1, SystemExit), told
    assert "x" * 300 in told
