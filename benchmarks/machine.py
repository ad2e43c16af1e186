"""What a run was made on."""

from __future__ import annotations

import datetime as dt
import os
import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("aiohttp", "uvloop", "orjson", "msgspec", "openai", "diskcache")


def facts() -> list[str]:
    """Date, processor, system, versions."""
    today = dt.datetime.now(tz=dt.UTC).date()
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return [
        f"{today}",
        f"{os.cpu_count()} cores, {_processor()}, {_memory_gib():.0f} GiB, {platform.system()} {platform.release()}",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {packages}",
        "loopback; server under measurement on one core, load generator and simulated provider on another",
        "floor and gateway by turns, round after round",
        "only the ratios say something of the gateway: absolute figures move with whatever else the machine does",
    ]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
