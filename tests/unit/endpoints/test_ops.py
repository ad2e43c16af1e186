"""What operators and their machines are told, and what they may order."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from types import MappingProxyType

import orjson
import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from gateway.cli import main
from gateway.config import Client, ProviderTable, Server, Storage
from gateway.endpoints.keys import TOKEN_FILE
from tests.unit.house import Answer, House, open_house, question, request_bytes


async def read(house: House, target: str) -> tuple[int, dict[str, object]]:
    """The status and the object there."""
    answer = await house.exchange(request_bytes("GET", target))
    told: dict[str, object] = orjson.loads(answer.body)
    return answer.status, told


async def test_a_gateway_without_a_usable_provider_is_not_ready(tmp_path: Path) -> None:
    """It would refuse every request: readiness says so, and which provider wants what; its process is well all the same."""
    tables = MappingProxyType({"fake": ProviderTable(name="fake", kind="fake", missing_variables=("SOME_KEY",))})
    async with open_house(tmp_path, providers=tables) as house:
        status, told = await read(house, "/readyz")
        refused = await house.exchange(request_bytes(body=question()))
        alive, _ = await read(house, "/healthz")

    assert (status, told["faults"]) == (503, ["no provider can be used: every new request is refused"])
    assert "SOME_KEY" in str(told["disabled_providers"])
    assert (refused.status, refused.code, alive) == (502, "provider_unavailable", 200)


async def test_one_usable_provider_is_enough(tmp_path: Path) -> None:
    """One that is disabled is named, and does not stand in the way of the others."""
    async with open_house(tmp_path) as house:
        broken = ProviderTable(name="broken", kind="fake", missing_variables=("SOME_KEY",))
        tables = MappingProxyType({**house.gateway.configuration.providers, "broken": broken})
    async with open_house(tmp_path, providers=tables) as house:
        status, told = await read(house, "/readyz")

    assert (status, told["faults"]) == (200, [])
    assert list(told["disabled_providers"]) == ["broken"]  # type: ignore[call-overload]


async def test_an_operator_cancels_the_client_he_means(tmp_path: Path) -> None:
    """Two clients may use one name: with `client` it is that one's request that ends, and the log says whose it was."""
    clients = tuple(Client(name=name, key_hash=hashlib.sha256(name.encode()).digest()) for name in ("one", "two"))
    async with open_house(tmp_path, clients=clients) as house:
        token = (tmp_path / TOKEN_FILE).read_text().strip()

        async def asked(name: str, *request: str, body: bytes | None = None, **headers: str) -> Answer:
            said = {"Authorization": f"Bearer {name}", **headers}
            return await house.exchange(request_bytes(*request, body=body, headers=said))

        later = {"Prefer": "respond-async", "Idempotency-Key": "mine"}
        for name in ("one", "two"):
            await asked(name, body=question(name), **later)
        wish = {"custom_id": "mine", "client": "one"}
        with capture_logs() as logs:
            done = await asked(token, "POST", "/ops/cancel", body=orjson.dumps(wish))
        nobody = await asked(token, "POST", "/ops/cancel", body=orjson.dumps({**wish, "client": "three"}))
        states = [(await asked(name, "GET", "/v1/results/mine")).status for name in ("one", "two")]

    assert (done.status, orjson.loads(done.body)["state"]) == (200, "cancelled")
    assert (nobody.status, b"'three'" in nobody.body) == (404, True)
    assert states == [410, 202]
    told = [(log["custom_id"], log["client"], log["wished_by"]) for log in logs if log["event"] == "cancel_wished"]
    assert told == [("mine", "one", "operator")]


@pytest.mark.parametrize("arguments", [[], ["--client", "two"]])
async def test_the_command_says_whose(tmp_path: Path, arguments: list[str]) -> None:
    """`batchway cancel --client` reaches that client's request; without it, the latest of that name."""
    clients = tuple(Client(name=name, key_hash=hashlib.sha256(name.encode()).digest()) for name in ("two", "one"))
    async with open_house(tmp_path / "data", clients=clients) as house:
        for name in ("two", "one"):
            headers = {"Authorization": f"Bearer {name}", "Prefer": "respond-async", "Idempotency-Key": "mine"}
            await house.exchange(request_bytes(body=question(name), headers=headers))
        config = tmp_path / "config.toml"
        tables = "".join(f'[[clients]]\nname = "{each.name}"\nkey = "{each.name}"\n' for each in clients)
        config.write_text(f"[server]\nport = {house.port}\n{tables}", encoding="utf-8")
        words = ["cancel", "mine", "--config", str(config), *arguments]
        done = await asyncio.to_thread(CliRunner().invoke, main, words)
        rows = await house.gateway.ledger.requests.listed(None)

    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "mine: cancelled")
    assert [row.client for row in rows if row.state.ended] == ["two" if arguments else "one"]


async def test_the_doctor_says_what_a_gateway_that_is_not_ready_says(tmp_path: Path) -> None:
    """The fault that readiness names stands in the finding, not only that there is one."""
    tables = MappingProxyType({"fake": ProviderTable(name="fake", kind="fake", missing_variables=("SOME_KEY",))})
    storage = Storage(directory=tmp_path / "data")
    async with open_house(tmp_path / "data", providers=tables, storage=storage, server=Server(port=0)) as house:
        config = tmp_path / "config.toml"
        config.write_text(f"[server]\nport = {house.port}\n", encoding="utf-8")
        words = ["doctor", "--offline", "--json", "--config", str(config)]
        done = await asyncio.to_thread(CliRunner().invoke, main, words)
    [gateway] = [each for each in json.loads(done.stdout) if each["check"] == "gateway"]

    assert "says 503: no provider can be used" in gateway["said"]
