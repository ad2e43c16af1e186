"""Running totals of lanes: what a transaction changes in them, booked in one update per lane at its end."""

from __future__ import annotations

from collections import defaultdict

from gateway.store.database import Session


class LaneTotals:
    """Gathers what joins windows (count 1) and what leaves them (count -1)."""

    def __init__(self) -> None:
        """Nothing has changed yet."""
        self._changes: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])

    def add(self, lane: int, *, size: int, tokens: int, fresh: int, count: int = 1) -> None:
        """`count` requests with these sums join; negative numbers leave."""
        change = self._changes[lane]
        for place, number in enumerate((count, size, tokens, fresh)):
            change[place] += number

    def apply(self, session: Session, *, arrived_at: float | None = None) -> None:
        """Book the changes; `arrived_at`: they are arrivals of that moment."""
        for lane, (count, size, tokens, fresh) in self._changes.items():
            params = {"lane": lane, "count": count, "size": size, "tokens": tokens, "fresh": fresh}
            if arrived_at is None:
                session.run("lane_changed", params)
            else:
                session.run("lane_arrived", {**params, "now": arrived_at})
        self._changes.clear()
