"""`batchway demo`, as `make demo` runs it."""

from __future__ import annotations

from tests.acceptance.stand import COMMAND, run_client


async def test_the_demo_gets_every_answer_and_pays_once() -> None:
    """The demonstration, which kills its gateway on the way, ends with every answer right and nothing submitted twice."""
    ended = await run_client([COMMAND, "demo"], seconds=110.0)

    assert ended.status == 0, ended.output + ended.errors
