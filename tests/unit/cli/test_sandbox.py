"""What `batchway sandbox` makes of its options."""

from __future__ import annotations

import tomllib

import click
import pytest

from gateway.cli.sandbox import make_simulators, read_fault, read_settings, table_for
from gateway.plugins import load_plugins
from gateway.sandbox import Fault, FaultKind, Operation, SandboxSettings


def test_settings_are_read_by_their_names() -> None:
    """Texts become what the setting wants, dashes are underscores, and options win over --set."""
    settings = read_settings(["max-requests=7", "shuffle=false", "jitter=0.5"], {"jitter": 0.25})

    assert settings == SandboxSettings(max_requests=7, shuffle=False, jitter=0.25)


def test_faults_are_read_by_their_names() -> None:
    """A fault's kind comes first, its other fields by name."""
    fault = read_fault("cut,operation=create,when=after,times=2")

    assert fault == Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="after", times=2)


@pytest.mark.parametrize("order", ["", "nix", "cut,nix=1", "cut,operation=nix", "status,status=abc", "cut,when"])
def test_a_fault_nobody_knows_is_refused(order: str) -> None:
    """A fault that could never strike is refused instead of ordered."""
    with pytest.raises(click.BadParameter):
        read_fault(order)


@pytest.mark.parametrize("pair", ["nix=1", "max_requests=many", "max_requests"])
def test_a_setting_nobody_knows_is_refused(pair: str) -> None:
    """An unknown setting or a value of the wrong type is refused."""
    with pytest.raises(click.BadParameter):
        read_settings([pair], {})


def test_every_installed_kind_is_simulated() -> None:
    """Without names, each kind that has a simulator gets one under its own name."""
    simulators = make_simulators([], SandboxSettings(), None)

    kinds = load_plugins().kinds
    assert [each.name for each in simulators] == [name for name, kind in kinds.items() if kind.provider_class.simulator]
    assert {"openai", "openai-compatible", "fanout"} <= {each.name for each in simulators}


def test_a_kind_without_simulator_is_refused() -> None:
    """Asking for a kind that nobody simulates names the kinds there are."""
    with pytest.raises(click.BadParameter, match="openai-compatible"):
        make_simulators(["nobody"], SandboxSettings(), None)


@pytest.mark.parametrize(
    ("settings", "key"), [(SandboxSettings(), "sandbox"), (SandboxSettings(api_key="sk-1"), "sk-1")]
)
def test_the_printed_table_has_the_key_that_is_accepted(settings: SandboxSettings, key: str) -> None:
    """What is to be put into `config.toml` works as it stands, also where only one key is accepted."""
    [simulator] = make_simulators(["openai"], settings, None)
    table = tomllib.loads(table_for(simulator, "http://127.0.0.1:9/openai/v1"))["providers"]["openai"]

    assert table == {"kind": "openai", "base_url": "http://127.0.0.1:9/openai/v1", "api_key": key}
