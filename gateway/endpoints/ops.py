"""For operators and their machines: health, readiness, metrics, models, and what `/ops` steers.

`/ops` wants the operator's token, which lies in the storage directory: whoever can read it owns the gateway anyway.
"""

from __future__ import annotations

import asyncio

import orjson
import structlog
from aiohttp import web

from gateway.accounts import Accounts
from gateway.clock import Clock
from gateway.endings import cancelled
from gateway.endpoints.bodies import read_body
from gateway.endpoints.cancelling import Canceller
from gateway.endpoints.keys import CALLER
from gateway.endpoints.results import listed
from gateway.errors import Refusal
from gateway.fingerprint import parse
from gateway.metrics import CONTENT_TYPE, Metrics
from gateway.pipeline.batcher import Batcher
from gateway.pipeline.waiters import Waiters
from gateway.records import BatchState, RequestState
from gateway.routing import Router
from gateway.store.ledger import Ledger

#: An operator's orders are short.
BODY_SECONDS = 10.0
#: No ledger has a larger one.
LARGEST_NUMBER = 2**63 - 1


class Ops:
    """The handlers of everything that is not a request's way."""

    def __init__(
        self,
        ledger: Ledger,
        router: Router,
        waiters: Waiters,
        batcher: Batcher,
        metrics: Metrics,
        *,
        accounts: Accounts,
        canceller: Canceller,
        clock: Clock,
    ) -> None:
        """Reads everything; steers the batcher and the ledger."""
        self._ledger = ledger
        self._router = router
        self._waiters = waiters
        self._batcher = batcher
        self._accounts = accounts
        self._canceller = canceller
        self._metrics = metrics
        self._clock = clock
        self.ready = False

    async def healthz(self, request: web.Request) -> web.StreamResponse:
        """The process runs and its loop turns."""
        return web.json_response({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.StreamResponse:
        """New requests are accepted; names what is in the way: start and stop, a full disk, no provider that can be used.

        A provider that is disabled, or that refuses its key, is named and does not stand in the way of the others. What the
        provider said of the key is for operators: it may quote a part of it.
        """
        faults = [] if self.ready else ["starting or stopping"]
        if not self._ledger.database.has_room():
            faults.append("the disk is nearly full: new requests are refused until there is room")
        disabled = {
            provider.name: provider.disabled_reason
            for provider in self._router.providers.values()
            if provider.disabled_reason
        }
        if len(disabled) == len(self._router.providers):
            faults.append("no provider can be used: every new request is refused")
        body = {
            "status": "unavailable" if faults else "ok",
            "faults": faults,
            "disabled_providers": disabled,
            "unauthorised_providers": self._accounts.refused(self._router.providers.values()),
        }
        return web.json_response(body, status=503 if faults else 200)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Prometheus' text format."""
        self._metrics.waiters.set(len(self._waiters))
        self._metrics.storage_full.set(not self._ledger.database.has_room())
        for provider, usd in (await self._ledger.bills.wasted()).items():
            self._metrics.wasted_usd.of(provider).set(usd)
        for provider, count in (await self._ledger.lanes.queued()).items():
            self._metrics.queued.of(provider).set(count)
        for (provider, state), count in (await self._ledger.batches.open_counts()).items():
            self._metrics.open_batches.of(provider, state.value).set(count)
        return web.Response(body=self._metrics.render(), headers={"content-type": CONTENT_TYPE})

    async def models(self, request: web.Request) -> web.StreamResponse:
        """What can be asked for by name, as OpenAI lists it."""
        entries = await asyncio.to_thread(self._router.models)
        models = [{"id": each.id, "object": "model", "created": 0, "owned_by": each.provider} for each in entries]
        return web.json_response({"object": "list", "data": models})

    async def flush(self, request: web.Request) -> web.StreamResponse:
        """Seal what is queued without waiting for its windows."""
        _operators_only(request)
        queued = (await self._ledger.requests.tally()).get(RequestState.QUEUED, 0)
        # What goes by itself waits for no window.
        windows = await self._ledger.lanes.queued()
        queued -= sum(windows.get(each.name, 0) for each in self._router.providers.values() if not each.batches)
        self._batcher.flush()
        return web.json_response({"queued": queued}, status=202)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Cancel a request (`custom_id`), of one `client` or the latest of any, or every request of a batch (`batch_id`)."""
        _operators_only(request)
        wish = parse(await read_body(request, BODY_SECONDS))
        if "batch_id" in wish:
            return await self._cancel_batch(wish["batch_id"])
        custom_id, client = wish.get("custom_id"), wish.get("client")
        if not isinstance(custom_id, str):
            raise Refusal("invalid_request", "custom_id must be a string, or batch_id a number.", param="custom_id")
        if not isinstance(client, str | None):
            raise Refusal("invalid_request", "client must be a string.", param="client")
        found = await self._ledger.requests.find(client, "", custom_id)
        if found is None:
            whose = "" if client is None else f" of the client {client!r}"
            raise Refusal(
                "not_found", f"There is no request{whose} with the custom_id {custom_id!r}.", param="custom_id"
            )
        after = await self._canceller.cancel(found, wished_by="operator")
        return web.json_response(body=orjson.dumps(listed(after)))

    async def _cancel_batch(self, batch_id: object) -> web.StreamResponse:
        """Mark every request of a batch as cancelled; the poller stops the remote batch, what is finished stays."""
        if not isinstance(batch_id, int) or isinstance(batch_id, bool):
            raise Refusal("invalid_request", "batch_id must be a whole number.", param="batch_id")
        marked = None
        if 0 < batch_id <= LARGEST_NUMBER:
            marked = await self._ledger.batches.cancel_members(batch_id, cancelled(batch=batch_id), self._clock.now())
        if marked is None:
            raise Refusal("not_found", f"There is no open batch {batch_id}.", param="batch_id")
        structlog.get_logger().info("cancel_wished", batch_id=batch_id, requests=marked, wished_by="operator")
        return web.json_response({"batch_id": batch_id, "cancelling": marked}, status=202)

    async def batches(self, request: web.Request) -> web.StreamResponse:
        """Open batches, for scripts without access to the ledger's files."""
        _operators_only(request)
        open_states = [state for state in BatchState if state not in (BatchState.COLLECTED, BatchState.DISSOLVED)]
        rows = await self._ledger.batches.listed(open_states, 1000)
        return web.json_response(
            {
                "object": "list",
                "data": [
                    {
                        "batch_id": row.id,
                        "state": row.state.value,
                        "provider": row.lane.provider,
                        "model": row.lane.model,
                        "requests": row.count,
                        "done": row.done,
                        "remote_id": row.remote_id,
                        "parked_reason": row.parked_reason,
                    }
                    for row in rows
                ],
            }
        )


def _operators_only(request: web.Request) -> None:
    if not request[CALLER].operator:
        raise Refusal(
            "invalid_api_key", "This path wants the operator's token (operator.token in the storage directory)."
        )
