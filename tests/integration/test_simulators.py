"""Simulators of a gateway: its own, and one that runs elsewhere."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from types import MappingProxyType

from gateway.clock import SystemClock
from gateway.config import Configuration, ProviderTable, Storage
from gateway.plugins import load_plugins
from gateway.run import start_simulators


async def test_a_simulator_that_runs_elsewhere_is_used_and_not_started(tmp_path: Path) -> None:
    """`sandbox_url` is where `batchway sandbox` runs; without one a simulator is started, whatever the real address is."""
    elsewhere = "http://127.0.0.1:9/openai/v1"
    tables = {
        "own": ProviderTable(
            name="own", kind="openai", sandbox=True, settings={"base_url": "https://api.example.com/v1"}
        ),
        "elsewhere": ProviderTable(name="elsewhere", kind="openai", sandbox=True, sandbox_url=elsewhere),
        "real": ProviderTable(name="real", kind="openai", settings={"base_url": "https://api.example.com/v1"}),
    }
    configuration = Configuration(storage=Storage(directory=tmp_path), providers=MappingProxyType(tables))
    async with AsyncExitStack() as stack:
        found = await start_simulators(configuration, load_plugins().kinds, SystemClock(), stack)

    assert found.keys() == {"own", "elsewhere"}
    assert found["elsewhere"] == elsewhere
    assert found["own"].endswith("/own/v1")
    assert [path.name for path in (tmp_path / "sandbox").iterdir()] == ["own"]
