"""Finds the installed plugins and the kinds they bring, and says of each who brought it.

Floor 3. A plugin that cannot be loaded does not take the others with it: it is a fault, with its name and distribution
and one line of what went wrong. Whether the start can do without it is for `unresolved` to say.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from types import MappingProxyType
from typing import cast

import pluggy

from gateway import hookspecs
from gateway.config import ProviderTable
from gateway.provider import Provider, ProviderSettings
from gateway.records import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of provider, and where it came from."""

    name: str
    provider_class: type[Provider]
    #: Name of the entry point.
    plugin: str
    #: The installed package, and its version.
    distribution: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenPlugin:
    """A plugin, or one of its kinds, that cannot be used."""

    plugin: str
    distribution: str
    reason: str
    #: The kind that cannot be used; empty: nobody knows which kinds it would have brought.
    kind: str = ""

    def __str__(self) -> str:
        return f"plugin {self.plugin} ({self.distribution}): {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    """What was found."""

    kinds: Mapping[str, Kind] = field(default_factory=lambda: MappingProxyType({}))
    faults: tuple[BrokenPlugin, ...] = ()

    def classes(self) -> dict[str, type[Provider]]:
        """The kinds alone, as `gateway.routing` wants them."""
        return {name: kind.provider_class for name, kind in self.kinds.items()}

    def suspects(self, kind: str) -> tuple[BrokenPlugin, ...]:
        """Faults for which `kind` may be missing: those of the kind itself, else those of plugins whose kinds nobody knows."""
        known = tuple(fault for fault in self.faults if fault.kind == kind)
        return known or tuple(fault for fault in self.faults if not fault.kind)

    def absences(self, tables: Iterable[ProviderTable]) -> dict[str, str]:
        """Kinds of `tables` that are missing -> why, with the plugins that are to blame; one line each."""
        missing = {table.kind for table in tables} - self.kinds.keys()
        return {
            kind: "; ".join([f'no installed plugin brings its kind "{kind}"', *map(str, self.suspects(kind))])
            for kind in missing
        }


def load_plugins(extra: Iterable[tuple[str, object]] = ()) -> Plugins:
    """Load every entry point of the group `batchway`, in order of name, and ask each for its kinds.

    `extra` are plugins that are not installed, as (name, module or object): a test's own. Never raises for what a plugin
    does. A kind that two plugins bring belongs to neither.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    collector = _Collector()
    for entry_point in sorted(metadata.entry_points(group=hookspecs.PROJECT), key=lambda each: each.name):
        distribution = entry_point.dist
        name, version = (distribution.name, distribution.version) if distribution is not None else ("?", "?")
        source = _Source(plugin=entry_point.name, distribution=name, version=version)
        try:
            collector.register(manager, source, entry_point.load())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
            collector.fault(source, f"cannot be imported: {_line(error)}")
    for plugin, implementation in extra:
        collector.register(manager, _Source(plugin=plugin, distribution="not installed", version="0"), implementation)
    for hook in manager.hook.register_providers.get_hookimpls():
        collector.ask(hook)
    return collector.plugins()


def unknown(tables: Iterable[ProviderTable], plugins: Plugins) -> list[str]:
    """Why the start must stop: one line for each configured provider whose kind nobody brings and no faulty plugin explains.

    What a faulty plugin would have brought is no reason: its provider is disabled and its work waits, the others go on.
    """
    return unresolved([table for table in tables if not plugins.suspects(table.kind)], plugins)


def unresolved(tables: Iterable[ProviderTable], plugins: Plugins) -> list[str]:
    """One line for each configured provider whose kind is not there, for whatever reason. Empty: all are.

    A faulty plugin may be the one that would have brought the kind, so the faults are named with it.
    """
    known = ", ".join(sorted(plugins.kinds)) or "none"
    lines = [
        f'providers.{table.name}.kind: no installed plugin brings the kind "{table.kind}"; there is: {known}'
        for table in tables
        if table.kind not in plugins.kinds
    ]
    return [*lines, *map(str, plugins.faults)] if lines else []


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    plugin: str
    distribution: str
    version: str


class _Collector:
    """Gathers kinds and faults while plugins are loaded."""

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}
        self._kinds: dict[str, Kind] = {}
        self._contested: dict[str, str] = {}
        self._faults: list[BrokenPlugin] = []

    def register(self, manager: pluggy.PluginManager, source: _Source, implementation: object) -> None:
        """Hand a loaded plugin to pluggy; a hook of an unknown name is a fault, for it would never be called."""
        try:
            manager.register(implementation, name=source.plugin)
            manager.check_pending()
        except (ValueError, pluggy.PluginValidationError) as error:
            manager.unregister(name=source.plugin)
            self.fault(source, f"has a hook that cannot be used: {_line(error)}")
            return
        self._sources[source.plugin] = source

    def ask(self, hook: pluggy.HookImpl) -> None:
        """Take the kinds of one plugin."""
        source = self._sources[hook.plugin_name]
        try:
            offered = list(cast("Iterable[object]", hook.function()))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
            self.fault(source, f"register_providers() raised {_line(error)}")
            return
        for candidate in offered:
            if not (isinstance(candidate, type) and issubclass(candidate, Provider)):
                self.fault(
                    source, f"register_providers() returned {candidate!r}, which is no subclass of gateway.Provider"
                )
            elif (reason := flaw(candidate)) is not None:
                self.fault(source, reason, kind=_kind_of(candidate))
            else:
                self._take(source, candidate)

    def fault(self, source: _Source, reason: str, *, kind: str = "") -> None:
        """Note that something of this plugin cannot be used."""
        self._faults.append(
            BrokenPlugin(plugin=source.plugin, distribution=source.distribution, reason=reason, kind=kind)
        )

    def plugins(self) -> Plugins:
        """What was gathered."""
        return Plugins(kinds=MappingProxyType(dict(self._kinds)), faults=tuple(self._faults))

    def _take(self, source: _Source, provider_class: type[Provider]) -> None:
        name = provider_class.kind
        other = self._kinds.pop(name, None)
        owner = self._contested.get(name) or (f"{other.plugin} ({other.distribution})" if other is not None else None)
        if owner is not None:
            self._contested[name] = owner
            reason = f'brings the kind "{name}", which {owner} brings too; uninstall one of them'
            self.fault(source, reason, kind=name)
            return
        self._kinds[name] = Kind(
            name=name,
            provider_class=provider_class,
            plugin=source.plugin,
            distribution=source.distribution,
            version=source.version,
        )


def flaw(candidate: type[Provider]) -> str | None:
    """What keeps `candidate` from being a kind; None: nothing that can be seen without making one."""
    name = candidate.__name__
    kind: object = getattr(candidate, "kind", None)
    if not isinstance(kind, str) or not kind:
        return f"{name} has no class attribute `kind`, the word in the configuration"
    if inspect.isabstract(candidate):
        return f"{name} lacks {', '.join(sorted(candidate.__abstractmethods__))}"
    settings: object = candidate.Settings
    if not (isinstance(settings, type) and issubclass(settings, ProviderSettings)):
        return f"{name}.Settings must be a subclass of gateway.ProviderSettings"
    limits: object = candidate.limits
    if not isinstance(limits, Limits):
        return f"{name}.limits must be a gateway.Limits"
    return None


def _kind_of(candidate: type[Provider]) -> str:
    """The kind that a faulty class would have been; empty when it does not say."""
    kind: object = getattr(candidate, "kind", None)
    return kind if isinstance(kind, str) else ""


def _line(error: BaseException) -> str:
    """One line of what was raised."""
    return " ".join(f"{type(error).__name__}: {error}".split())
