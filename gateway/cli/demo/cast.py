"""Which simulated providers take part in the demonstration: the kinds of the installed plugins that have a simulator."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from gateway.config import ProviderTable
from gateway.plugins import load_plugins
from gateway.provider import Provider
from gateway.run import simulator_of
from gateway.sandbox import Simulator


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One simulated provider; its table is named as its kind."""

    kind: str
    provider_class: type[Provider]
    simulator_class: type[Simulator]

    @property
    def model(self) -> str:
        """The model that is asked for there."""
        return self.simulator_class.priced_model


def parts(kinds: Sequence[str]) -> list[Part]:
    """The named kinds, or all that have a simulator. Raises `click.BadParameter` for one that has none."""
    installed = load_plugins().kinds
    found: list[Part] = []
    for name in dict.fromkeys(kinds or sorted(installed)):
        simulator_class = simulator_of(ProviderTable(name=name, kind=name), installed)
        if simulator_class is not None:
            provider_class = installed[name].provider_class
            found.append(Part(kind=name, provider_class=provider_class, simulator_class=simulator_class))
        elif kinds:
            raise click.BadParameter(
                f"no simulator of the kind {name!r} is installed; kinds: {', '.join(sorted(installed))}",
                param_hint="--provider",
            )
    return found


def tables(cast: Sequence[Part], addresses: Mapping[str, str]) -> str:
    """The providers' tables of config.toml; `addresses` are the simulators' base URLs."""
    return "".join(_table(part, addresses[part.kind]) for part in cast)


def _table(part: Part, base_url: str) -> str:
    # Strings, numbers and booleans look the same in TOML and in JSON.
    others = "".join(f"{key} = {json.dumps(value)}\n" for key, value in part.provider_class.sandbox_settings.items())
    return (
        f'[providers.{part.kind}]\nkind = "{part.kind}"\nsandbox = true\nsandbox_url = "{base_url}"\n{others}'
        "limits = { min_poll_seconds = 0.5 }\n"
    )
