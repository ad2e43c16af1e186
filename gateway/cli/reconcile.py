"""`batchway reconcile`: after a restored backup, look for every open batch before anything is sent."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.output import (
    Amount,
    Column,
    complaints,
    config_option,
    is_there,
    json_option,
    number,
    show_json,
    show_list,
)
from gateway.config import Configuration, early, load
from gateway.errors import LedgerLocked
from gateway.store.lock import DirectoryLock

if TYPE_CHECKING:
    from gateway.cli.bench import Bench
    from gateway.cli.orphans import Orphan
    from gateway.cli.restoring import Listing, Outcome, Restorer
    from gateway.store.shipping import BatchRow


@click.command(short_help="Look for batches at their providers before anything is sent.")
@config_option
@json_option
@click.argument("numbers", metavar="[BATCH]...", nargs=-1, type=number)
@click.option("--all", "everything", is_flag=True, help="Every open batch, and what the ledger does not know of.")
@click.option("--days", type=Amount(min=0.01), help="With --all: how far back to read the providers' lists.")
@click.option(
    "--cancel-orphans", is_flag=True, help="With --all: stop what the ledger does not know of and still runs."
)
def reconcile(
    *,
    path: Path | None,
    as_json: bool,
    numbers: tuple[int, ...],
    everything: bool,
    days: float | None,
    cancel_orphans: bool,
) -> None:
    """Look for batches at their providers, and write down where they are, before anything is sent. For a ledger that was
    restored from a backup, while no gateway runs.

    Exits with 1 if a batch could not be looked for, or something that the ledger does not know of still runs.
    """
    if everything and numbers:
        raise click.UsageError("--all is every open batch: leave out the numbers, or leave out --all")
    if not everything and not numbers:
        raise click.UsageError("name batches by their numbers, or say --all")
    if (cancel_orphans or days is not None) and not everything:
        raise click.UsageError("--cancel-orphans and --days go with --all")
    with complaints():
        configuration, lock = _alone(path)
        wish = Wish(numbers=numbers, days=days, cancel=cancel_orphans)
        done = asyncio.run(_run(configuration, lock, wish))
    _show(done, as_json=as_json)
    raise SystemExit(1 if done.left else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the command line asks for."""

    #: Of these batches only; none: of all, and of what the ledger does not know.
    numbers: tuple[int, ...]
    days: float | None
    cancel: bool


@dataclass(slots=True, kw_only=True)
class Done:
    """What was found."""

    outcomes: list[Outcome] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)
    #: Orphans that were to be stopped -> why they could not be, or None.
    cancelled: dict[str, str | None] = field(default_factory=dict)

    @property
    def orphans(self) -> list[Orphan]:
        """Of all providers."""
        return [orphan for listing in self.listings for orphan in listing.orphans]

    @property
    def left(self) -> bool:
        """Whether something is left to do for the operator."""
        failed = any(listing.reason is not None and not listing.unable for listing in self.listings)
        running = any(self.fate(orphan) == "runs" for orphan in self.orphans)
        return failed or running or any(outcome.left for outcome in self.outcomes)

    def fate(self, orphan: Orphan) -> str:
        """What an orphan does by now."""
        if not orphan.running:
            return "over"
        if self.cancelled.get(orphan.remote.remote_id, "") is None:
            return "asked to stop"
        return "runs"


def _alone(path: Path | None) -> tuple[Configuration, DirectoryLock]:
    """The configuration, and the directory for us alone."""
    _, storage = early(path, os.environ)
    if not is_there(storage.directory / "ledger.sqlite"):
        raise click.ClickException(f"there is no ledger in {storage.directory}: put the backup there first")
    try:
        lock = DirectoryLock.acquire(storage.directory, wait_seconds=0)
    except LedgerLocked as error:
        raise click.ClickException(
            f"{error}. A running gateway looks for its batches by itself; this command is for one that is stopped"
        ) from error
    return load(path, os.environ), lock


async def _run(configuration: Configuration, lock: DirectoryLock, wish: Wish) -> Done:
    from gateway.cli.bench import open_bench
    from gateway.cli.restoring import Restorer
    from gateway.clock import SystemClock
    from gateway.logs import Redactor, configure

    configure(sys.stderr, "error", configuration.secrets)
    # Providers repeat keys in what they say of them.
    clean = Redactor(configuration.secrets).text
    done = Done()
    async with open_bench(configuration, lock, SystemClock()) as bench:
        restorer = Restorer(bench.upstream, bench.waiters, configuration.retries, configuration.polling, bench.tasks)
        chosen = _chosen(await restorer.open_batches(), wish.numbers)
        for place, batch in enumerate(chosen, start=1):
            _tell(f"[{place}/{len(chosen)}] batch {batch.id}, {batch.lane.provider}, {batch.count} requests")
            outcome = await restorer.look(batch)
            done.outcomes.append(replace(outcome, said=clean(outcome.said)))
        if not wish.numbers:
            await _list(bench, restorer, wish, done, clean)
    return done


def _chosen(batches: Sequence[BatchRow], numbers: Sequence[int]) -> list[BatchRow]:
    missing = set(numbers) - {batch.id for batch in batches}
    if missing:
        raise click.ClickException(f"no open batch has the number {', '.join(map(str, sorted(missing)))}")
    return [batch for batch in batches if not numbers or batch.id in numbers]


async def _list(bench: Bench, restorer: Restorer, wish: Wish, done: Done, clean: Callable[[str], str]) -> None:
    for name, provider in bench.router.providers.items():
        _tell(f"reading what {name} has")
        retention = bench.configuration.storage.retention_days
        listing = await restorer.list_orphans(provider, retention, wish.days)
        done.listings.append(listing if listing.reason is None else replace(listing, reason=clean(listing.reason)))
        for orphan in listing.orphans:
            if wish.cancel and orphan.certain and orphan.running:
                _tell(f"stopping {orphan.remote.remote_id}")
                trouble = await restorer.cancel(orphan)
                done.cancelled[orphan.remote.remote_id] = None if trouble is None else clean(trouble)


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _show(done: Done, *, as_json: bool) -> None:
    if as_json:
        unlisted = [
            {"kind": "unlisted", "provider": each.provider, "reason": each.reason, "left": not each.unable}
            for each in done.listings
            if each.reason is not None
        ]
        show_json(
            [*map(_batch_record, done.outcomes), *(_orphan_record(done, each) for each in done.orphans), *unlisted]
        )
        return
    if done.outcomes:
        columns: list[Column[Outcome]] = [
            Column(heading="batch", cell=lambda each: str(each.batch.id)),
            Column(heading="provider", cell=lambda each: each.batch.lane.provider),
            Column(heading="model", cell=lambda each: each.batch.lane.model),
            Column(heading="requests", cell=lambda each: str(each.batch.count)),
            Column(heading="was", cell=lambda each: each.before.value),
            Column(heading="is", cell=lambda each: each.batch.state.value),
            Column(heading="what was found", cell=lambda each: each.said),
        ]
        show_list(done.outcomes, columns, _batch_record, as_json=False)
    else:
        click.echo("no open batch")
    _show_orphans(done)


def _show_orphans(done: Done) -> None:
    for listing in done.listings:
        if listing.reason is not None:
            click.echo(f"{listing.provider}: what it has is not known: {listing.reason}")
    if not done.orphans:
        if any(listing.reason is None for listing in done.listings):
            click.echo("the providers have nothing that the ledger does not know of")
        return
    click.echo(f"{len(done.orphans)} remote batches that the ledger does not know of:")
    columns: list[Column[Orphan]] = [
        Column(heading="provider", cell=lambda each: each.provider),
        Column(heading="remote id", cell=lambda each: each.remote.remote_id),
        Column(heading="requests", cell=lambda each: _number(each.remote.total)),
        Column(heading="done", cell=lambda each: _number(each.remote.done)),
        Column(heading="state", cell=done.fate),
        Column(heading="what it is", cell=lambda each: _said(each, done)),
    ]
    show_list(done.orphans, columns, lambda each: _orphan_record(done, each), as_json=False)
    if any(done.fate(each) == "runs" and each.certain for each in done.orphans):
        click.echo(
            "What runs is being paid for, and the requests in it may be sent once more. Unless it belongs to another gateway "
            "of this account, stop it: batchway reconcile --all --cancel-orphans"
        )


def _said(orphan: Orphan, done: Done) -> str:
    failed = done.cancelled.get(orphan.remote.remote_id)
    if failed:
        return f"could not be stopped: {failed}"
    if orphan.copy_of is not None:
        return f"a copy of batch {orphan.copy_of}"
    if orphan.certain:
        return f"made by a gateway (marker {orphan.remote.marker})"
    return "perhaps not a gateway's: nothing here says who made it"


def _number(count: int | None) -> str:
    return "-" if count is None else str(count)


def _batch_record(outcome: Outcome) -> Mapping[str, object]:
    from gateway.cli.ledger import batch_record

    return {
        "kind": "batch",
        "before": outcome.before.value,
        "said": outcome.said,
        "left": outcome.left,
        **batch_record(outcome.batch),
    }


def _orphan_record(done: Done, orphan: Orphan) -> Mapping[str, object]:
    created = orphan.remote.created
    return {
        "kind": "orphan",
        "provider": orphan.provider,
        "remote_id": orphan.remote.remote_id,
        "marker": orphan.remote.marker,
        "copy_of": orphan.copy_of,
        "requests": orphan.remote.total,
        "done": orphan.remote.done,
        "created_at": None if created is None else created.timestamp(),
        "fate": done.fate(orphan),
        "trouble": done.cancelled.get(orphan.remote.remote_id),
    }
