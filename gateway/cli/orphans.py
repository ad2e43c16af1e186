"""Batches at a provider that the ledger cannot account for: of a ledger that is gone or newer than this one, or made twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.clock import as_datetime
from gateway.provider import Provider
from gateway.records import BatchState, RemoteBatch, RemoteState
from gateway.store.checks import BatchName

LIST_SECONDS = 300.0
DAY_SECONDS = 86_400.0
#: So far back a list is read, if the ledger does not call for more.
LISTED_DAYS = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A remote batch that is not the one of any batch in the ledger."""

    provider: str
    remote: RemoteBatch
    #: The batch of the ledger whose marker it has; None: no batch has it.
    copy_of: int | None = None

    @property
    def certain(self) -> bool:
        """Whether a gateway made it; False: the provider has no place for a marker, so it may be anybody's."""
        return self.remote.marker is not None

    @property
    def running(self) -> bool:
        """Whether it may still cost something."""
        return self.remote.state is RemoteState.RUNNING


def orphans(provider: str, listed: Sequence[RemoteBatch], names: Sequence[BatchName]) -> list[Orphan]:
    """Those of `listed` that no batch of `names` is. Read `names` after `listed`: a batch is in the ledger before it is sent."""
    by_marker = {name.marker: name for name in names}
    known = {name.remote_id for name in names if name.remote_id is not None}
    found = []
    for remote in listed:
        name = by_marker.get(remote.marker or "")
        if remote.remote_id in known or (name is not None and _is_awaited(name, remote)):
            continue
        found.append(Orphan(provider=provider, remote=remote, copy_of=None if name is None else name.id))
    return found


def _is_awaited(name: BatchName, remote: RemoteBatch) -> bool:
    """Whether a remote batch with the marker of one of ours may still be taken up for it, or is what its refusal left over."""
    if name.state is BatchState.DISSOLVED:
        return remote.state is not RemoteState.RUNNING
    # In doubt, or about to be, whatever it was called before: the gateway finds that one by itself.
    return name.state in {BatchState.SEALED, BatchState.SUBMITTING, BatchState.RECONCILING}


def lists_ours(plugin: Provider) -> bool:
    """Whether the kind can say what a gateway made."""
    return type(plugin).list_ours is not Provider.list_ours


def look_back(now: float, last_alive: float | None, retention_days: float, days: float | None) -> datetime:
    """Since when to look: for `days`; else for a week, or a day before the ledger was last written.

    Never further than the ledger itself remembers: what it has forgotten would look like somebody else's.
    """
    since = now - (LISTED_DAYS if days is None else days) * DAY_SECONDS
    if days is None and last_alive is not None:
        since = min(since, last_alive - DAY_SECONDS)
    return as_datetime(max(since, now - retention_days * DAY_SECONDS))
