"""`batchway batches | requests | result`: what the ledger says, whether the gateway runs or not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.output import (
    Column,
    complaints,
    config_option,
    json_option,
    moment,
    number,
    show_json,
    show_list,
    text,
)
from gateway.config import early
from gateway.records import BatchState, RequestState

if TYPE_CHECKING:
    from gateway.store.ledger import Ledger
    from gateway.store.rows import Ending, Request
    from gateway.store.shipping import BatchRow

_OVER = (BatchState.COLLECTED, BatchState.DISSOLVED)


@click.command()
@config_option
@json_option
@click.option(
    "--state",
    "words",
    multiple=True,
    type=click.Choice([state.value for state in BatchState]),
    help="Only these; may be repeated.",
)
@click.option("--open", "only_open", is_flag=True, help="Only batches that are neither collected nor dissolved.")
@click.option("--limit", default=50, show_default=True, type=number)
def batches(*, path: Path | None, as_json: bool, words: tuple[str, ...], only_open: bool, limit: int) -> None:
    """List batches, the latest first."""
    states = [BatchState(word) for word in words] or list(BatchState)
    if only_open:
        states = [state for state in states if state not in _OVER]
    with complaints():
        ledger = _ledger(path)
        rows = asyncio.run(ledger.batches.listed(states, limit))
    columns: list[Column[BatchRow]] = [
        Column(heading="batch", cell=lambda row: str(row.id)),
        Column(heading="state", cell=lambda row: row.state.value),
        Column(heading="provider", cell=lambda row: row.lane.provider),
        Column(heading="model", cell=lambda row: row.lane.model),
        Column(heading="requests", cell=lambda row: str(row.count)),
        Column(heading="done", cell=lambda row: "-" if row.done is None else str(row.done)),
        Column(heading="sealed", cell=lambda row: moment(row.sealed_at)),
        Column(heading="remote id", cell=lambda row: row.remote_id or "-"),
        Column(heading="parked", cell=lambda row: row.parked_reason or "-"),
    ]
    show_list(rows, columns, batch_record, as_json=as_json)


@click.command()
@config_option
@json_option
@click.option(
    "--state",
    "words",
    multiple=True,
    type=click.Choice([state.value for state in RequestState]),
    help="Only these; may be repeated.",
)
@click.option("--client", type=text, help="Only this client's ('' for callers without a key).")
@click.option("--batch", type=number, help="Only those in this batch, by its number.")
@click.option("--limit", default=50, show_default=True, type=number)
def requests(
    *,
    path: Path | None,
    as_json: bool,
    words: tuple[str, ...],
    client: str | None,
    batch: int | None,
    limit: int,
) -> None:
    """List requests, the latest first. Their texts are not shown."""
    from gateway.cli.reading import latest_requests

    states = [RequestState(word) for word in words] or list(RequestState)
    with complaints():
        ledger = _ledger(path)
        rows = asyncio.run(latest_requests(ledger, client=client, states=states, batch=batch, limit=limit))
    columns: list[Column[Request]] = [
        Column(heading="custom_id", cell=lambda row: row.custom_id),
        Column(heading="state", cell=lambda row: row.state.value),
        Column(heading="client", cell=lambda row: row.client or "-"),
        Column(heading="provider", cell=lambda row: row.lane.provider),
        Column(heading="model", cell=lambda row: row.lane.model),
        Column(heading="batch", cell=lambda row: "-" if row.batch is None else str(row.batch)),
        Column(heading="attempts", cell=lambda row: str(row.attempts)),
        Column(heading="queued", cell=lambda row: moment(row.queued_at)),
        Column(heading="ended", cell=lambda row: moment(row.ended_at)),
        Column(heading="parked", cell=lambda row: row.parked_reason or "-"),
    ]
    show_list(rows, columns, request_record, as_json=as_json)


@click.command(short_help="Print an answer.")
@config_option
@click.option(
    "--client", type=text, help="Of this client, where several use the same name ('' for callers without a key)."
)
@click.argument("custom_id", type=text)
def result(*, path: Path | None, client: str | None, custom_id: str) -> None:
    """Print how a request ended: the completion or the error object, as JSON.

    Exits with 0 for an answer; with 1 when the request failed, has not ended yet (where it stands goes to standard error), or
    does not exist.
    """
    with complaints():
        found, ending = asyncio.run(_look_up(_ledger(path), client, custom_id))
    if found is None:
        raise click.ClickException(f"there is no request with the custom_id {custom_id!r}")
    if ending is None:
        held = f", parked: {found.parked_reason}" if found.parked_reason else ""
        place = f", in batch {found.batch} ({found.batch_state})" if found.batch is not None else ""
        raise click.ClickException(f"{custom_id} has not ended: {found.state.value}{place}{held}")
    import orjson

    show_json(orjson.loads(ending.body))
    if ending.state is not RequestState.SUCCEEDED:
        click.echo(f"{custom_id} {ending.state.value} with status {ending.status}", err=True)
        raise SystemExit(1)


def batch_record(row: BatchRow) -> Mapping[str, object]:
    """A batch for programs; times are seconds since 1970."""
    return {
        "batch_id": row.id,
        "marker": row.marker,
        "state": row.state.value,
        "provider": row.lane.provider,
        "endpoint": row.lane.endpoint,
        "model": row.lane.model,
        "account": row.account,
        "requests": row.count,
        "bytes": row.size,
        "done": row.done,
        "remote_id": row.remote_id,
        "submissions": row.submissions,
        "ambiguous": row.ambiguous,
        "sealed_at": row.sealed_at,
        "submitted_at": row.submitted_at,
        "ended_at": row.ended_at,
        "collected_at": row.collected_at,
        "parked_reason": row.parked_reason,
        "retry_at": row.retry_at or None,
    }


def request_record(row: Request) -> Mapping[str, object]:
    """A request for programs: what `GET /v1/results` lists, and whose it is."""
    from gateway.endpoints.results import listed

    return {"client": row.client, **listed(row)}


async def _look_up(ledger: Ledger, client: str | None, custom_id: str) -> tuple[Request | None, Ending | None]:
    found = await ledger.requests.find(client, "", custom_id)
    return found, None if found is None else await ledger.requests.ending(found.seq)


def _ledger(path: Path | None) -> Ledger:
    from gateway.cli.reading import open_ledger

    _, storage = early(path, os.environ)
    return open_ledger(storage)
