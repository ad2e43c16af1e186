"""What the gateway keeps beside the ledger, each alone on a disk that fails: the cache, and the files of a batch."""

from __future__ import annotations

from pathlib import Path

from gateway.config import Cache as CacheSettings
from gateway.spool import Spool, read_rows
from gateway.store.cache import Cache, Entry
from gateway.store.rows import Sample
from tests.disk.forge import Disk, Fault, lose_power


def prepare() -> None:
    """Nothing has to be loaded beforehand."""


def cache_life(directory: Path, disk: Disk, fault: Fault) -> str:
    """The cache alone: whatever happens to its disk, an answer is the one that was stored or none, and it mends itself."""
    stored = {bytes([n]) * 32: [b"answer %d " % n * (1 + 400 * (n % 3))] for n in range(6)}
    disk.arm(fault)
    complaints = []
    for _ in range(2):
        cache = Cache.open(directory / "cache", CacheSettings())
        for fingerprint, [body] in stored.items():
            cache.write([Entry(fingerprint=fingerprint, sample=Sample(ordinal=0, body=body, ended_at=1.0))])
            cache.flush()
            for known, bodies in stored.items():
                if [each.body for each in cache.read(known)] not in ([], bodies):
                    complaints.append(f"a wrong answer for {known[0]}")
        cache.close()
        disk.disarm()
    again = Cache.open(directory / "cache", CacheSettings())
    # What a disk only claims to have written damages the file in silence: a miss, for as long as it is there.
    missing = (
        []
        if fault.manner == "drop"
        else [known[0] for known, bodies in stored.items() if [each.body for each in again.read(known)] != bodies]
    )
    again.close()
    return "; ".join([*complaints, f"not remembered on a disk that is well: {missing}" if missing else ""]).strip("; ")


def spool_life(directory: Path, disk: Disk, fault: Fault) -> str:
    """A file of a batch alone: what lies under its name is whole, whether its writing failed or not."""
    lines = [b"line %d " % n + b"x" * 50_000 for n in range(20)]
    spool = Spool(directory=directory / "spool")
    disk.arm(fault)
    try:
        spool.write_lines("m", lines)
    except OSError:
        if spool.lines("m").exists():
            return "what failed to be written is there"
        if fault.manner != "full" and list(spool.directory.glob("*")):
            return "the rest of it stands in the way"
        disk.disarm()
        spool.write_lines("m", lines)
    return "" if list(read_rows(spool.lines("m"))) == lines else "it is not what was written"


def spool_in_an_outage(directory: Path, disk: Disk, fault: Fault) -> str:
    """Power goes right after a file of a batch has got its name: it is whole, or not there."""
    lines = [b"line %d " % n + b"x" * 50_000 for n in range(20)]
    spool = Spool(directory=directory / "spool")
    disk.keep_synced(directory / "kept")
    spool.write_lines("m", lines)
    fetched = spool.directory / "fetched"
    fetched.write_bytes(b"".join(line + b"\n" for line in lines))
    spool.adopt_rows("m", fetched)
    lose_power(spool.directory, directory / "kept")
    for path in (spool.lines("m"), spool.rows("m")):
        if path.exists() and list(read_rows(path)) != lines:
            return f"{path.name} is there and not whole"
    return "" if spool.lines("m").exists() else "nothing was kept"
