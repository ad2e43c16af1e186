"""Room of bills: what was paid, for ever: the sums of forgotten lines are kept."""

from __future__ import annotations

from gateway.store.database import Database, Session, read_aside
from gateway.store.shipping import Bill


class Bills:
    """Reads the lines that were booked."""

    def __init__(self, database: Database) -> None:
        """Holds nothing but its database."""
        self._database = database

    async def totals(self) -> list[Bill]:
        """By provider and model, in their order. `cost_usd` is all that was paid, `wasted_usd` the part of it in vain."""
        return await read_aside(self._database, _totals)

    async def wasted(self) -> dict[str, float]:
        """What was paid in vain, in USD by provider: the part of `totals` that is watched all the time, and read quickly."""
        return dict(await read_aside(self._database, lambda session: session.rows("wasted", {})))


def _totals(session: Session) -> list[Bill]:
    return [
        Bill(
            provider=row[0],
            model=row[1],
            requests=row[2],
            lines=row[3],
            cost_usd=row[4],
            saved_usd=row[5],
            wasted_usd=row[6],
            wasted_lines=row[7],
            unpriced_lines=row[8],
            undiscounted_lines=row[9],
        )
        for row in session.rows("bills", {})
    ]
