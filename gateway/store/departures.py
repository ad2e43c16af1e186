"""What callers did who have gone, within a transaction: deliveries, ends of holds, what is owed to whoever asks next."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.store.database import Session
from gateway.store.rows import Departure


def depart(session: Session, departures: Sequence[Departure], *, boot: int) -> None:
    """Fold what callers did who have gone."""
    session.run_many(
        "depart",
        (
            {
                "seq": departure.seq,
                "at": departure.at,
                "delivered": int(departure.delivered),
                "last": int(departure.last),
                "owed_until": departure.owed_until,
                "boot": boot,
            }
            for departure in departures
        ),
    )
    in_runs = [departure for departure in departures if departure.run is not None]
    session.run_many(
        "depart_run",
        (
            {
                "client": departure.client,
                "run": departure.run,
                "seq": departure.seq,
                "delivered": int(departure.delivered),
                "boot": boot,
            }
            for departure in in_runs
        ),
    )
