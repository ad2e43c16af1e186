"""`batchway demo`: a labelling job through simulated batches, with a crash in the middle, and the bill.

cast       which simulated providers take part
workload   the job: what is asked
oracle     what the right answers are
processes  the sandbox and the gateway as processes of their own
leash      how they end when the demonstration is killed
walk       the demonstration, step by step
bill       what it came to
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from pathlib import Path

import click

from gateway.cli.output import TIME, complaints, ignored_config_option
from gateway.signals import when_told_to_end


@click.command(short_help="See it work: a labelling job, a crash, the bill.")
@ignored_config_option
@click.option(
    "--provider",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="Only this simulated provider; may be repeated. All that are installed, if none is named.",
)
@click.option("--requests", "count", default=300, show_default=True, type=click.IntRange(min=4))
@click.option(
    "--batch-seconds", type=TIME, default=12.0, show_default=True, help="How long a simulated batch runs, more or less."
)
@click.option(
    "--directory", type=click.Path(path_type=Path), help="An empty folder to leave everything in; else nowhere."
)
def demo(*, kinds: tuple[str, ...], count: int, batch_seconds: float, directory: Path | None) -> None:
    """Send a labelling job through the gateway and simulated providers: no key, no money, a minute.

    The gateway is killed on the way. Exits with 1 if an answer is wrong or anything was asked for twice.
    """
    from gateway.cli.demo.cast import parts
    from gateway.cli.demo.walk import Wishes, walk

    cast = parts(kinds)
    with complaints(), _folder(directory) as folder:
        wishes = Wishes(cast=cast, count=count, batch_seconds=batch_seconds, directory=folder)
        try:
            right = asyncio.run(_interruptible(walk(wishes)))
        except asyncio.CancelledError:
            click.echo("Interrupted; the gateway and the sandbox have been stopped.", err=True)
            raise SystemExit(130) from None
    raise SystemExit(0 if right else 1)


@contextlib.contextmanager
def _folder(directory: Path | None) -> Iterator[Path]:
    """`directory`, which has to be empty, or a temporary one that is gone afterwards."""
    if directory is None:
        from gateway.sandbox.temporary import TemporaryFolder

        with TemporaryFolder("batchway-demo-") as temporary:
            yield temporary
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        used = any(directory.iterdir())
    except OSError as error:
        raise click.BadParameter(f"{directory}: {error.strerror}", param_hint="--directory") from error
    if used:
        raise click.BadParameter(f"{directory} is not empty", param_hint="--directory")
    yield directory.resolve()


async def _interruptible(steps: Coroutine[None, None, bool]) -> bool:
    """Run `steps`; SIGTERM and a closed terminal end them as Ctrl-C does, so that no child is left behind."""
    task = asyncio.current_task()
    if task is not None:
        when_told_to_end(task.cancel)
    return await steps
