"""`batchway serve`: listen first, then load everything, then answer.

Callers of a gateway that restarts use up their tries within about 1.5 s; from the moment the socket listens the
kernel keeps them.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.config import early
from gateway.errors import ConfigurationError, LedgerError
from gateway.listening import listen, raise_file_limit
from gateway.store.lock import DirectoryLock

if TYPE_CHECKING:
    from gateway.config import Configuration

#: How long to wait for the process before us to let go of the ledger.
LOCK_SECONDS = 10.0


@click.command()
@click.option("--config", "path", type=click.Path(path_type=Path), help="Configuration file; else ./config.toml.")
@click.option(
    "--log-level", default="info", show_default=True, type=click.Choice(["debug", "info", "warning", "error"])
)
def serve(path: Path | None, log_level: str) -> None:
    """Run the gateway until SIGTERM or Ctrl-C; logs are JSON lines on standard error."""
    try:
        server, storage = early(path, os.environ)
        lock = DirectoryLock.acquire(storage.directory, wait_seconds=LOCK_SECONDS)
    except ConfigurationError as error:
        raise _refused(path, error) from error
    except LedgerError as error:
        raise click.ClickException(str(error)) from error
    try:
        listener = listen(server.host, server.port)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {server.host}:{server.port}: {error}") from error
    raise SystemExit(_run(path, lock, listener, log_level))


def _run(path: Path | None, lock: DirectoryLock, listener: socket.socket, log_level: str) -> int:
    """Everything after the socket listens; returns the exit status."""
    from gateway.config import load
    from gateway.logs import configure
    from gateway.run import run

    try:
        configuration: Configuration = load(path, os.environ)
    except ConfigurationError as error:
        raise _refused(path, error) from error
    configure(sys.stderr, log_level, configuration.secrets)
    # Prompts and answers lie in whatever the gateway and its libraries write: for its own user only.
    os.umask(0o077)
    try:
        return run(configuration, lock, listener, raise_file_limit())
    except ConfigurationError as error:
        raise _refused(path, error) from error
    except LedgerError as error:
        raise click.ClickException(str(error)) from error


def _refused(path: Path | None, error: ConfigurationError) -> click.ClickException:
    """All mistakes at once: a start stops at the first stage that finds one, and later stages would find more."""
    from gateway.cli.inspection import inspect

    return click.ClickException("\n".join(dict.fromkeys((*error.mistakes, *inspect(path, os.environ).mistakes))))
