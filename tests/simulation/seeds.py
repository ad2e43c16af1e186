"""From a seed to a world: its options, its callers, its faults and its crashes."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from gateway.sandbox.temporary import TemporaryFolder
from tests.simulation.callers import Caller, Stage, Way
from tests.simulation.making import Options
from tests.simulation.weather import BAD, FLAKY, HOPELESS, POISON, POISON_LATE, POISON_NAMED, Weather
from tests.simulation.world import World

#: Moments that a crash is aimed at.
MOMENTS = (
    "before commit", "after commit", "before submit", "after submit", "before upload", "after upload", "before find",
    "after find", "before poll", "after poll", "before fetch", "after fetch", "before cancel", "after cancel",
    "before discard", "after discard", "before thread", "after thread", "before complete", "after complete",
)  # fmt: skip
#: A crash at a commit is at one of the next so many.
COMMITS_AHEAD = 60


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one seed."""

    seed: int
    options: Options
    trace: str
    steps: int
    crashes: int
    seconds: float
    jobs: int
    #: Creates that repeated what was live, in a documented window.
    windows: int
    copies: int
    faults: dict[str, int]


def run_seed(seed: int, directory: Path) -> Outcome:
    """Live through the world of `seed`. Raises AssertionError with its report when a promise is broken."""
    chance = Random(f"seed {seed}")
    options = options_of(chance)
    with World(seed, options, directory / str(seed)) as world:
        for at, event in sorted(_events(world, chance), key=lambda each: each[0]):
            world.advance(max(0.0, at - world.time))
            event()
        world.finish()
        return Outcome(
            seed=seed,
            options=options,
            trace=world.trace,
            steps=world.counts["steps"],
            crashes=world.crashes,
            seconds=world.time,
            jobs=len(world.remote.jobs),
            windows=len(world.windows),
            copies=len(world.copies()),
            faults=dict(world.remote.met),
        )


def run_alone(seed: int) -> Outcome:
    """As `run_seed`, in a folder that is deleted again."""
    with TemporaryFolder("batchway-simulation-") as directory:
        return run_seed(seed, directory)


def lived(seed: int) -> Outcome | str:
    """As `run_alone`; the report where a promise was broken."""
    try:
        return run_alone(seed)
    except AssertionError as error:
        return f"--- {error}"
    except Exception:  # noqa: BLE001 - the next seed must be tried all the same
        return f"--- seed {seed}\n{traceback.format_exc()}"


def options_of(chance: Random) -> Options:
    """What the world of a seed is like."""
    kind = chance.choices(("marked", "unmarked", "single"), (6, 3, 2))[0]
    windows = chance.random() < 0.12
    bad = chance.random()
    weather = Weather(
        faults=chance.choice((0.0, 0.03, 0.1, 0.3)),
        create_faults=chance.choice((0.0, 0.4, 0.7)),
        lag=300.0 if windows else chance.choice((0.0, 30.0, 100.0)),
        late=400.0 if windows else 100.0,
        bad_lines=chance.choice((0.0, 0.0, 0.1, 0.3)) if bad < 0.7 else 0.0,
        odd_rows=chance.choice((0.0, 0.3)),
        endless=chance.choice((0.0, 0.0, 0.1)),
        refused=chance.choice((0.0, 0.0, 0.15)),
        expired=chance.choice((0.0, 0.2)),
        strangers=chance.choice((0.0, 0.3)) if kind == "unmarked" else 0.0,
    )
    return Options(
        kind=kind,
        shuffled=chance.random() < 0.8,
        ambiguous=chance.choices(("wait", "resubmit", "fail"), (10, 1, 1))[0],
        on_disconnect=chance.choice(("keep", "keep", "cancel")),
        max_attempts=chance.choice((1, 3, 3, 5)),
        max_requests=chance.choice((None, 1, 2, 2, 5)),
        max_open_batches=chance.choice((None, None, 1, 2)),
        max_enqueued_tokens=chance.choice((None, None, 200)),
        most_lines=chance.choice((None, None, 4, 10)),
        turnaround=chance.choice(((5.0, 30.0), (20.0, 200.0), (100.0, 700.0))),
        weather=weather,
    )


def _events(world: World, chance: Random) -> list[tuple[float, Callable[[], object]]]:
    """When what happens."""
    span = chance.choice((200.0, 600.0, 1500.0))
    events: list[tuple[float, Callable[[], object]]] = [(span, lambda: None)]
    prompts = _prompts(chance)
    for number in range(chance.choice((4, 10, 20))):
        caller = _caller(number, chance, prompts)
        # Some come together, so that simultaneous equal calls are separate samples.
        at = round(chance.uniform(0, span * 0.7), 0 if chance.random() < 0.5 else 3)
        events.append((at, _asks(world, caller)))
        if chance.random() < 0.15:
            events.append((at + chance.uniform(0, 100), _hangs_up(world, caller)))
        if chance.random() < 0.12:
            events.append((at + chance.uniform(0, 200), _cancels(world, caller)))
        if chance.random() < 0.2:
            events.append((at + chance.uniform(0, span), _reads(world, caller)))
    if chance.random() < 0.15:
        events.append((chance.uniform(0, span), _cancels_a_batch(world, chance)))
    events += [(chance.uniform(0, span), _crashes(world, chance)) for _ in range(chance.choice((0, 1, 2, 4, 8)))]
    if chance.random() < 0.3:
        events.append((chance.uniform(0, span), lambda: world.stop(chance.uniform(1, 100))))
    if chance.random() < 0.2:
        begin = chance.uniform(0, span)
        events.append((begin, _down(world, chance.uniform(10, 600))))
    if chance.random() < 0.15:
        begin = chance.uniform(0, span)
        events.append((begin, _locked(world, chance.uniform(10, 200))))
    return events


def _prompts(chance: Random) -> list[str]:
    prompts = [f"question {number}" for number in range(chance.choice((2, 6, 15)))]
    for word, likely in (
        (POISON, 0.1),
        (POISON_NAMED, 0.1),
        (POISON_LATE, 0.1),
        (BAD, 0.2),
        (FLAKY, 0.3),
        (HOPELESS, 0.1),
    ):
        if chance.random() < likely:
            prompts.append(f"{word} one")
    return prompts


def _caller(number: int, chance: Random, prompts: list[str]) -> Caller:
    return Caller(
        number=number,
        prompt=chance.choice(prompts),
        way=chance.choices(tuple(Way), (5, 2, 3))[0],
        custom_id=f"name-{chance.randrange(6)}" if chance.random() < 0.25 else None,
        answers=chance.choice((2, 3)) if chance.random() < 0.12 else 1,
        run=f"run-{chance.randrange(2)}" if chance.random() < 0.1 else None,
        no_cache=chance.random() < 0.05,
    )


def _asks(world: World, caller: Caller) -> Callable[[], object]:
    return lambda: world.ask(caller)


def _hangs_up(world: World, caller: Caller) -> Callable[[], object]:
    return lambda: world.hang_up(caller)


def _name_of(caller: Caller) -> str | None:
    return caller.accepted_as or caller.custom_id if caller.stage is not Stage.ASKING or caller.custom_id else None


def _cancels(world: World, caller: Caller) -> Callable[[], object]:
    def cancel() -> None:
        name = _name_of(caller)
        if name is not None:
            world.cancel(name)

    return cancel


def _reads(world: World, caller: Caller) -> Callable[[], object]:
    def read() -> None:
        name = _name_of(caller)
        if name is not None:
            world.read(name)

    return read


def _cancels_a_batch(world: World, chance: Random) -> Callable[[], object]:
    def cancel() -> None:
        rows = world.sql("SELECT id FROM batches ORDER BY id DESC LIMIT 3")
        if rows:
            world.cancel_batch(chance.choice(rows)[0])

    return cancel


def _crashes(world: World, chance: Random) -> Callable[[], object]:
    if chance.random() < 0.15:
        down = chance.uniform(0.5, 300)
        return lambda: world.crash(down)
    # Around the one call that cannot be repeated there are more of them.
    moment = chance.choice((*MOMENTS, "before submit", "after submit", "after submit", "after submit"))
    ahead = chance.randrange(1, COMMITS_AHEAD) if moment.endswith(("commit", "thread")) else chance.choice((1, 1, 1, 2))
    return lambda: world.crash_at(moment, ahead)


def _down(world: World, seconds: float) -> Callable[[], object]:
    return lambda: world.remote.down.append((world.remote.now(), world.remote.now() + seconds))


def _locked(world: World, seconds: float) -> Callable[[], object]:
    return lambda: world.remote.locked.append((world.remote.now(), world.remote.now() + seconds))
