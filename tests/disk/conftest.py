"""The library that makes a disk fail, compiled once for each process of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.disk.forge import compiled


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is; without a compiler its tests are skipped."""
    made = compiled(tmp_path_factory.mktemp("faulty"))
    if made is None:
        pytest.skip("no C compiler: install gcc to let the disk fail")
    return made
