"""After a restored backup: look for every open batch at its provider before anything is sent, with the gateway's own stages.

A ledger that is older than what was sent does not know what became of its batches since. So none of them is believed: what is
sealed may have been sent, what was being sent may have arrived. Each is taken to `reconciling` by the ways that
`docs/state-machine.md` has, and looked for by the reconciler; if the process dies half-way, they stay there, and the
gateway looks for them when it starts.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.cli.orphans import LIST_SECONDS, Orphan, lists_ours, look_back, orphans
from gateway.config import Polling, Retries
from gateway.configured import ConfiguredProvider
from gateway.errors import PluginFault, ProviderError
from gateway.pipeline.poller import Poller
from gateway.pipeline.reconciler import Reconciler
from gateway.pipeline.waiters import Waiters
from gateway.records import BatchState
from gateway.store.checks import BatchName, batch_names, last_alive
from gateway.store.database import Session
from gateway.store.shipping import BatchRow
from gateway.tasks import Tasks
from gateway.troubles import trouble
from gateway.upstream import CANCEL_SECONDS, Upstream

#: Why a batch is looked for that the ledger holds for unsent.
UNSURE = "it may have been sent after this ledger was written"
_OVER = (BatchState.COLLECTED, BatchState.DISSOLVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one batch."""

    batch: BatchRow
    before: BatchState
    #: For a person: what was found, and what follows.
    said: str
    #: Something is left to do for the operator.
    left: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What one provider has that the ledger does not account for."""

    provider: str
    orphans: tuple[Orphan, ...] = ()
    #: Why it could not be looked at; None: it was.
    reason: str | None = None
    #: Whether that is a matter of its kind, and nothing went wrong.
    unable: bool = False


class Restorer:
    """Looks for batches, one after the other, while no gateway runs."""

    def __init__(self, upstream: Upstream, waiters: Waiters, retries: Retries, polling: Polling, tasks: Tasks) -> None:
        """The ledger in `upstream` has begun, and nobody else works with it."""
        self._upstream = upstream
        self._ledger = upstream.ledger
        self._fails = retries.ambiguous == "fail"
        ended, doubted, submitted = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._reconciler = Reconciler(upstream, waiters, retries, tasks, doubted=doubted, submitted=submitted)
        self._poller = Poller(
            upstream, waiters, polling, retries, tasks, submitted=submitted, ended=ended, doubted=doubted
        )

    async def open_batches(self) -> list[BatchRow]:
        """Every batch that is not over, the oldest first."""
        states = [state for state in BatchState if state not in _OVER]
        return list(reversed(await self._ledger.batches.listed(states, 1_000_000)))

    async def look(self, batch: BatchRow) -> Outcome:
        """Look once for one open batch; whatever is found is in the ledger when it returns."""
        before = batch.state
        if before is BatchState.SEALED:
            await self._mistrust(batch)
        elif before is BatchState.SUBMITTING:
            await self._step(batch)
        elif before is BatchState.SUBMITTED:
            await self._poll(batch)
        await self._step(batch, only=BatchState.RECONCILING)
        after = await self._ledger.batches.get(batch.id)
        return self._outcome(before, batch if after is None else after)

    async def list_orphans(self, provider: ConfiguredProvider, retention_days: float, days: float | None) -> Listing:
        """What the provider has of ours that no batch of the ledger is."""
        plugin = await provider.ready()
        if plugin is None:
            return Listing(provider=provider.name, reason=provider.disabled_reason, unable=True)
        if not plugin.batch:
            return Listing(provider=provider.name)
        if not lists_ours(plugin):
            return Listing(provider=provider.name, reason=f"the kind {plugin.kind} cannot list them", unable=True)
        alive = await self._ledger.database.read(lambda session: last_alive(session, self._ledger.boot))
        since = look_back(self._upstream.clock.now(), alive, retention_days, days)
        accounts = self._upstream.accounts
        try:
            listed = await accounts.call(provider, "list_ours", plugin.list_ours(since), LIST_SECONDS)
        except (ProviderError, PluginFault, TimeoutError) as error:
            return Listing(provider=provider.name, reason=trouble(error))
        names = await self._ledger.database.read(_names)
        return Listing(provider=provider.name, orphans=tuple(orphans(provider.name, listed, names)))

    async def cancel(self, orphan: Orphan) -> str | None:
        """Ask the provider to stop an orphan; why it could not be asked, or None."""
        provider = self._upstream.router.providers[orphan.provider]
        plugin = await provider.ready()
        if plugin is None:
            return provider.disabled_reason
        try:
            await self._upstream.accounts.call(provider, "cancel", plugin.cancel(orphan.remote), CANCEL_SECONDS)
        except (ProviderError, PluginFault, TimeoutError) as error:
            return trouble(error)
        return None

    async def _mistrust(self, batch: BatchRow) -> None:
        """Sealed -> submitting -> reconciling, as if it had been sent when it was sealed."""
        claimed = await self._ledger.batches.claim_one(batch.id)
        if claimed is not None:
            sent = await self._ledger.batches.intend(claimed, claimed.sealed_at)
            await self._ledger.batches.doubt(sent, UNSURE, self._upstream.clock.now())

    async def _step(self, batch: BatchRow, only: BatchState | None = None) -> None:
        """One step of the reconciler, if the batch is in state `only` by now."""
        now = await self._ledger.batches.get(batch.id)
        if now is None or (only is not None and now.state is not only):
            return
        claimed = await self._ledger.batches.claim_one(batch.id)
        if claimed is not None:
            await self._upstream.guard(claimed, self._reconciler.reconcile(claimed))

    async def _poll(self, batch: BatchRow) -> None:
        claimed = await self._ledger.batches.claim_one(batch.id)
        if claimed is not None:
            await self._upstream.guard(claimed, self._poller.poll(claimed))

    def _outcome(self, before: BatchState, after: BatchRow) -> Outcome:
        looked = after.id in self._upstream.looked_for
        said, left = "", False
        if after.state is BatchState.SUBMITTED:
            done = "" if after.done is None else f", {after.done} of {after.total or after.count} lines done"
            said = f"{'with the provider' if before is after.state else 'found'}: {after.remote_id}{done}"
            if after.parked_reason is not None or after.troubles:
                said, left = f"not seen just now: {after.parked_reason or 'the poll was lost'}", True
        elif after.state is BatchState.ENDED:
            said = f"over at the provider: {after.remote_id}; its results are fetched when the gateway runs"
        elif after.state is BatchState.SEALED:
            said = "not there; it is sent when the gateway runs"
        elif after.state is BatchState.RECONCILING and looked and not after.troubles:
            then = 'fails its requests (retries.ambiguous = "fail")' if self._fails else "sends it"
            said = (
                f"not there yet; the gateway looks again when it runs, and {then} if it stays away for the quarantine"
            )
        elif after.state is BatchState.RECONCILING:
            said, left = f"not known: {after.parked_reason}", not looked
        else:
            said = "nothing is left of it to send: its requests have ended, or are queued again"
        return Outcome(batch=after, before=before, said=said, left=left)


def _names(session: Session) -> list[BatchName]:
    return batch_names(session)
