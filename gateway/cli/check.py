"""`batchway check | plugins`: what would happen at a start, without one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.output import Column, config_option, ignored_config_option, json_option, show_list
from gateway.config import is_loopback
from gateway.places import without_credentials
from gateway.routing import Router

if TYPE_CHECKING:
    from gateway.config import Configuration
    from gateway.configured import ConfiguredProvider
    from gateway.plugins import Plugins


@click.command(short_help="List every mistake in the configuration.")
@config_option
def check(path: Path | None) -> None:
    """Read the configuration as a start would; list every mistake in it, or what it comes to.

    Exits with 1 if there is a mistake. A provider that is disabled for want of its key is none.
    """
    from gateway.cli.inspection import inspect

    found = inspect(path, os.environ)
    if found.mistakes:
        count = len(found.mistakes)
        click.echo(f"{count} mistake{'s' if count > 1 else ''} in {_source(found.configuration)}:", err=True)
        for line in found.mistakes:
            click.echo(f"  {line}", err=True)
        raise SystemExit(1)
    for line in [*_summary(found.configuration), *_providers(found.router), *_routes(found.configuration)]:
        click.echo(line)
    for warning in [
        *found.plugins.faults,
        *_unreachable_routes(found.configuration),
        *_closed_doors(found.configuration),
    ]:
        click.echo(f"warning: {warning}")


def _source(configuration: Configuration) -> str:
    return "the defaults and the environment" if configuration.source is None else str(configuration.source)


def _summary(configuration: Configuration) -> list[str]:
    server, storage = configuration.server, configuration.storage
    keys = ", ".join(client.name for client in configuration.clients)
    host = f"[{server.host}]" if ":" in server.host else server.host
    return [
        f"configuration  {_source(configuration)}",
        f"listens on     http://{host}:{server.port}/v1",
        f"keys           {f'asked for; clients: {keys}' if keys else 'none asked for, this machine only'}",
        f"storage        {storage.directory} (durability {storage.durability}, {storage.retention_days:g} days)",
        f"cache          {'on' if configuration.cache.enabled else 'off'}",
    ]


def _providers(router: Router | None) -> list[str]:
    lines = []
    for name, provider in router.providers.items() if router is not None else ():
        reason = provider.disabled_reason
        state = "enabled" if reason is None else f"disabled: {reason}"
        simulated = provider.table.sandbox_url or "its own simulator"
        place = simulated if provider.table.sandbox else provider.base_url or "its kind's own address"
        lines += [
            f"provider       {name} (kind {provider.table.kind}) {state}",
            f"               at {without_credentials(place)}; {_limits(provider)}",
        ]
    return lines


def _limits(provider: ConfiguredProvider) -> str:
    if not provider.batches:
        return "no batches: it is asked one by one, and nothing is discounted"
    limits = provider.limits
    tokens = limits.max_enqueued_tokens
    by_model = isinstance(tokens, Mapping)
    parts = [
        _limit("requests a batch", limits.max_requests),
        _limit("bytes a batch", limits.max_bytes),
        _limit("open batches", limits.max_open_batches),
        _limit("batches an hour", limits.max_creates_per_hour),
        "enqueued tokens by model"
        if by_model
        else _limit("enqueued tokens", tokens if isinstance(tokens, int) else None),
    ]
    return "at most " + ", ".join(part for part in parts if part)


def _limit(of: str, number: int | None) -> str:
    return "" if number is None else f"{number:,} {of}"


def _routes(configuration: Configuration) -> list[str]:
    return [f"route          {route.model} -> {route.provider}" for route in configuration.routes]


def _unreachable_routes(configuration: Configuration) -> list[str]:
    """Routes that no name ever comes to: a bare `*` ends the list, and of two equal ones the first wins."""
    models = [route.model for route in configuration.routes]
    return [
        f'routes[{place}]: no model ever comes to "{model}": the "{before}" before it takes all; put it further up'
        for place, model in enumerate(models)
        if (before := next((each for each in models[:place] if each in ("*", model)), None)) is not None
    ]


def _closed_doors(configuration: Configuration) -> list[str]:
    """What keeps all other machines out of a gateway that listens for them."""
    server = configuration.server
    if is_loopback(server.host) or server.allowed_hosts:
        return []
    warning = (
        f"server.allowed_hosts: {server.host} can be reached from other machines, and all of them get a 421: list the names "
        'and addresses by which they ask for this gateway, like ["batchway.example", "192.0.2.7"]'
    )
    return [warning]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One plugin, as it is listed."""

    name: str
    distribution: str
    version: str
    kinds: Sequence[str]
    faults: Sequence[str]
    #: Of `kinds`, those without batches.
    unbatched: Sequence[str] = ()

    def shown(self, kind: str) -> str:
        """A kind, and how it goes about its work if not in batches."""
        return f"{kind} (asks one by one)" if kind in self.unbatched else kind


@click.command(short_help="List plugins, their kinds and faults.")
@json_option
@ignored_config_option
def plugins(*, as_json: bool) -> None:
    """List the installed plugins: where they come from, the kinds they bring, and what is wrong with them."""
    from gateway.plugins import load_plugins

    columns: list[Column[Listed]] = [
        Column(heading="plugin", cell=lambda each: each.name),
        Column(heading="version", cell=lambda each: each.version),
        Column(heading="distribution", cell=lambda each: each.distribution),
        Column(heading="kinds", cell=lambda each: ", ".join(map(each.shown, each.kinds)) or "-"),
        Column(heading="faults", cell=lambda each: "; ".join(each.faults) or "-"),
    ]
    show_list(listed(load_plugins()), columns, _record, as_json=as_json)


def listed(found: Plugins) -> list[Listed]:
    """The plugins behind kinds and faults, in order of name."""
    names = {(kind.plugin, kind.distribution, kind.version) for kind in found.kinds.values()}
    known = {(plugin, distribution) for plugin, distribution, _ in names}
    broken = {(each.plugin, each.distribution) for each in found.faults} - known
    names |= {(plugin, distribution, "?") for plugin, distribution in broken}
    return [
        Listed(
            name=plugin,
            distribution=distribution,
            version=version,
            kinds=sorted(kind.name for kind in found.kinds.values() if kind.plugin == plugin),
            faults=[each.reason for each in found.faults if each.plugin == plugin],
            unbatched=[
                kind.name for kind in found.kinds.values() if kind.plugin == plugin and not kind.provider_class.batch
            ],
        )
        for plugin, distribution, version in sorted(names)
    ]


def _record(each: Listed) -> Mapping[str, object]:
    return {
        "name": each.name,
        "version": each.version,
        "distribution": each.distribution,
        "kinds": list(each.kinds),
        "unbatched_kinds": list(each.unbatched),
        "faults": list(each.faults),
    }
