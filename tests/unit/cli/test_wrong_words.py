"""What is wrong on a command line is one message and exit status 2, never a traceback or a wait without end."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests.unit.cli.test_steer import write

HUGE = str(10**25)
#: As the system hands over bytes that are no UTF-8.
NO_TEXT = "caf\udce9"

WRONG = [
    ["batches", "--limit", HUGE],
    ["requests", "--limit", HUGE],
    ["requests", "--batch", HUGE],
    ["requests", "--client", NO_TEXT],
    ["result", NO_TEXT],
    ["result", "one", "--client", NO_TEXT],
    ["cancel", NO_TEXT],
    ["cancel", "one", "--client", NO_TEXT],
    ["cancel", "--batch", HUGE],
    ["cancel", "--batch", "0"],
    ["reconcile", HUGE],
    ["reconcile", "--all", "--days", "nan"],
    ["reconcile", "--all", "--days", "inf"],
    ["sandbox", "openai", "--port", "70000"],
    ["sandbox", "openai", "--port", "-1"],
    ["sandbox", "openai", "--running-seconds", "nan"],
    ["sandbox", "openai", "--validating-seconds", "-1"],
    ["sandbox", "openai", "--finalizing-seconds", "inf"],
    ["sandbox", "openai", "--jitter", "2"],
    ["demo", "--batch-seconds", "nan"],
    ["demo", "--batch-seconds", "-1"],
]


@pytest.mark.parametrize("words", WRONG, ids=[" ".join(words) for words in WRONG])
def test_what_cannot_be_meant_is_refused(words: list[str], tmp_path: Path) -> None:
    """Numbers that no ledger holds, names that are no text, times that are none: the option is named."""
    result = CliRunner().invoke(main, [*words, "--config", write(tmp_path)])

    assert (result.exit_code, type(result.exception)) == (2, SystemExit)
    assert "Invalid value for" in result.stderr


@pytest.mark.parametrize("command", [["demo"], ["sandbox", "openai", "--port", "0"]])
@pytest.mark.parametrize("place", ["a-file", "a-file/below"])
def test_a_folder_that_cannot_be_made_is_said_so(command: list[str], place: str, tmp_path: Path) -> None:
    """The folder is named, with the system's own reason."""
    (tmp_path / "a-file").write_text("occupied", encoding="utf-8")
    folder = tmp_path / place
    result = CliRunner().invoke(main, [*command, "--directory", str(folder)])

    assert (result.exit_code, type(result.exception)) == (2, SystemExit)
    assert str(folder) in result.stderr.replace("\n", "")
