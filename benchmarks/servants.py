"""The other end of `processes.Servant`: answer commands that come as lines of JSON on standard input."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Awaitable, Callable, Mapping

import orjson
import uvloop

Command = Callable[..., Awaitable[Mapping[str, float]]]


def serve(commands: Callable[[], Awaitable[Mapping[str, Command]]]) -> None:
    """Make the commands in a loop, say that we are ready, and answer until the input ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_answer(commands))


async def _answer(make: Callable[[], Awaitable[Mapping[str, Command]]]) -> None:
    commands = await make()
    _say(await commands["ready"]() if "ready" in commands else {})
    lines = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        wish = orjson.loads(line)
        try:
            _say(await commands[wish.pop("do")](**wish))
        except Exception as error:  # noqa: BLE001 - whoever asked has to know
            _say({"error": f"{type(error).__name__}: {error}"})


def _say(answer: Mapping[str, object]) -> None:
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.buffer.flush()
