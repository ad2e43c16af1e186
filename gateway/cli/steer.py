"""`batchway cancel | flush`: wishes for the running gateway, over HTTP, with the operator's token."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import click

from gateway.cli.output import complaints, config_option, number, text
from gateway.config import Server, Storage, early
from gateway.errors import BatchwayError
from gateway.records import RequestState

#: A gateway on this machine that says nothing for so long is not well.
ANSWER_SECONDS = 30.0
#: Addresses to listen on that are none to connect to.
_ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


@click.command()
@config_option
@click.argument("custom_id", required=False, type=text)
@click.option(
    "--client", type=text, help="Of this client, where several use the same name ('' for callers without a key)."
)
@click.option("--batch", "batch_id", type=number, help="Every request of this batch, by its number.")
def cancel(path: Path | None, custom_id: str | None, client: str | None, batch_id: int | None) -> None:
    """Cancel one request, or every request of a batch.

    A request that is still queued ends at once. One that is with the provider is marked: it ends as cancelled unless its
    answer is there first.
    """
    if (custom_id is None) == (batch_id is None):
        raise click.UsageError("name one CUSTOM_ID, or one --batch ID")
    if client is not None and batch_id is not None:
        raise click.UsageError("--client goes with a CUSTOM_ID: a batch has one number for all clients")
    wish: dict[str, object] = {"custom_id": custom_id} if batch_id is None else {"batch_id": batch_id}
    if client is not None:
        wish["client"] = client
    with complaints():
        answer = asyncio.run(_post(path, "/ops/cancel", wish))
    if batch_id is not None:
        click.echo(f"batch {batch_id}: {answer.get('cancelling')} requests marked for cancelling")
    elif answer.get("cancelling") and answer.get("batch_id") is None:
        click.echo(f"{custom_id}: marked; it is being asked now, and ends as cancelled unless it is answered")
    elif answer.get("cancelling"):
        click.echo(f"{custom_id}: marked; it is in batch {answer.get('batch_id')} and ends with it")
    elif answer.get("state") == RequestState.CANCELLED:
        click.echo(f"{custom_id}: cancelled")
    else:
        click.echo(f"{custom_id}: stays as it is, for it has ended: {answer.get('state')}")


@click.command()
@config_option
def flush(path: Path | None) -> None:
    """Seal what is queued now, without waiting for more."""
    with complaints():
        answer = asyncio.run(_post(path, "/ops/flush", {}))
    click.echo(f"{answer.get('queued')} queued requests will be sealed as far as the providers' limits allow")


class NotReached(BatchwayError):
    """No gateway took the wish; the message says why and what to do."""


async def _post(path: Path | None, route: str, wish: Mapping[str, object]) -> dict[str, object]:
    """Ask the gateway that this configuration describes; its answer. Raises `NotReached`."""
    import aiohttp

    server, storage = early(path, os.environ)
    base = base_address(server)
    # By a loopback name whatever the address is: the allow-list of hosts always has those.
    headers = {"Authorization": f"Bearer {_token(storage)}", "Host": "localhost"}
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(base + route, json=wish, headers=headers) as response,
        ):
            answer = await response.json(content_type=None)
    except aiohttp.ClientConnectionError:
        raise NotReached(f"no gateway answers at {base}: start it with `batchway serve`") from None
    except (TimeoutError, ValueError):
        raise NotReached(f"what answers at {base} is no gateway, or is not well: see its log") from None
    return _understood(answer, response.status, base)


def _understood(answer: object, status: int, base: str) -> dict[str, object]:
    body = answer if isinstance(answer, dict) else {}
    if status < 300:
        return body
    error = body.get("error")
    message = error.get("message") if isinstance(error, dict) else f"the gateway at {base} answered {status}"
    if status == 401:
        message = f"the gateway at {base} does not take this operator's token: it keeps its ledger in another directory"
    raise NotReached(str(message))


def base_address(server: Server) -> str:
    """Where the gateway is reached from this machine. Raises `NotReached` when the configuration does not say."""
    if not server.port:
        raise NotReached("server.port is 0, so the configuration does not say where the gateway listens: name a port")
    host = _ANY_ADDRESS.get(server.host, server.host).strip("[]")
    return f"http://[{host}]:{server.port}" if ":" in host else f"http://{host}:{server.port}"


def _token(storage: Storage) -> str:
    from gateway.endpoints.keys import TOKEN_FILE

    file = storage.directory / TOKEN_FILE
    try:
        return file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise NotReached(
            f"there is no {file}: no gateway has run with this configuration yet (--config names another one)"
        ) from None
    except OSError as error:
        raise NotReached(
            f"{file} cannot be read ({error.strerror}): run this as the user who runs the gateway"
        ) from None
