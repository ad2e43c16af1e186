"""Connections that send nothing, or too slowly: answered with 408 and closed, on the injected clock."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from gateway.config import Server
from gateway.endpoints import ops
from tests.unit.house import CHAT, HURRIED, Caller, House, open_house, question, request_bytes


async def refused(caller: Caller) -> None:
    """Check that a caller gets a 408 and a closed connection."""
    answer = await caller.answer()
    assert (answer.status, answer.code) == (408, "request_timeout")
    assert answer.headers["connection"].lower() == "close"
    assert "x-should-retry" not in answer.headers
    assert await caller.gone() == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"P",
        b"POST /v1/chat/completions HTTP/1.1\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Len",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n",
    ],
)
async def test_half_a_header_is_a_408(sent: bytes, tmp_path: Path) -> None:
    """A connection without a whole header within `header_seconds` is answered and closed; not before."""
    async with open_house(tmp_path) as house:
        caller = await house.caller()
        await caller.send(sent)
        await seen(house, 1)
        await house.clock.advance(29)
        assert len(house.gateway.connections._silent) == 1
        await house.clock.advance(2)
        await refused(caller)


async def test_a_header_that_drips_has_no_longer(tmp_path: Path) -> None:
    """A byte every few seconds does not keep a connection open: the whole header has one time."""
    async with open_house(tmp_path) as house:
        caller = await house.caller()
        await seen(house, 1)
        for byte in b"POST /v1/c":
            await caller.send(bytes([byte]))
            await house.clock.advance(3.2)
        await refused(caller)


async def test_each_connection_has_its_own_time(tmp_path: Path) -> None:
    """A connection that came later is left alone when an earlier one is closed."""
    async with open_house(tmp_path) as house:
        early = await house.caller()
        await seen(house, 1)
        await house.clock.advance(20)
        late = await house.caller()
        await seen(house, 2)
        await house.clock.advance(11)
        await refused(early)
        await late.send(request_bytes("GET", "/healthz"))
        assert (await late.answer()).status == 200


async def test_a_call_that_came_while_we_were_frozen_is_heard(tmp_path: Path) -> None:
    """A call that lies whole with the kernel when a frozen process or machine goes on is answered: it was not slow, we were."""
    async with open_house(tmp_path) as house:
        caller = await house.caller()
        await seen(house, 1)
        caller.writer.write(request_bytes("GET", "/healthz"))
        # Nothing has read it yet; a minute later, the sweep is the first to come round.
        house.clock._elapsed += 60
        house.gateway.connections.sweep()
        assert (await caller.answer()).status == 200


async def test_who_has_spoken_may_be_silent(tmp_path: Path) -> None:
    """A caller that waits, and a connection kept for the next request, are not refused, however long they are silent."""
    async with open_house(tmp_path) as house:
        kept, waiting = await house.caller(), await house.caller()
        await kept.send(request_bytes("GET", "/healthz"))
        assert (await kept.answer()).status == 200
        await waiting.send(request_bytes(body=question(), headers=HURRIED))
        await house.waiting()
        await house.clock.advance(40)
        _, status, _ = await waiting.head()
        assert status == 200
        await kept.send(request_bytes("GET", "/healthz"))
        assert (await kept.answer()).status == 200


async def test_connections_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    """Many callers that connect and hang up leave nothing behind."""
    async with open_house(tmp_path) as house:
        for _ in range(20):
            await (await house.caller()).close()
        await seen(house, 20)
        await house.clock.advance(31)
        assert house.gateway.connections._silent == {}


async def seen(house: House, count: int) -> None:
    """Return when the gateway has accepted so many connections."""
    async with asyncio.timeout(20):
        while len(house.gateway.connections._silent) < count:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("sent", [b"", b'{"model":'])
@pytest.mark.parametrize("path", [CHAT, "/ops/cancel"])
async def test_a_slow_body_is_a_408(sent: bytes, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not come within `body_seconds` is answered and the connection closed; nothing is recorded."""
    monkeypatch.setattr(ops, "BODY_SECONDS", 0.1)
    async with open_house(tmp_path, server=Server(port=0, body_seconds=0.1)) as house:
        token = (tmp_path / "operator.token").read_text()
        caller = await house.caller()
        headers = {"Content-Length": "100", "Authorization": f"Bearer {token}"}
        await caller.send(request_bytes(target=path, headers=headers) + sent)
        await refused(caller)
        assert await house.gateway.ledger.requests.listed(None) == []


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'"x"', b"\xff", b'{"batch_id": "x"}', b'{"batch_id": true}', b'{"batch_id": 99}', b"{}"]
)
async def test_ops_cancel_refuses_what_it_cannot_use(body: bytes, tmp_path: Path) -> None:
    """A body that names nothing is the caller's mistake, not a bug."""
    async with open_house(tmp_path) as house:
        token = (tmp_path / "operator.token").read_text()
        answer = await house.exchange(
            request_bytes(target="/ops/cancel", body=body, headers={"Authorization": f"Bearer {token}"})
        )
        assert answer.status in (400, 404)
        assert orjson.loads(answer.body)["error"]["message"]
