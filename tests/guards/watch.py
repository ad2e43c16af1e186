"""Runs tests in a copy of the project and writes down which of them failed: `watch.py ROOT REPORT TEST...`.

A program of its own, so that what it imports is the copy's. It ends with status 3 where it is not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ELSEWHERE = 3


class Witness:
    """Notes tests by their names, with and without their parameters."""

    def __init__(self, report: Path) -> None:
        """What was seen is written to `report` when all have run."""
        self._report = report
        self.ran: set[str] = set()
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Pytest calls this for each phase of each test."""
        names = {report.nodeid, report.nodeid.partition("[")[0]}
        if not report.skipped:
            self.ran |= names
        if report.failed:
            self.failed |= names

    def pytest_sessionfinish(self) -> None:
        """Pytest calls this at the end, whatever else goes wrong when it lets go of everything."""
        self._report.write_text(json.dumps({"ran": sorted(self.ran), "failed": sorted(self.failed)}))


def main(root: Path, report: Path, tests: list[str]) -> int:
    """The exit status of pytest."""
    import gateway

    if not Path(gateway.__file__).is_relative_to(root):
        sys.stderr.write(f"gateway is imported from {gateway.__file__}, not from the copy\n")
        return ELSEWHERE
    options = ["-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:cov"]
    return int(pytest.main([*options, *tests], plugins=[Witness(report)]))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
