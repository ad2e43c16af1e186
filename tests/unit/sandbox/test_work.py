"""The two passes over a batch's lines, with a wire format of the least possible kind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import orjson
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from gateway.sandbox import (
    Line,
    NewBatch,
    Outcome,
    Route,
    SandboxSettings,
    Simulator,
    StoredBatch,
    StoredFile,
    new_id,
)
from gateway.sandbox.directives import Directive
from gateway.sandbox.work import _order
from gateway.testing import FakeClock


class Toy(Simulator):
    """Lines are `{"custom_id": ...}`, answers echo it; it has no HTTP."""

    kind = "toy"

    def routes(self) -> Iterator[Route]:
        """None."""
        yield from ()

    def refuse(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> web.Response:
        """The message as text."""
        return web.Response(status=status, text=message)

    def authorised(self, request: web.Request) -> bool:
        """Everybody."""
        return True

    def read_line(self, line: bytes, batch: StoredBatch) -> Line:
        """The body is the name."""
        name = orjson.loads(line)["custom_id"]
        return Line(custom_id=name, model="m", body={"name": name})

    def answer(self, line: Line, told: Directive | None) -> Outcome:
        """The name."""
        return Outcome(status=200, body=line.body, input_tokens=2, output_tokens=1)

    def failure(self, status: int) -> Outcome:
        """The status."""
        return Outcome(status=status)

    def row(self, line: Line, outcome: Outcome, batch: StoredBatch) -> bytes:
        """The name."""
        return line.custom_id.encode()


async def batch_of(simulator: Toy, names: list[str]) -> StoredBatch:
    """A batch whose lines have these names."""
    file_id = new_id("file-")
    text = b"".join(orjson.dumps({"custom_id": name}) + b"\n" for name in names)
    simulator.store.path(file_id).write_bytes(text)
    now = simulator.clock.now()
    simulator.store.put_file(StoredFile(id=file_id, filename="x", purpose="batch", size=len(text), created=now))
    made = await simulator.create(NewBatch(file_id=file_id, endpoint="/x", model="m", size=len(text)))
    assert isinstance(made, StoredBatch)
    return made


@given(st.integers(0, 500) | st.integers(3, 5), st.text(max_size=5), st.booleans())
def test_every_place_comes_once(count: int, seed: str, shuffle: bool) -> None:
    """The order of results is a permutation of the lines, whatever the seed; shuffled, it is never that of the lines."""
    order = list(_order(count, seed, shuffle))
    assert sorted(order) == list(range(count))
    assert (order != sorted(order)) == (shuffle and count >= 3)


async def test_a_batch_of_many_lines_is_answered_in_full(tmp_path: Path) -> None:
    """Every line has its row, usage is summed, and nothing was made before somebody looked."""
    clock = FakeClock()
    simulator = Toy(clock=clock, directory=tmp_path, settings=SandboxSettings())
    names = [f"line-{n}" for n in range(2_500)]
    batch = await batch_of(simulator, names)
    clock.jump(60)
    glimpse = simulator.glance(batch)
    batch, where = await simulator.current(batch.id)
    assert batch.results is not None
    rows = simulator.store.path(batch.results.output_file_id).read_text().splitlines()

    assert (glimpse.stage, where.stage) == ("validating", "completed")
    assert sorted(rows) == sorted(names)
    assert rows != names
    assert (batch.results.input_tokens, batch.results.output_tokens) == (5_000, 2_500)


async def test_many_who_look_at_once_make_one_pass(tmp_path: Path) -> None:
    """Polls that come together wait for one pass and see the same result files."""
    clock = FakeClock()
    simulator = Toy(clock=clock, directory=tmp_path)
    batch = await batch_of(simulator, [str(n) for n in range(500)])
    clock.jump(60)
    seen = await asyncio.gather(*(simulator.current(batch.id) for _ in range(10)))

    assert len({looked.results for looked, _ in seen}) == 1
    assert len(simulator.store.files) == 2


async def test_the_ledger_knows_lines_before_validation(tmp_path: Path) -> None:
    """Lines of a batch that nobody has looked at yet are counted too."""
    simulator = Toy(clock=FakeClock(), directory=tmp_path)
    await batch_of(simulator, ["a", "b"])
    await batch_of(simulator, ["b", "c"])
    submissions = await simulator.submissions()

    assert (submissions.lines, submissions.distinct, list(submissions.repeated.values())) == (4, 3, [2])
    assert {(line.custom_id, bool(line.batch_id)) for line in simulator.ledger.lines()} == {
        ("a", True),
        ("b", True),
        ("c", True),
    }


async def test_without_a_folder_nothing_is_left(tmp_path: Path) -> None:
    """A simulator without a folder works in a temporary one, which goes when the simulator goes."""
    simulator = Toy(clock=FakeClock())
    directory = simulator.store.directory
    await batch_of(simulator, ["a"])
    del simulator

    assert not directory.exists()
