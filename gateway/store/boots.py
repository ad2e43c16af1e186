"""Room of boots: each start of the gateway, alive as long as its lease is renewed. A hold ends with its boot."""

from __future__ import annotations

import structlog

from gateway.clock import SLACK_SECONDS, Clock
from gateway.errors import LedgerError
from gateway.store.database import Database, Session

#: A boot that has not renewed its lease for so long is dead.
LEASE_SECONDS = 15.0
#: How often to renew it.
RENEW_SECONDS = 5.0
#: Whatever holds a time that is waited for.
SET_BACK = (
    "set_back_batches",
    "set_back_leftovers",
    "set_back_lanes",
    "set_back_window",
    "set_back_returned",
    "set_back_boots",
)


class Boots:
    """This process's boot and all others."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """There is no boot of this process before `begin`."""
        self._database = database
        self._clock = clock
        self._id: int | None = None

    @property
    def id(self) -> int:
        """This process's boot."""
        if self._id is None:
            raise LedgerError("the ledger is open, but begin() has not been called: holds and claims need a boot")
        return self._id

    async def begin(self, *, exclusive: bool) -> int:
        """Start a boot; `exclusive`: nobody else can be alive (the lock proves it), so all others end.

        If the machine's clock was set back since the last boot, what is due comes as much earlier. What waits since its key was
        refused is due at once: one call tells whether the key is still refused.
        """
        now = self._clock.now()

        def op(session: Session) -> int:
            row = session.row("add_boot", {"now": now, "alive_until": now + LEASE_SECONDS})
            boot = int(row[0]) if row else 0
            if exclusive:
                _set_back(session, boot, now)
                session.run("try_refused_keys", {"now": now})
                session.run("end_other_boots", {"boot": boot, "now": now})
            return boot

        self._id = await self._database.write(op)
        return self._id

    async def renew(self) -> None:
        """Prolong this boot's lease by `LEASE_SECONDS`."""
        params = {"boot": self.id, "alive_until": self._clock.now() + LEASE_SECONDS}
        await self._database.write(lambda session: session.run("renew_boot", params))

    async def end(self) -> None:
        """This process is about to stop: its holds and claims are free at once."""
        if self._id is not None:
            params = {"boot": self._id, "now": self._clock.now()}
            await self._database.write(lambda session: session.run("end_boot", params))

    async def bury(self, limit: int = 500) -> int:
        """Turn up to `limit` holds of dead boots into the moment they were left; how many. For the janitor."""
        boot, now = self.id, self._clock.now()

        def op(session: Session) -> int:
            released = 0
            for dead, died_at in session.rows("dead_boots", {"boot": boot, "now": now, "limit": 100}):
                params = {"boot": dead, "left_at": died_at, "limit": limit - released}
                released += session.run("release_holds", params)
                released += session.run("release_run_holds", {**params, "limit": limit - released})
                if released >= limit:
                    break
                session.run("forget_boot", {"boot": dead})
            return released

        return await self._database.write(op, bulk=True)


def _set_back(session: Session, boot: int, now: float) -> None:
    """Where nobody lived later than now (a lease lies ahead a little), nothing is done. Times that tell what was stay."""
    last = session.row("last_alive", {"boot": boot})
    back = 0.0 if last is None or last[0] is None else last[0] - now
    if back <= SLACK_SECONDS:
        return
    log = structlog.get_logger()
    log.warning(
        "clock_set_back", seconds=round(back, 1), advice="what is due comes as much earlier; nothing is to be done"
    )
    for query in SET_BACK:
        session.run(query, {"back": back, "now": now, "boot": boot})
