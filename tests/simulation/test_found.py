"""Lives in which a promise was once broken, step by step."""

from __future__ import annotations

from pathlib import Path

from tests.simulation.callers import Caller, Stage, Way
from tests.simulation.making import Options
from tests.simulation.weather import Fault, Weather
from tests.simulation.world import World


def test_a_stop_right_after_a_start_ends(tmp_path: Path) -> None:
    """Callers come again the moment the process is back, and it is told to stop: nobody holds up that stop."""
    options = Options(kind="unmarked", max_requests=1, weather=Weather(late=60.0), turnaround=(20.0, 90.0))
    with World(387, options, tmp_path) as world:
        world.ask(Caller(number=0, prompt="one", custom_id="alpha"))
        world.stop()
        world.ask(Caller(number=1, prompt="two", way=Way.STREAM, custom_id="beta", answers=2))
        world.ask(Caller(number=2, prompt="three", way=Way.ASYNC))
        world.crash(200)
        world.stop()
        world.finish()

    assert [caller.stage for caller in world.callers] == [Stage.SERVED] * 3


def test_a_lost_create_without_a_marker_is_found_by_any_of_its_rows(tmp_path: Path) -> None:
    """Rows of nobody and garbled ones stand among ours in any order: the batch is ours, and is not sent again."""
    options = Options(kind="unmarked", weather=Weather(odd_rows=1.0), turnaround=(20.0, 30.0))
    with World(0, options, tmp_path) as world:
        for number in range(4):
            world.remote.orders["submit"].append(Fault.LOST_AFTER)
            world.ask(Caller(number=number, prompt=f"question {number}", way=Way.ASYNC))
            world.advance(300)
        world.finish()
        jobs = len(world.remote.jobs)

    assert jobs == 4


def test_what_was_dissolved_in_doubt_is_looked_for(tmp_path: Path) -> None:
    """A batch that is hidden for longer than the quarantine fills the account, so that its second try is refused: it counts."""
    options = Options(weather=Weather(lag=900.0), most_lines=3, turnaround=(600.0, 700.0))
    with World(1, options, tmp_path) as world:
        world.remote.orders["submit"].append(Fault.LOST_AFTER)
        for number in range(2):
            world.ask(Caller(number=number, prompt=f"question {number}", way=Way.ASYNC))
        world.advance(60)
        world.remote.weather = Weather()
        world.finish()
        (dissolved,) = world.sql("SELECT marker FROM batches WHERE state = 'dissolved' AND ambiguous = 1")
        hidden = [job for job in world.remote.jobs.values() if job.marker == dissolved[0]]

    assert [job.visible_from - job.sent_at > 140 for job in hidden] == [True]
    assert world.copies() == {job.remote_id for job in hidden}
