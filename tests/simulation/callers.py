"""Callers: each wants one thing of the gateway and goes after it as real clients do, over crashes and restarts."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import orjson

from tests.simulation.wire import Connection, Reply

CHAT = "/v1/chat/completions"
#: Between two tries of a caller, and between two looks at a result.
RETRY_SECONDS = 3.0
LOOK_SECONDS = 20.0


class Way(enum.StrEnum):
    """How a caller waits."""

    WAIT = "wait"
    STREAM = "stream"
    ASYNC = "async"


class Stage(enum.StrEnum):
    """How far a caller has come."""

    ASKING = "asking"
    #: Accepted with a 202: it comes back for the result.
    LOOKING = "looking"
    #: It has its outcome.
    SERVED = "served"
    #: It has gone away.
    GONE = "gone"


@dataclass(kw_only=True)
class Caller:
    """One call and what has become of it so far. It remembers nothing that a real client would not."""

    number: int
    prompt: str
    way: Way = Way.WAIT
    custom_id: str | None = None
    answers: int = 1
    run: str | None = None
    no_cache: bool = False
    #: It hangs up after so many seconds of waiting, and does not come back.
    patience: float | None = None
    stage: Stage = Stage.ASKING
    tries: int = 0
    #: The gateway said that it took the request under this name.
    accepted_as: str | None = None
    outcome: Reply | None = None

    @property
    def over(self) -> bool:
        """Whether it wants anything yet."""
        return self.stage in (Stage.SERVED, Stage.GONE)

    @property
    def body(self) -> dict[str, object]:
        """What it asks."""
        body: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": self.prompt}]}
        if self.answers > 1:
            body["n"] = self.answers
        if self.way is Way.STREAM:
            body["stream"] = True
        return body

    @property
    def path(self) -> str:
        """Where it asks."""
        return (f"/run/{self.run}" if self.run else "") + CHAT

    def headers(self) -> dict[str, str]:
        """With what."""
        headers = {"x-stainless-read-timeout": "600", "x-stainless-retry-count": str(self.tries)}
        if self.custom_id is not None:
            headers["x-batchway-custom-id"] = self.custom_id
        if self.way is Way.ASYNC:
            headers["Prefer"] = "respond-async"
        if self.no_cache:
            headers["Cache-Control"] = "no-cache"
        return headers


@dataclass(kw_only=True)
class Counter:
    """The caller's side of the front door, in this life of the process."""

    connect: Callable[[], Connection]
    sleep: Callable[[float], object]
    #: Told of every reply with an outcome: custom_id, status, body.
    saw: Callable[[str, Reply], None]
    #: Nobody listens any more.
    closed: bool = False
    open: dict[int, Connection] = field(default_factory=dict)

    async def serve(self, caller: Caller) -> None:
        """Go after what the caller wants until it has it."""
        while not (caller.over or self.closed):
            if caller.stage is Stage.ASKING:
                await self._ask(caller)
            else:
                await self._look(caller)

    async def _ask(self, caller: Caller) -> None:
        connection = self.open[caller.number] = self.connect()
        # A process that dies now leaves a caller whose connection was cut: its next try is a retry.
        tried, headers = caller.tries, caller.headers()
        caller.tries += 1
        reply = await connection.ask("POST", caller.path, headers, caller.body)
        self.open.pop(caller.number, None)
        if caller.stage is Stage.GONE:
            return
        caller.accepted_as = reply.custom_id or caller.accepted_as
        if reply.status == 202:
            caller.stage = Stage.LOOKING
        elif reply.final:
            self._serve(caller, reply)
        else:
            await self.sleep(RETRY_SECONDS * min(1 + tried, 5))  # type: ignore[misc]

    async def _look(self, caller: Caller) -> None:
        assert caller.accepted_as is not None
        connection = self.open[caller.number] = self.connect()
        reply = await connection.ask("GET", f"/v1/results/{caller.accepted_as}", {"Prefer": "wait=20"})
        self.open.pop(caller.number, None)
        if caller.stage is Stage.GONE:
            return
        if reply.final:
            self._serve(caller, reply)
        else:
            await self.sleep(LOOK_SECONDS)  # type: ignore[misc]

    def _serve(self, caller: Caller, reply: Reply) -> None:
        caller.stage, caller.outcome = Stage.SERVED, reply
        if caller.accepted_as is not None:
            self.saw(caller.accepted_as, reply)

    def hang_up(self, caller: Caller) -> None:
        """The caller goes away in the middle of its call."""
        caller.stage = Stage.GONE
        connection = self.open.pop(caller.number, None)
        if connection is not None:
            caller.accepted_as = connection.so_far().custom_id or caller.accepted_as
            connection.hang_up()

    async def once(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: object = None
    ) -> Reply:
        """One request of somebody who does not come again."""
        return await self.connect().ask(method, path, headers or {}, body)


def contents(reply: Reply) -> list[str]:
    """The texts of an answer, streamed or not."""
    if reply.headers.get("content-type", "").startswith("text/event-stream"):
        return _streamed(reply.body)
    choices = orjson.loads(reply.body)["choices"]
    return [choice["message"]["content"] for choice in choices]


def _streamed(body: bytes) -> list[str]:
    texts: dict[int, str] = {}
    for event in body.split(b"\n\n"):
        if not event.startswith(b"data: {"):
            continue
        for choice in orjson.loads(event[6:]).get("choices", ()):
            texts[choice["index"]] = texts.get(choice["index"], "") + (choice["delta"].get("content") or "")
    return [texts[index] for index in sorted(texts)]
