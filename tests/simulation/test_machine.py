"""Whatever callers, operators, the provider and crashes do, in whatever order: the promises hold at every step.

`BATCHWAY_EXAMPLES` sets how many lives are tried; as many as a build can bear otherwise, and always the same ones.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.simulation.callers import Caller, Stage, Way
from tests.simulation.checks import ending_of
from tests.simulation.making import KINDS, Options
from tests.simulation.seeds import MOMENTS
from tests.simulation.weather import BAD, FAULTS, FLAKY, POISON, Weather
from tests.simulation.world import World

EXAMPLES = int(os.environ.get("BATCHWAY_EXAMPLES", "40"))
PROMPTS = ("one", "two", "three", f"{FLAKY} four", f"{BAD} five", f"{POISON} six")
NAMES = ("alpha", "beta")
#: A create that arrives late does so within the quarantine.
WEATHER = Weather(late=60.0)

ORDERS = [(verb, fault) for verb, faults in FAULTS.items() for fault in faults]


class Lives(RuleBasedStateMachine):
    """One gateway, its callers and its provider; the model is what each name was first used for."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="batchway-machine-")
        self.world: World | None = None

    @initialize(
        kind=st.sampled_from(sorted(KINDS)),
        seed=st.integers(0, 10_000),
        most=st.sampled_from((None, 1, 3)),
        lines=st.sampled_from((None, 3)),
        attempts=st.sampled_from((1, 3)),
    )
    def begin(self, kind: str, seed: int, most: int | None, lines: int | None, attempts: int) -> None:
        """A new world."""
        options = Options(
            kind=kind,
            max_requests=most,
            most_lines=lines,
            max_attempts=attempts,
            weather=WEATHER,
            turnaround=(20.0, 90.0),
        )
        self.world = World(seed, options, Path(self._folder.name) / "world")
        self.world.__enter__()

    @property
    def it(self) -> World:
        """The world, which has begun."""
        assert self.world is not None
        return self.world

    @rule(
        prompt=st.sampled_from(PROMPTS),
        way=st.sampled_from(Way),
        name=st.sampled_from((None, None, *NAMES)),
        answers=st.sampled_from((1, 1, 1, 2)),
    )
    def submit(self, prompt: str, way: Way, name: str | None, answers: int) -> None:
        """A caller comes; with a name that was used before, for the same or for something else."""
        caller = Caller(number=len(self.it.callers), prompt=prompt, way=way, custom_id=name, answers=answers)
        self.it.ask(caller)

    @rule(seconds=st.sampled_from((0.5, 3.0, 15.0, 60.0, 150.0)))
    def tick(self, seconds: float) -> None:
        """Time goes by."""
        self.it.advance(seconds)

    @rule(down=st.sampled_from((0.5, 30.0, 200.0)))
    def crash(self, down: float) -> None:
        """The process dies and comes back."""
        self.it.crash(down)

    @rule(moment=st.sampled_from(MOMENTS), count=st.integers(1, 12))
    def lay_a_trap(self, moment: str, count: int) -> None:
        """The process will die at a moment to come."""
        self.it.crash_at(moment, count)

    @rule()
    def restart(self) -> None:
        """The process is stopped in order, and started."""
        self.it.stop()

    @rule(order=st.sampled_from(ORDERS))
    def fault(self, order: tuple[str, str]) -> None:
        """The next call of this kind goes wrong in this way."""
        verb, fault = order
        self.it.remote.orders[verb].append(fault)  # type: ignore[arg-type]

    @rule(seconds=st.sampled_from((20.0, 200.0)), refused=st.booleans())
    def outage(self, seconds: float, refused: bool) -> None:
        """The provider is away, or refuses the key."""
        now = self.it.remote.now()
        (self.it.remote.locked if refused else self.it.remote.down).append((now, now + seconds))

    @rule()
    def expire(self) -> None:
        """A remote batch ends before all of it is done."""
        running = [job for job in self.it.remote.jobs.values() if self.it.remote.running(job)]
        if running:
            running[-1].expires = self.it.remote.now()

    @precondition(lambda self: self.world is not None and self.world.callers)
    @rule(which=st.integers(0, 50))
    def hang_up(self, which: int) -> None:
        """A caller goes away."""
        self.it.hang_up(self.it.callers[which % len(self.it.callers)])

    @precondition(lambda self: self.world is not None and self._named())
    @rule(which=st.integers(0, 50), operator=st.booleans())
    def cancel(self, which: int, operator: bool) -> None:
        """A caller, or an operator, cancels."""
        names = self._named()
        batches = self.it.sql("SELECT id FROM batches ORDER BY id")
        if operator and batches:
            self.it.cancel_batch(batches[which % len(batches)][0])
        else:
            self.it.cancel(names[which % len(names)])

    @precondition(lambda self: self.world is not None and self._named())
    @rule(which=st.integers(0, 50))
    def read(self, which: int) -> None:
        """Somebody looks a result up: it says what it said before."""
        names = self._named()
        self.it.read(names[which % len(names)])

    def _named(self) -> list[str]:
        return sorted({caller.accepted_as for caller in self.it.callers if caller.accepted_as})

    @invariant()
    def nothing_is_wrong(self) -> None:
        """No promise has been broken so far."""
        if self.world is not None and self.world.violations:
            raise AssertionError(self.world.report())

    def teardown(self) -> None:
        """The faults stop: everything ends, and a name is used for one thing only."""
        if self.world is None:
            self._folder.cleanup()
            return
        try:
            self.world.finish()
            assert not self._names_used_twice(), self.world.report()
        finally:
            self.world.__exit__()
            self._folder.cleanup()

    def _names_used_twice(self) -> list[str]:
        used: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
        for caller in self.it.callers:
            served = caller.stage is Stage.SERVED and caller.outcome is not None
            if caller.custom_id and served and ending_of(caller.outcome).told != ("name_taken",):  # type: ignore[arg-type]
                used[caller.custom_id].add((caller.prompt, caller.answers))
        return [name for name, bodies in used.items() if len(bodies) > 1]


TestLives = Lives.TestCase
TestLives.__doc__ = "The promises hold at every step of every life that Hypothesis thinks of."
TestLives.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    # A life takes half a second: making a failing one small takes minutes, which are well spent only by hand.
    phases=(Phase.explicit, Phase.generate) if "BATCHWAY_EXAMPLES" not in os.environ else tuple(Phase),
    derandomize="BATCHWAY_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
