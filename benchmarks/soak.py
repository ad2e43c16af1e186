"""`make soak`: the kill -9 loop of the tests for as long as it is left running; Ctrl-C ends it.

By turns a stretch of rounds with many callers at one provider and one with a few at each kind that has batches, every stretch on
a directory of its own. Ends with a status other than 0 when a promise was broken, and says by which seed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.sandbox.temporary import TemporaryFolder
from tests.acceptance.kill_loop import new_seed, open_kill_loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """So many rounds of one sort."""

    what: str
    rounds: int
    callers: int
    #: None of them named: all that have batches.
    kinds: Sequence[str] = ()


STRETCHES = (
    Stretch(what="one provider", rounds=100, callers=200, kinds=("openai",)),
    Stretch(what="every kind", rounds=50, callers=60),
)


def main() -> None:
    """Stretch after stretch, each with a seed of its own that follows from the first."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("seed", nargs="?", type=int, default=None, help="what an earlier run printed, to repeat it")
    parser.add_argument("--rounds", type=int, default=None, help="end after so many; default: never")
    arguments = parser.parse_args()
    seed = new_seed() if arguments.seed is None else arguments.seed
    asyncio.run(_soak(seed, arguments.rounds))


async def _soak(seed: int, most: int | None) -> None:
    done = 0
    for turn, stretch in enumerate(itertools.cycle(STRETCHES)):
        rounds = stretch.rounds if most is None else min(stretch.rounds, most - done)
        if not rounds:
            return
        print(f"{stretch.what}: {rounds} rounds, {stretch.callers} callers, seed {seed + turn}", flush=True)
        await _run(stretch, seed + turn, rounds)
        done += rounds


async def _run(stretch: Stretch, seed: int, rounds: int) -> None:
    with TemporaryFolder("batchway-soak-") as folder:
        async with open_kill_loop(folder, seed=seed, kinds=stretch.kinds, callers=stretch.callers) as loop:
            for _ in range(rounds):
                ended = await loop.round()
                missed = "" if ended.in_time else " (too late)"
                print(f"{ended.plan}{missed}: {ended.seconds:.1f} s", flush=True)
            await loop.finish()


if __name__ == "__main__":
    main()
