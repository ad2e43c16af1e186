"""The list of crash points in the documentation is what a running gateway has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crashes.points import DURABLE

ROOT = Path(__file__).parents[2]
#: One kind with a marker, one without, one without batches: whatever differs between kinds differs inside their calls.
KINDS = ("openai", "anthropic", "fanout")
_POINT = re.compile(rf"`([a-z_.]+:(?:{'|'.join(DURABLE)}))`")
#: Which of the paths for one operation it was, differs between kinds.
_PATH = re.compile(r"^(http\.[a-z]+)\.\d+:")


@pytest.mark.timeout(300)
def test_the_documentation_lists_every_crash_point() -> None:
    """Each durable step that the scenarios come by has its line in docs/state-machine.md, and no line stands for none."""
    kinds = [word for kind in KINDS for word in ("--kind", kind)]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.crashes.matrix", "--trace", *kinds],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-4_000:] + ended.stderr[-4_000:]
    trace = [_PATH.sub(r"\1:", line) for line in ended.stdout.splitlines()]
    passed = set(re.findall(rf"^([a-z_.]+:(?:{'|'.join(DURABLE)}))#", "\n".join(trace), re.MULTILINE))
    rows = [
        line
        for line in (ROOT / "docs/state-machine.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    listed = {name for row in rows for name in _POINT.findall(row.split("|")[1])}
    assert listed == passed
