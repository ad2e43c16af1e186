"""A process of the gateway: configuration in, exit status out.

Floor 7. Puts together what `app.Gateway` is given: plugins, simulators, router, database, event loop.
"""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import gc
import importlib
import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from typing import Literal, cast

import structlog

from gateway.app import Gateway
from gateway.clock import Clock, SteadyClock, SystemClock
from gateway.config import Configuration, ProviderTable
from gateway.errors import ConfigurationError, PluginFault
from gateway.plugins import Kind, load_plugins, unknown
from gateway.prices import Prices
from gateway.routing import Router, build_router
from gateway.sandbox.server import SandboxServer
from gateway.sandbox.simulator import Simulator
from gateway.signals import when_told_to_end
from gateway.store.lock import DirectoryLock
from gateway.store.sqlite import SqliteDatabase

#: How long a thread may keep the interpreter from the event loop; the default of 5 ms stalls it (measured).
SWITCH_SECONDS = 0.0005
#: Threads for what waits for disk, DNS and SDKs. Python's own number, four more than there are processors, is used up by the
#: spools of two accounts; quick reads of the ledger would wait behind them for minutes.
THREADS = 32
#: Memory in blocks of this size and more is not kept for later.
LARGE_BLOCK_BYTES = 65_536
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: From the end of the stop to the end of the process, at most.
LEAVE_SECONDS = 2.0
#: The first SQLite without the WAL-reset bug, which needs two connections that write; we have one.
SAFE_SQLITE = (3, 51, 3)
#: Objects, then young and middle collections, after which the garbage collector looks again. With 10,000 calls at once a
#: young one took 1.5 ms and a middle one 7 (medians; 29 and 60 at worst).
COLLECT_AFTER = (10_000, 10, 1_000)


def run(configuration: Configuration, lock: DirectoryLock, listener: socket.socket, most_callers: int) -> int:
    """Serve until a signal to end; returns the exit status. Raises `ConfigurationError` when it cannot begin.

    `most_callers`: how many connections the process may hold open.
    """
    server = configuration.server
    if server.max_waiters > most_callers:
        server = dataclasses.replace(server, max_waiters=most_callers)
        configuration = dataclasses.replace(configuration, server=server)
    sys.setswitchinterval(SWITCH_SECONDS)
    give_back_large_blocks()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(configuration, lock, listener))


def leave_soon(status: int) -> None:
    """End the process within `LEAVE_SECONDS`, with this exit status, whatever still runs in it.

    Event loop and interpreter wait without an end for tasks that swallow their cancellation, and for threads. To be called when
    all that counts is closed.
    """
    timer = threading.Timer(LEAVE_SECONDS, _leave, [status])
    timer.daemon = True
    timer.start()


def _leave(status: int) -> None:
    """What waits for its end here is a plugin's."""
    ours = {threading.main_thread(), threading.current_thread()}
    threads = sorted(thread.name for thread in threading.enumerate() if thread not in ours)
    structlog.get_logger().error("left_behind", threads=threads)
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(status)


async def _serve(configuration: Configuration, lock: DirectoryLock, listener: socket.socket) -> int:
    log = structlog.get_logger()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="batchway"))
    clock = SteadyClock(SystemClock())
    plugins = load_plugins()
    if lines := unknown(configuration.providers.values(), plugins):
        raise ConfigurationError(lines)
    for fault in plugins.faults:
        log.error("plugin_broken", plugin=fault.plugin, distribution=fault.distribution, reason=fault.reason)
    async with AsyncExitStack() as stack:
        simulators = await start_simulators(configuration, plugins.kinds, clock, stack)
        directory = configuration.storage.directory
        router = build_router(
            configuration,
            plugins.classes(),
            clock=clock,
            directory=directory / "providers",
            simulators=simulators,
            prices=Prices(clock),
            absences=plugins.absences(configuration.providers.values()),
        )
        database = open_database(configuration, lock)
        if tuple(map(int, database.library_version.split("."))) < SAFE_SQLITE:
            log.info("sqlite_version", version=database.library_version, advice="one writer only: as it is here")
        ended = Ended()
        gateway = Gateway(configuration, router, database, clock, fail=ended.fail)
        await gateway.start(listener)
        gateway.tasks.spawn("router.warm", _warm(router))
        _announce(configuration, router, listener)
        await ended.wait()
        log.info("stopping")
        try:
            await gateway.stop()
        except BaseException:
            leave_soon(1)
            raise
    leave_soon(ended.status)
    return ended.status


async def _warm(router: Router) -> None:
    """Load what the first batch will need; then let the garbage collector leave all that alone."""
    await asyncio.to_thread(router.warm)
    # Thousands of callers that wait are a million objects that nobody can free: at Python's own thresholds the collector
    # walks through all of them again and again (measured with 10,000 calls: 40 % of the CPU, and stalls of 0.4 s).
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


class Ended:
    """When the process should end, and with which status."""

    def __init__(self) -> None:
        """Listens for who tells it to end."""
        self.status = 0
        self._event = asyncio.Event()
        when_told_to_end(self._event.set)

    def fail(self) -> None:
        """End, and say that it is a failure: a supervisor should start us again."""
        self.status = 1
        self._event.set()

    async def wait(self) -> None:
        """Return when it is time to end."""
        await self._event.wait()


def open_database(configuration: Configuration, lock: DirectoryLock | None = None) -> SqliteDatabase:
    """The ledger's database as configured. Raises `ConfigurationError` for an address nobody here understands."""
    storage = configuration.storage
    if storage.ledger:
        raise ConfigurationError(["storage.ledger: only SQLite (an empty string) is supported by this version"])
    return SqliteDatabase.open(
        storage.directory,
        durability=cast("Literal['full', 'relaxed']", storage.durability),
        min_free_bytes=storage.min_free_bytes,
        reserve_bytes=storage.reserve_bytes,
        lock=lock,
    )


async def start_simulators(
    configuration: Configuration, kinds: Mapping[str, Kind], clock: Clock, stack: AsyncExitStack
) -> dict[str, str]:
    """Start the simulator of each provider with `sandbox = true`; returns their base URLs by provider.

    A `sandbox_url` means a simulator that runs there already (`batchway sandbox`). `base_url` and key are the real
    provider's and stay unused, so that nothing is asked or paid there. The state of those that are started is kept in the
    storage directory, so that a restarted gateway finds its remote batches again. One that cannot be loaded is named in the
    log, and its provider is disabled.
    """
    simulated = [table for table in configuration.providers.values() if table.sandbox]
    running = {table.name: table.sandbox_url for table in simulated if table.sandbox_url}
    made: dict[str, Simulator] = {}
    for table in simulated:
        if table.name in running:
            continue
        try:
            simulator_class = simulator_of(table, kinds)
        except PluginFault as fault:
            structlog.get_logger().error("simulator_broken", provider=table.name, kind=table.kind, reason=str(fault))
            continue
        if simulator_class is not None:
            directory = configuration.storage.directory / "sandbox" / table.name
            made[table.name] = simulator_class(clock=clock, name=table.name, directory=directory)
    if not made:
        return running
    server = await stack.enter_async_context(SandboxServer(list(made.values())))
    return running | {name: server.base_url(simulator) for name, simulator in made.items()}


def simulator_of(table: ProviderTable, kinds: Mapping[str, Kind]) -> type[Simulator] | None:
    """The class that simulates a table's kind; None: there is none. Raises `PluginFault` when it cannot be loaded."""
    kind = kinds.get(table.kind)
    where = None if kind is None else kind.provider_class.simulator
    if kind is None or where is None:
        return None
    module, _, name = where.partition(":")
    try:
        found: type[Simulator] = getattr(importlib.import_module(module), name)
    except Exception as error:
        raised = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginFault(
            f"plugin {kind.plugin} ({kind.distribution}): the simulator of its kind {kind.name} cannot be loaded: {raised}"
        ) from error
    return found


def give_back_large_blocks() -> None:
    """Let large blocks of memory go back to the system as soon as they are free, where the C library is glibc.

    Bodies come, are stored and go, while their callers wait for hours: otherwise each leaves its size behind in the
    process (measured with bodies of 100 KB: 138 KB for each waiting caller, of which Python itself held 15).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, LARGE_BLOCK_BYTES)


def _announce(configuration: Configuration, router: Router, listener: socket.socket) -> None:
    if all(provider.disabled_reason is not None for provider in router.providers.values()):
        advice = "every new request is refused; what to set stands in the event listening, and in batchway check"
        structlog.get_logger().warning("no_provider", advice=advice)
    host, port = listener.getsockname()[:2]
    structlog.get_logger().info(
        "listening",
        base_url=f"http://{f'[{host}]' if ':' in host else host}:{port}/v1",
        providers=sorted(name for name, provider in router.providers.items() if provider.disabled_reason is None),
        disabled={name: reason for name, each in router.providers.items() if (reason := each.disabled_reason)},
        storage=str(configuration.storage.directory),
        durability=configuration.storage.durability,
    )


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """Uvloop where there is one: a sixth less CPU a request (measured)."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    loop: type[asyncio.AbstractEventLoop] = importlib.import_module("uvloop").Loop
    return loop
