"""`batchway doctor`: what is wrong, and what to do about it, one line each."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.output import complaints, config_option, json_option, show_json
from gateway.config import early
from gateway.errors import ConfigurationError
from gateway.store.lock import DirectoryLock

if TYPE_CHECKING:
    from gateway.cli.checkup.findings import Finding
    from gateway.config import Configuration

#: A gateway that does not say that it is ready for so long is not well.
READY_SECONDS = 10.0


@click.command(short_help="Look for what is wrong, beside a running gateway or without one.")
@config_option
@json_option
@click.option("--offline", is_flag=True, help="Do not ask the providers.")
@click.option("--repair", is_flag=True, help="Delete orphan files and count again; the gateway has to be stopped.")
def doctor(*, path: Path | None, as_json: bool, offline: bool, repair: bool) -> None:
    """Look at configuration, disk, ledger, batches and providers; say what is wrong, and what to do.

    Reads only, unless --repair is given, which does nothing that could lose anything. Exits with 1 if something is wrong.
    """
    from gateway.cli.checkup.findings import Status
    from gateway.logs import configure

    configure(sys.stderr, "critical")
    with complaints():
        findings = _repaired(path) if repair else []
        findings += _clean(_findings(path, offline=offline), path)
    if as_json:
        show_json([_record(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(_line(finding))
    raise SystemExit(1 if any(finding.status is Status.PROBLEM for finding in findings) else 0)


def _clean(findings: Sequence[Finding], path: Path | None) -> list[Finding]:
    """Without keys: providers repeat them in what they say of them."""
    from gateway.config import examine
    from gateway.logs import Redactor

    try:
        secrets = examine(path, os.environ)[0].secrets
    except ConfigurationError:
        secrets = ()
    redactor = Redactor(secrets)
    return [replace(finding, said=redactor.text(finding.said)) for finding in findings]


def _findings(path: Path | None, *, offline: bool) -> list[Finding]:
    from gateway.cli.checkup.directory import (
        check_cache,
        check_copies,
        check_directory,
        check_files,
        closed,
        left_over,
        lock_owner,
    )
    from gateway.cli.checkup.ledger import read_ledger
    from gateway.cli.checkup.providers import disabled
    from gateway.cli.inspection import inspect
    from gateway.clock import SystemClock

    found = inspect(path, os.environ)
    configuration, clock = found.configuration, SystemClock()
    findings = list(_configuration(configuration, found.mistakes))
    try:
        early(path, os.environ)
    except ConfigurationError:
        # Where the ledger is, is not known.
        return findings
    directory = configuration.storage.directory
    if (fault := closed(directory)) is not None:
        # What is in it, and who works with it, cannot be known.
        return [*findings, fault]
    owner = lock_owner(directory)
    findings += _gateway(configuration, owner)
    findings += check_directory(configuration.storage)
    files = left_over(directory)
    reading = read_ledger(configuration, clock, running=owner is not None)
    findings += reading.findings
    if reading.sound and reading.names is not None:
        findings += check_files(files, reading.names)
    findings += check_copies(directory)
    findings.append(check_cache(directory / "cache", configuration.cache))
    if found.router is None:
        return findings
    if offline:
        return findings + disabled(found.router)
    return findings + asyncio.run(_providers(configuration, reading.last_alive))


def _configuration(configuration: Configuration, mistakes: Sequence[str]) -> Iterator[Finding]:
    from gateway.cli.checkup.findings import ok, problem

    source = "defaults and environment" if configuration.source is None else str(configuration.source)
    for mistake in mistakes:
        yield problem("configuration", mistake, f"mend it in {source}: the gateway does not start with it")
    if not mistakes:
        count = len(configuration.providers)
        yield ok("configuration", f"{source}: {count} provider{'' if count == 1 else 's'}")


def _gateway(configuration: Configuration, owner: int | None) -> Iterator[Finding]:
    """Whether one runs here, and answers."""
    from gateway.cli.checkup.findings import note, ok, problem
    from gateway.cli.steer import NotReached, base_address

    if owner is None:
        yield note("gateway", "none runs with this directory", "batchway serve")
        return
    process = f"process {owner}" if owner else "some process"
    try:
        base = base_address(configuration.server)
    except NotReached:
        yield ok("gateway", f"{process}; at which port is not in the configuration")
        return
    reason = asyncio.run(_unready(base))
    if reason is None:
        yield ok("gateway", f"{process}, answers at {base}")
    else:
        yield problem(
            "gateway",
            f"{process} holds the directory, and {base}/readyz {reason}",
            "mend what it names, else see its log; if it hangs, end that process: nothing accepted is lost",
        )


async def _unready(base: str) -> str | None:
    """What is wrong with the gateway at `base`; None: it is ready."""
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=READY_SECONDS)) as session,
            session.get(f"{base}/readyz", headers={"Host": "localhost"}) as response,
        ):
            return None if response.status == 200 else f"says {response.status}{_faults(await response.read())}"
    except aiohttp.ClientError as error:
        return f"does not answer ({type(error).__name__})"
    except TimeoutError:
        return f"has not answered within {READY_SECONDS:.0f} s"


def _faults(body: bytes) -> str:
    """What a gateway that is not ready says is in the way."""
    try:
        told = json.loads(body)
    except ValueError:
        return ""
    faults = told.get("faults") if isinstance(told, dict) else None
    return f": {'; '.join(map(str, faults))}" if isinstance(faults, list) and faults else ""


async def _providers(configuration: Configuration, alive: float | None) -> list[Finding]:
    from gateway.accounts import Accounts
    from gateway.cli.bench import open_router
    from gateway.cli.checkup.ledger import known_names
    from gateway.cli.checkup.providers import check_providers
    from gateway.cli.orphans import look_back
    from gateway.clock import SystemClock
    from gateway.metrics import Metrics
    from gateway.prices import Prices
    from gateway.sandbox.temporary import TemporaryFolder
    from gateway.store.sqlite import FILE_NAME

    clock, path = SystemClock(), configuration.storage.directory / FILE_NAME
    since = look_back(clock.now(), alive, configuration.storage.retention_days, None)
    accounts = Accounts(clock, configuration.retries, Metrics())
    # The providers' folders are the running gateway's, and there may be none yet.
    with TemporaryFolder("batchway-doctor-") as own:
        async with open_router(configuration, clock, Prices(clock), own, simulate=False) as router:
            return await check_providers(router, accounts, since, lambda: known_names(path))


def _repaired(path: Path | None) -> list[Finding]:
    """Do what cannot lose anything, with the directory for us alone. Raises `LedgerLocked` while a gateway runs."""
    from gateway.cli.checkup.directory import left_over, orphan_files
    from gateway.cli.checkup.findings import note
    from gateway.cli.checkup.ledger import read_ledger, recount
    from gateway.clock import SystemClock
    from gateway.config import load
    from gateway.store.sqlite import FILE_NAME

    configuration = load(path, os.environ)
    directory = configuration.storage.directory
    if not directory.is_dir():
        return []
    done = []
    with DirectoryLock.acquire(directory, wait_seconds=0):
        files = left_over(directory)
        reading = read_ledger(configuration, SystemClock(), running=False)
        # A ledger that is damaged, or not there, does not know what is needed.
        if not reading.sound:
            return [note("repaired", "nothing: the ledger itself is not sound")]
        for file in orphan_files(files, reading.names or []):
            file.unlink(missing_ok=True)
            done.append(note("repaired", f"{file.name} is deleted"))
        if reading.differences:
            count = recount(directory / FILE_NAME)
            done.append(note("repaired", f"the totals of {count} lanes are counted again"))
    return done


def _line(finding: Finding) -> str:
    start = f"{finding.status.value:<8} {finding.check:<20} {' '.join(finding.said.split())}"
    return f"{start} -> {finding.advice}" if finding.advice else start


def _record(finding: Finding) -> Mapping[str, object]:
    return {
        "status": finding.status.value,
        "check": finding.check,
        "said": finding.said,
        "advice": finding.advice or None,
    }
