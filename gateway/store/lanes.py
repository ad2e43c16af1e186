"""Room of lanes: what waits to be batched, and what a provider has open."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gateway.clock import Clock
from gateway.store.database import Database, Params, Row, Session, Value
from gateway.store.rows import SIMULATED, LaneKey
from gateway.store.shipping import Load, Window

#: The word for a lane that waits because the provider had no room for its tokens; it ends with the next ended batch.
TOKEN_LIMIT = "token_limit"  # noqa: S105 - a word, not a secret
#: By how much a lane's target grows with each collected batch.
TARGET_GROWTH = 1.1
#: A target that has grown to so many tokens is none any more: no provider takes as many.
NO_TARGET = 10**12
#: So many collected batches tell a lane's turnaround.
TURNAROUNDS = 5
CREATES_SECONDS = 3_600.0
#: Lanes that are read without a break, about 10 ms.
WINDOWS_AT_ONCE = 500


class Lanes:
    """Reads for the batcher, and what parks a lane."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Holds nothing but its database."""
        self._database = database
        self._clock = clock

    async def windows(self) -> list[Window]:
        """Every lane with requests that may be batched now; lanes change between two pages of them, never within one."""
        in_flight = {row[0]: row for row in await self._database.read(lambda session: session.rows("in_flight", {}))}
        windows = list[Window]()

        def page(session: Session) -> list[Window]:
            return _windows(session, windows[-1].lane_id if windows else 0, in_flight)

        while found := await self._database.read(page):
            windows += found
            # Thousands of models, each with its lane, are no reason for callers to wait.
            await asyncio.sleep(0)
        return windows

    async def load(self, provider: str, now: float, account: str = "", *, rehearsal: bool = False) -> Load:
        """What the provider of this table has open, and how often it was asked lately; by tables of one account together.

        Or what its simulator has, in a `rehearsal`.
        """
        whose: Params = {"provider": provider, "account": account, "rehearsal": int(rehearsal)}

        def op(session: Session) -> Load:
            models = session.rows("open_load", whose)
            creates = session.row("creates_since", {**whose, "since": now - CREATES_SECONDS})
            return Load(
                open_batches=sum(count for _, count, _ in models),
                creates_last_hour=creates[0] if creates else 0,
                enqueued_tokens={model: tokens for model, _, tokens in models},
            )

        return await self._database.read(op)

    async def park(self, lane_id: int, reason: str, retry_at: float, target_tokens: int | None, steps: int) -> None:
        """The lane waits until `retry_at`; its batches aim at `target_tokens` from now on (None: no target)."""
        params: Params = {
            "lane": lane_id,
            "reason": reason,
            "retry_at": retry_at,
            "target_tokens": target_tokens,
            "steps": steps,
        }
        await self._database.write(lambda session: session.run("park_lane", params))

    async def shrink(
        self,
        lane_id: int,
        *,
        target_tokens: int,
        now: float,
        first_pause: float,
        longest_pause: float,
        at_least: float = 0.0,
    ) -> float:
        """After a token-limit refusal: smaller batches, and a wait that doubles with each refusal. Returns its seconds.

        The wait is no shorter than `at_least`, the provider's own wish, and ends early when a batch of the lane does.
        `target_tokens` are corrected, as those of a batch and of a window are.
        """

        def op(session: Session) -> float:
            row = session.row("park_steps", {"lane": lane_id})
            steps = int(row[0]) if row else 0
            pause = max(at_least, min(longest_pause, first_pause * 2.0 ** min(steps, 30)))
            session.run(
                "park_lane",
                {
                    "lane": lane_id,
                    "reason": TOKEN_LIMIT,
                    "retry_at": now + pause,
                    "target_tokens": target_tokens,
                    "steps": steps + 1,
                },
            )
            return pause

        return await self._database.write(op)

    async def factor(self, lane: LaneKey) -> float:
        """What the estimates of a lane are corrected by; 1.0 as long as nothing has been learned."""
        params = _params(lane)
        row = await self._database.read(lambda session: session.row("factor_of_lane", params))
        return 1.0 if row is None else float(row[0])

    async def queued(self) -> dict[str, int]:
        """Requests that may be batched now, by provider."""
        rows = await self._database.read(lambda session: session.rows("queued_by_provider", {}))
        return dict(rows)

    async def unpark(self, lane_id: int) -> None:
        """The lane may seal again; its target and its count of steps stay."""
        await self._database.write(lambda session: session.run("unpark_lane", {"lane": lane_id}))


def lane_id(session: Session, lane: LaneKey) -> int:
    """The number of a lane, made on first sight; within a write."""
    params = _params(lane)
    row = session.row("lane_id", params)
    if row is None:
        if not session.run("name_lane", {**params, "unknown": SIMULATED if lane.rehearsal else ""}):
            session.run("add_lane", params)
        row = session.row("lane_id", params)
    if row is None:
        raise AssertionError("a lane that was just added is gone")
    return int(row[0])


def _params(lane: LaneKey) -> dict[str, Value]:
    return {"provider": lane.provider, "endpoint": lane.endpoint, "model": lane.model, "kind": lane.kind}


def _windows(session: Session, after_id: int, in_flight: Mapping[int, Row]) -> list[Window]:
    """A page of them, after that of lane `after_id`."""
    windows = []
    for row in session.rows("windows", {"after_id": after_id, "limit": WINDOWS_AT_ONCE}):
        lane = row[0]
        _, count, oldest = in_flight.get(lane, (lane, 0, None))
        turnarounds = session.rows("turnarounds", {"lane": lane, "limit": TURNAROUNDS})
        windows.append(
            Window(
                lane_id=lane,
                lane=LaneKey(provider=row[1], endpoint=row[2], model=row[3], kind=row[15]),
                count=row[4],
                size=row[5],
                tokens=row[6],
                fresh=row[7],
                oldest_at=row[8],
                last_arrival_at=row[9],
                target_tokens=row[10],
                token_factor=row[11],
                parked_reason=row[12],
                retry_at=row[13],
                park_steps=row[14],
                in_flight=count,
                oldest_in_flight_at=oldest,
                turnarounds=tuple(seconds for (seconds,) in turnarounds),
            )
        )
    return windows
