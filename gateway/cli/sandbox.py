"""`batchway sandbox`: the simulated providers on a port, with faults to order."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from gateway.cli.output import PORT, TIME, Amount, ignored_config_option, show_json
from gateway.signals import when_told_to_end

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from gateway.sandbox import Fault, SandboxServer, SandboxSettings, Simulator

Record = TypeVar("Record", bound="DataclassInstance")

DEFAULT_PORT = 8585


@click.command(short_help="Run simulated providers on a port.")
@ignored_config_option
@click.argument("kinds", nargs=-1)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=PORT, default=DEFAULT_PORT, show_default=True, help="0 lets the system choose.")
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Keep files, batches and the ledger here; else nowhere."
)
@click.option("--validating-seconds", type=TIME, help="How long a batch is being validated.")
@click.option("--running-seconds", type=TIME, help="How long its lines run after that.")
@click.option("--finalizing-seconds", type=TIME, help="How long its results are being written after that.")
@click.option("--jitter", type=Amount(min=0, max=1), help="0.3: each batch takes 30 % more or less.")
@click.option("--set", "others", multiple=True, metavar="NAME=VALUE", help="Any other setting, like max_requests=100.")
@click.option(
    "--fault",
    "orders",
    multiple=True,
    metavar="KIND[,NAME=VALUE...]",
    help="Order a fault, like cut,operation=create,when=after; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the addresses as a JSON array.")
def sandbox(
    *,
    kinds: tuple[str, ...],
    host: str,
    port: int,
    directory: Path | None,
    validating_seconds: float | None,
    running_seconds: float | None,
    finalizing_seconds: float | None,
    jitter: float | None,
    others: tuple[str, ...],
    orders: tuple[str, ...],
    as_json: bool,
) -> None:
    """Simulate the providers of KINDS (all that are installed, if none is named) until Ctrl-C.

    No key, no money: any key is accepted. docs/sandbox.md lists settings and faults.
    """
    named = {
        "validating_seconds": validating_seconds,
        "running_seconds": running_seconds,
        "finalizing_seconds": finalizing_seconds,
        "jitter": jitter,
    }
    changes: dict[str, object] = {name: value for name, value in named.items() if value is not None}
    settings = read_settings([*others], changes)
    try:
        simulators = make_simulators(kinds, settings, directory)
    except OSError as error:
        raise click.BadParameter(f"{directory}: {error.strerror}", param_hint="--directory") from error
    for fault in map(read_fault, orders):
        for simulator in simulators:
            simulator.faults.order(fault)
    asyncio.run(_serve(simulators, host, port, as_json=as_json))


def read_settings(pairs: Sequence[str], changes: Mapping[str, object]) -> SandboxSettings:
    """The defaults with `changes` and with the NAME=VALUE of `pairs`. Raises `click.BadParameter`."""
    from gateway.sandbox import SandboxSettings

    return _converted({**dict(map(_pair, pairs)), **changes}, SandboxSettings, "--set")


def read_fault(order: str) -> Fault:
    """A fault out of KIND,NAME=VALUE,... Raises `click.BadParameter` naming what there is."""
    from gateway.sandbox import Fault, FaultKind

    kind, _, rest = order.partition(",")
    if kind not in list(FaultKind):
        raise click.BadParameter(f"{kind!r} is none of {', '.join(FaultKind)}", param_hint="--fault")
    return _converted({"kind": kind, **dict(map(_pair, rest.split(",") if rest else []))}, Fault, "--fault")


def make_simulators(kinds: Sequence[str], settings: SandboxSettings, directory: Path | None) -> list[Simulator]:
    """A simulator for each of `kinds`, or for every installed kind that has one. Raises `click.BadParameter`."""
    from gateway.clock import SystemClock
    from gateway.config import ProviderTable
    from gateway.errors import PluginFault
    from gateway.plugins import load_plugins
    from gateway.run import simulator_of

    installed = load_plugins().kinds
    clock = SystemClock()
    simulators: list[Simulator] = []
    for name in dict.fromkeys(kinds or installed):
        try:
            found = simulator_of(ProviderTable(name=name, kind=name), installed)
        except PluginFault as fault:
            click.echo(f"warning: {fault}", err=True)
            continue
        if found is not None:
            home = None if directory is None else directory / name
            simulators.append(found(clock=clock, name=name, settings=settings, directory=home))
        elif kinds:
            known = ", ".join(sorted(installed)) or "none"
            raise click.BadParameter(
                f"no simulator of the kind {name!r} is installed; kinds: {known}", param_hint="KINDS"
            )
    if not simulators:
        raise click.ClickException("no installed plugin brings a simulator")
    return simulators


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE")
    return name.strip().replace("-", "_"), value.strip()


def _converted(values: Mapping[str, object], record: type[Record], option: str) -> Record:
    """`values`, texts among them, as the fields of `record` want them."""
    import msgspec

    known = [field.name for field in dataclasses.fields(record)]
    for name in values:
        if name not in known:
            raise click.BadParameter(f"{name!r} is none of {', '.join(known)}", param_hint=option)
    try:
        return msgspec.convert(values, record, strict=False)
    except msgspec.ValidationError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


async def _serve(simulators: Sequence[Simulator], host: str, port: int, *, as_json: bool) -> None:
    from gateway.sandbox import SandboxServer

    ended = asyncio.Event()
    when_told_to_end(ended.set)
    server = SandboxServer(simulators, host, port)
    try:
        await server.start()
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error}") from None
    try:
        _announce(server, simulators, as_json=as_json)
        await ended.wait()
    finally:
        await server.stop()


def _sandbox_settings(kind: str) -> Mapping[str, object]:
    """What else a table of this kind needs to talk to its simulator."""
    from gateway.plugins import load_plugins

    return load_plugins().kinds[kind].provider_class.sandbox_settings


def table_for(simulator: Simulator, base_url: str) -> str:
    """The table that makes a gateway ask this simulator, with the key that it accepts."""
    keys: dict[str, object] = {
        "kind": simulator.name,
        "base_url": base_url,
        "api_key": simulator.settings.api_key or "sandbox",
        **_sandbox_settings(simulator.name),
    }
    # Strings, numbers and booleans look the same in TOML and in JSON.
    return "\n".join([f"[providers.{simulator.name}]", *(f"{key} = {json.dumps(keys[key])}" for key in keys), ""])


def _announce(server: SandboxServer, simulators: Sequence[Simulator], *, as_json: bool) -> None:
    places = [
        {"kind": each.name, "base_url": server.base_url(each), "control_url": f"{server.url(each)}/_sandbox"}
        for each in simulators
    ]
    if as_json:
        show_json(places)
        return
    for each, place in zip(simulators, places, strict=True):
        click.echo(f"# what was submitted, and how often: {place['control_url']}/ledger")
        click.echo(table_for(each, place["base_url"]))
    click.echo("Simulating until Ctrl-C. Put one of these tables into config.toml.")
