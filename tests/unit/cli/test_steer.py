"""How `cancel` and `flush` find the running gateway."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.steer import NotReached, base_address
from gateway.config import Server
from gateway.endpoints.keys import operator_token


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8484"),
        ("0.0.0.0", "http://127.0.0.1:8484"),
        ("::", "http://[::1]:8484"),
        ("::1", "http://[::1]:8484"),
        ("[::1]", "http://[::1]:8484"),
        ("gateway.internal", "http://gateway.internal:8484"),
    ],
)
def test_the_address_is_one_to_connect_to(host: str, address: str) -> None:
    """A gateway that listens everywhere is reached over the loopback, and IPv6 addresses get their brackets."""
    assert base_address(Server(host=host)) == address


def test_a_port_of_the_systems_choice_is_not_guessed() -> None:
    """With port 0 nobody knows where the gateway is, and the message says what to set."""
    with pytest.raises(NotReached, match="name a port"):
        base_address(Server(port=0))


@pytest.mark.parametrize(
    "arguments", [["cancel"], ["cancel", "a", "--batch", "1"], ["cancel", "--batch", "1", "--client", "one"]]
)
def test_one_thing_is_cancelled_at_a_time(arguments: list[str]) -> None:
    """Neither nothing nor a request and a batch together can be cancelled, and a batch is no client's."""
    assert CliRunner().invoke(main, arguments).exit_code == 2


def write(tmp_path: Path) -> str:
    """A configuration of a gateway that does not run."""
    path = tmp_path / "config.toml"
    # Port 9 is discard: nobody listens there.
    path.write_text("[server]\nport = 9\n", encoding="utf-8")
    return str(path)


def test_a_gateway_that_never_ran_is_said_so(tmp_path: Path) -> None:
    """Without the operator's token there was no gateway here, which is what the message says."""
    result = CliRunner().invoke(main, ["flush", "--config", write(tmp_path)])

    assert result.exit_code == 1
    assert "no gateway has run" in result.stderr


def test_a_gateway_that_does_not_run_is_said_so(tmp_path: Path) -> None:
    """With nobody listening the message names the address and the command that starts it."""
    (tmp_path / "data").mkdir()
    operator_token(tmp_path / "data")
    result = CliRunner().invoke(main, ["flush", "--config", write(tmp_path)])

    assert result.exit_code == 1
    assert "no gateway answers at http://127.0.0.1:9" in result.stderr
    assert "batchway serve" in result.stderr
