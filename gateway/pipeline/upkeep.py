"""Look after the disk: say once when it is short and once when there is room again, and give back what nothing is in.

Takes free pages of the ledger, leaves requests and batches as they are. If the process dies half-way, the next one looks
afresh: a step is one commit.
"""

from __future__ import annotations

import structlog

from gateway.clock import Clock
from gateway.store.database import Database

TICK_SECONDS = 2.0
#: Between two steps of giving back, so that a disk that is slow has room for others.
STEP_SECONDS = 0.05


class Upkeep:
    """Goes round every other second."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """There is room, as far as anybody has said."""
        self._database = database
        self._clock = clock
        self._had_room = True
        self._log = structlog.get_logger().bind(room="upkeep")

    async def run(self) -> None:
        """Look after the disk for ever."""
        while True:
            await self.round()
            await self._clock.sleep(TICK_SECONDS)

    async def round(self) -> None:
        """Do once what is due: the reserve is made again, then free pages go back to the disk in small steps."""
        self._tell()
        while await self._database.tend():
            await self._clock.sleep(STEP_SECONDS)
        self._tell()

    def _tell(self) -> None:
        has_room = self._database.has_room()
        if self._had_room and not has_room:
            self._log.error(
                "storage_full",
                advice="free some space: until then new requests are refused, and nothing is sealed, sent or fetched",
            )
        elif has_room and not self._had_room:
            self._log.info("storage_has_room", advice="new requests are accepted again")
        self._had_room = has_room
