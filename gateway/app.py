"""The composition root: builds every part, wires them, starts and stops them in order. The only module that knows
everyone.

Floor 6. `Gateway.start` and `Gateway.stop` read as the life of the process.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import structlog
from aiohttp import web

from gateway.accounts import Accounts
from gateway.clock import Clock
from gateway.config import Configuration
from gateway.endpoints.cancelling import Canceller
from gateway.endpoints.chat import ENDPOINT, Chat
from gateway.endpoints.connections import Connections
from gateway.endpoints.heartbeats import Heartbeats
from gateway.endpoints.keys import Keyring, operator_token
from gateway.endpoints.middleware import Door
from gateway.endpoints.notices import Notices
from gateway.endpoints.ops import Ops
from gateway.endpoints.results import Results
from gateway.errors import LedgerError
from gateway.metrics import Metrics
from gateway.pipeline.batcher import Batcher
from gateway.pipeline.collector import Collector
from gateway.pipeline.completer import Completer
from gateway.pipeline.discarder import Discarder
from gateway.pipeline.families import Families
from gateway.pipeline.intake import Intake
from gateway.pipeline.janitor import Janitor
from gateway.pipeline.poller import Poller
from gateway.pipeline.reconciler import Reconciler
from gateway.pipeline.submitter import Submitter
from gateway.pipeline.upkeep import Upkeep
from gateway.pipeline.waiters import Waiters
from gateway.prices import Prices
from gateway.routing import Router
from gateway.spool import Spool
from gateway.store.cache import Cache
from gateway.store.database import Database
from gateway.store.ledger import Ledger
from gateway.tasks import Tasks
from gateway.upstream import Upstream

#: How often a process says that it lives.
RENEW_SECONDS = 5.0
#: A worker whose write failed tries again after this long.
LEDGER_PAUSE_SECONDS = 2.0
#: Twice as long at most is waited, at stop, for what still answers a caller. Zero would mean: without an end.
SHUTDOWN_SECONDS = 0.25
#: What plugins and cache hold open has so long to be closed.
CLOSE_SECONDS = 2.0
#: Idle connections are kept this long for their client's next request.
KEEP_ALIVE_SECONDS = 75.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """Events between the steps; each only shortens a wait."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    unbatched: asyncio.Event = field(default_factory=asyncio.Event)
    sealed: asyncio.Event = field(default_factory=asyncio.Event)
    submitted: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    doubted: asyncio.Event = field(default_factory=asyncio.Event)


class Gateway:
    """One process of Batchway: a ledger, its workers, and the front door."""

    def __init__(
        self,
        configuration: Configuration,
        router: Router,
        database: Database,
        clock: Clock,
        *,
        fail: Callable[[], None],
    ) -> None:
        """`database` is open and ours alone; `fail` is called when a worker has died and the process must not go on."""
        self.configuration = configuration
        self.router = router
        self.clock = clock
        self.metrics = Metrics()
        self.prices = router.prices or Prices(clock)
        self._database = database
        self._fail = fail
        self.tasks = Tasks(self._worker_died, self._errand_failed)
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Open the ledger, start the workers, answer on `listener`. Nothing proportional to the backlog is read."""
        configuration, clock = self.configuration, self.clock
        self.ledger = ledger = await Ledger.open(self._database, clock)
        await ledger.begin(exclusive=True)
        await self._tell_what_is_resumed()
        directory = configuration.storage.directory
        self.cache = cache = Cache.open(directory / "cache", configuration.cache, self._database.has_room)
        self.waiters = waiters = Waiters(ledger, clock)
        self.heartbeats = Heartbeats(clock)
        self.connections = Connections(clock, configuration.server.header_seconds)
        self.notices = Notices(clock)
        signals = Signals()
        self._start_workers(cache, waiters, signals)
        intake = Intake(
            ledger,
            cache,
            self.router,
            waiters,
            self.metrics,
            clock=clock,
            tasks=self.tasks,
            arrived=signals.arrived,
            unbatched=signals.unbatched,
        )
        chat = Chat(
            intake,
            waiters,
            self.heartbeats,
            self.metrics,
            clock,
            ledger=ledger,
            server=configuration.server,
            waiting=configuration.waiting,
            notices=self.notices,
        )
        canceller = Canceller(ledger=ledger, waiters=waiters, metrics=self.metrics, clock=clock)
        self.ops = Ops(
            ledger, self.router, waiters, self.batcher, self.metrics,
            accounts=self.accounts, canceller=canceller, clock=clock,
        )  # fmt: skip
        keyring = Keyring(configuration.clients, operator_token(directory))
        door = Door(keyring, configuration.server.allowed_hosts, self.metrics, self.connections)
        app = web.Application(middlewares=[door.middleware], client_max_size=configuration.server.max_body_bytes)
        add_routes(app, chat, Results(ledger, waiters, canceller, clock), self.ops)
        await self._serve(app, listener)
        self.ops.ready = True

    async def _tell_what_is_resumed(self) -> None:
        queued = sum((await self.ledger.lanes.queued()).values())
        batches = sum((await self.ledger.batches.open_counts()).values())
        structlog.get_logger().info("resumed", queued=queued, open_batches=batches)

    def _start_workers(self, cache: Cache, waiters: Waiters, signals: Signals) -> None:
        configuration, clock, metrics, tasks = self.configuration, self.clock, self.metrics, self.tasks
        retries = configuration.retries
        self.accounts = accounts = Accounts(clock, retries, metrics)
        upstream = Upstream(
            ledger=self.ledger,
            router=self.router,
            accounts=accounts,
            spool=Spool(directory=configuration.storage.directory / "spool"),
            prices=self.prices,
            metrics=metrics,
            clock=clock,
            arrived=signals.arrived,
            sealed=signals.sealed,
        )
        self.batcher = Batcher(
            self.ledger,
            self.router,
            accounts,
            configuration.batching,
            metrics,
            clock=clock,
            arrived=signals.arrived,
            sealed=signals.sealed,
        )
        submitter = Submitter(upstream, waiters, tasks, submitted=signals.submitted, doubted=signals.doubted)
        poller = Poller(
            upstream,
            waiters,
            configuration.polling,
            retries,
            tasks,
            submitted=signals.submitted,
            ended=signals.ended,
            doubted=signals.doubted,
        )
        completer = Completer(upstream, waiters, cache, retries, tasks, unbatched=signals.unbatched)
        collector = Collector(upstream, waiters, cache, retries, tasks, ended=signals.ended)
        reconciler = Reconciler(upstream, waiters, retries, tasks, doubted=signals.doubted, submitted=signals.submitted)
        families = Families(self.ledger, waiters, cache, metrics, clock)
        janitor = Janitor(upstream, waiters, configuration.server, configuration.storage, retries)
        discarder = Discarder(upstream, retries.quarantine_seconds)
        tasks.start("boots.renew", self._keep("boots.renew", self._renew))
        tasks.start("waiters.folds", self._keep("waiters.folds", waiters.run_folds))
        tasks.start("waiters.sweeps", self._keep("waiters.sweeps", waiters.run_sweeps))
        tasks.start("heartbeats", self._keep("heartbeats", self.heartbeats.run))
        tasks.start("connections", self._keep("connections", self.connections.run))
        tasks.start("notices", self._keep("notices", self.notices.run))
        tasks.start("batcher", self._keep("batcher", self.batcher.run))
        tasks.start("completer", self._keep("completer", completer.run))
        tasks.start("submitter", self._keep("submitter", submitter.run))
        tasks.start("poller", self._keep("poller", poller.run))
        tasks.start("collector", self._keep("collector", collector.run))
        tasks.start("reconciler", self._keep("reconciler", reconciler.run))
        tasks.start("families", self._keep("families", families.run))
        tasks.start("janitor", self._keep("janitor", janitor.run))
        tasks.start("discarder", self._keep("discarder", discarder.run))
        tasks.start("upkeep", self._keep("upkeep", Upkeep(self._database, clock).run))

    async def _serve(self, app: web.Application, listener: socket.socket) -> None:
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        await self._runner.setup()
        make = self._runner.server
        if make is None:
            raise RuntimeError("aiohttp's runner was set up and has no server")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self.connections.watched(make), sock=listener, backlog=4096)

    async def stop(self) -> None:
        """Stop taking calls, send callers away, let running commits finish, close the ledger. Remote batches run on."""
        self.ops.ready = False
        callers = len(self.waiters)
        self.waiters.stop()
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0)
        if stubborn := await self.tasks.cancel_all():
            advice = "a plugin swallows its cancellation: tell its author"
            structlog.get_logger().error("tasks_go_on", tasks=stubborn, advice=advice)
        try:
            await self.waiters.fold()
        except LedgerError as error:
            # A full disk must not keep callers from being sent away.
            structlog.get_logger().error("marks_lost", reason=str(error))
        if self._runner is not None:
            await self._runner.cleanup()
        await self._closed("providers", self.router.aclose())
        await self._closed("cache", asyncio.to_thread(self.cache.close))
        await self._database.close()
        structlog.get_logger().info("stopped", callers_sent_away=callers)

    async def _closed(self, name: str, closing: Coroutine[object, object, None]) -> None:
        """Close a part, or go on without it: the ledger must be closed, and its lock let go, whatever a plugin does."""
        task = self.tasks.spawn(f"close.{name}", closing)
        await asyncio.wait([task], timeout=CLOSE_SECONDS)
        if task.cancel():
            structlog.get_logger().error("not_closed", part=name, seconds=CLOSE_SECONDS)

    async def _keep(self, name: str, run: Callable[[], Coroutine[object, object, None]]) -> None:
        """Run a worker for ever. A ledger that cannot write for a while (a full disk) stops nobody for good."""
        while True:
            try:
                await run()
            except LedgerError as error:
                structlog.get_logger().error("worker_waits", task=name, reason=str(error))
                await self.clock.sleep(LEDGER_PAUSE_SECONDS)

    async def _renew(self) -> None:
        """Say that this process lives, so that what it holds stays its own; and measure how late the loop comes round."""
        while True:
            due = self.clock.monotonic() + RENEW_SECONDS
            await self.clock.sleep(RENEW_SECONDS)
            self.metrics.loop_lag_seconds.observe(max(0.0, self.clock.monotonic() - due))
            await self.ledger.renew()

    def _worker_died(self, name: str, error: BaseException) -> None:
        structlog.get_logger().critical("worker_died", task=name, exc_info=error)
        self._fail()

    def _errand_failed(self, name: str, error: BaseException) -> None:
        structlog.get_logger().error("errand_failed", task=name, exc_info=error)


def add_routes(app: web.Application, chat: Chat, results: Results, ops: Ops) -> None:
    """Every path, with and without a run before it."""
    for prefix in ("", "/run/{run}"):
        app.router.add_post(prefix + ENDPOINT, chat.post)
        app.router.add_get(prefix + "/v1/models", ops.models)
        app.router.add_get(prefix + "/v1/results", results.list)
        app.router.add_get(prefix + "/v1/results/{custom_id}", results.get)
        app.router.add_delete(prefix + "/v1/results/{custom_id}", results.delete)
        app.router.add_get(prefix + "/healthz", ops.healthz)
        app.router.add_get(prefix + "/readyz", ops.readyz)
        app.router.add_get(prefix + "/metrics", ops.metrics)
    app.router.add_get("/ops/batches", ops.batches)
    app.router.add_post("/ops/flush", ops.flush)
    app.router.add_post("/ops/cancel", ops.cancel)
