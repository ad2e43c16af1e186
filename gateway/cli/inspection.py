"""Everything a start reads, read without one: configuration, plugins, settings of kinds, storage."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.output import is_there
from gateway.clock import SystemClock
from gateway.config import Configuration, examine, source_of
from gateway.errors import ConfigurationError, PluginFault
from gateway.plugins import Plugins, load_plugins, unresolved
from gateway.routing import Router, build_router
from gateway.run import simulator_of

#: Stands for the address of a simulator that a start would run.
_SIMULATED = "http://127.0.0.1:0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a start would find. Without mistakes there is a router."""

    configuration: Configuration
    plugins: Plugins
    router: Router | None
    mistakes: tuple[str, ...]


def inspect(path: Path | None, environ: Mapping[str, str]) -> Inspection:
    """Look at everything; one mistake does not hide another."""
    try:
        configuration, lines = examine(path, environ)
    except ConfigurationError as error:
        unread = Configuration(source=source_of(path))
        return Inspection(configuration=unread, plugins=Plugins(), router=None, mistakes=error.mistakes)
    plugins = load_plugins()
    tables = [table for table in configuration.providers.values() if table.kind]
    broken = [reason for reason in _simulators(configuration, plugins).values() if reason is not None]
    mistakes = [*lines, *unresolved(tables, plugins), *broken, *_storage_mistakes(configuration)]
    router = None
    try:
        router = _router(configuration, plugins)
    except ConfigurationError as error:
        mistakes += error.mistakes
    return Inspection(configuration=configuration, plugins=plugins, router=router, mistakes=tuple(mistakes))


def _router(configuration: Configuration, plugins: Plugins) -> Router:
    """The router of a start, simulators standing by; makes no instance and no folder."""
    simulators = {name: _SIMULATED for name, broken in _simulators(configuration, plugins).items() if broken is None}
    return build_router(
        configuration,
        plugins.classes(),
        clock=SystemClock(),
        directory=configuration.storage.directory / "providers",
        simulators=simulators,
        absences=plugins.absences(configuration.providers.values()),
    )


def _simulators(configuration: Configuration, plugins: Plugins) -> dict[str, str | None]:
    """Providers whose simulator a start would run -> what is wrong with it; None: nothing."""
    found: dict[str, str | None] = {}
    for table in configuration.providers.values():
        try:
            if table.sandbox and simulator_of(table, plugins.kinds) is not None:
                found[table.name] = None
        except PluginFault as fault:
            found[table.name] = f"providers.{table.name}.sandbox: {fault}"
    return found


def _storage_mistakes(configuration: Configuration) -> list[str]:
    storage = configuration.storage
    mistakes = []
    if storage.ledger:
        mistakes.append("storage.ledger: only SQLite (an empty string) is supported by this version")
    place = storage.directory.absolute()
    try:
        while not is_there(place) and place != place.parent:
            place = place.parent
        if not place.is_dir():
            mistakes.append(f"storage.directory: {place} is a file, not a folder")
            return mistakes
        reason = _unwritable(place)
    except OSError as error:
        reason = error.strerror
    if reason is not None:
        mistakes.append(f"storage.directory: {place} cannot be written to by this user ({reason})")
    return mistakes


def _unwritable(folder: Path) -> str | None:
    """Why no file can be made in a folder; None: one can, and none stays. Permissions alone do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror
