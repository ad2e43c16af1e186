"""What every simulator has for its wire: keys, synchronous calls, files in and out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import ClassVar

import aiohttp
import pytest
from aiohttp import web

from gateway.sandbox import (
    Directive,
    Fault,
    FaultKind,
    Line,
    Operation,
    Outcome,
    Route,
    SandboxServer,
    SandboxSettings,
    Simulator,
    StoredBatch,
    json_object,
    receive,
    reply,
    send,
)
from gateway.testing import QuickClock


class Plain(Simulator):
    """The least that a simulator can be."""

    kind: ClassVar[str] = "plain"

    def routes(self) -> Iterator[Route]:
        """One path for each thing that is tried here."""
        yield Route(method="POST", path="/files", answer=self.upload, operation=Operation.UPLOAD)
        yield Route(method="GET", path="/files/{names}", answer=self.content, operation=Operation.FETCH)
        yield Route(method="POST", path="/chat", answer=self.chat, operation=Operation.COMPLETE)

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """The form, without its file."""
        try:
            form = await receive(request, self.store.path("taken"))
        except ValueError as error:
            return self.refuse(400, str(error))
        return reply({"fields": form.fields, "filename": form.filename, "size": form.size})

    async def content(self, request: web.Request) -> web.StreamResponse:
        """Files, one behind the other."""
        paths = [self.store.path(name) for name in request.match_info["names"].split("+")]
        return await send(self, request, *paths, content_type="text/plain", headers={"X-Of": "plain"})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """A synchronous call."""
        raw = await request.read()
        body = json_object(raw)
        if body is None:
            return self.refuse(400, "no object")
        line = await self.take_call(body, model="m")
        outcome = self.outcome(raw, line)
        return reply(outcome.body, outcome.status or 504)

    def refuse(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> web.Response:
        """A sentence."""
        return reply({"why": message}, status)

    def read_line(self, line: bytes, batch: StoredBatch) -> Line:
        """Not needed."""
        raise NotImplementedError

    def answer(self, line: Line, told: Directive | None) -> Outcome:
        """Its own name."""
        return Outcome(status=200, body={"line": line.custom_id, "model": line.model})

    def failure(self, status: int) -> Outcome:
        """Words."""
        return Outcome(status=status, body={"why": "told"})

    def row(self, line: Line, outcome: Outcome, batch: StoredBatch) -> bytes:
        """Not needed."""
        raise NotImplementedError


@pytest.fixture
def simulator(tmp_path: Path) -> Plain:
    """On a clock that needs no waiting."""
    return Plain(clock=QuickClock(), settings=SandboxSettings(api_key="right"), directory=tmp_path)


@pytest.fixture
async def client(simulator: Plain) -> AsyncIterator[aiohttp.ClientSession]:
    """With the right key."""
    async with (
        SandboxServer([simulator]) as server,
        aiohttp.ClientSession(server.base_url(simulator) + "/", headers={"Authorization": "Bearer right"}) as session,
    ):
        yield session


@pytest.mark.parametrize(
    ("configured", "header", "status"),
    [
        ("right", "Bearer right", 200),
        ("right", "bearer right", 200),
        ("right", "Bearer wrong", 401),
        ("right", "Bearer räight", 401),
        ("right", "Basic right", 401),
        ("right", "right", 401),
        ("", "Bearer anything", 200),
        ("", "Bearer ", 401),
        ("", "", 401),
    ],
)
async def test_a_bearer_key_is_checked(
    simulator: Plain, client: aiohttp.ClientSession, configured: str, header: str, status: int
) -> None:
    """The configured key and no other; any key, but not none, where none is configured."""
    simulator.settings = SandboxSettings(api_key=configured)
    async with client.post("chat", json={}, headers={"Authorization": header}) as response:
        assert response.status == status


async def test_a_synchronous_call_is_on_record(simulator: Plain, client: aiohttp.ClientSession) -> None:
    """Each has a name of its own in the ledger, under the hash of its body."""
    said = []
    for _ in range(2):
        async with client.post("chat", json={"a": 1}) as response:
            said.append(await response.json())
    lines = list(simulator.ledger.lines())

    assert [line.custom_id for line in lines] == [each["line"] for each in said]
    assert len({line.custom_id for line in lines}) == 2
    assert {line.batch_id for line in lines} == {""}
    assert said[0]["model"] == "m"


async def test_a_synchronous_call_takes_its_time(simulator: Plain) -> None:
    """The seconds of the settings pass on the simulator's clock before a call goes on."""
    simulator.settings = SandboxSettings(completion_seconds=7.0)
    began = simulator.clock.now()
    await simulator.take_call({})

    assert simulator.clock.now() - began == 7.0


async def test_a_synchronous_call_fails_as_it_was_told(client: aiohttp.ClientSession) -> None:
    """A directive in the body decides over the answer."""
    async with client.post("chat", json={"a": "[sandbox: status=429]"}) as response:
        assert (response.status, await response.json()) == (429, {"why": "told"})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
async def test_a_body_that_is_no_object_is_none(client: aiohttp.ClientSession, content: bytes) -> None:
    """A simulator can tell it from an empty one."""
    async with client.post("chat", data=content) as response:
        assert (response.status, await response.json()) == (400, {"why": "no object"})


async def test_a_form_is_taken(simulator: Plain, client: aiohttp.ClientSession) -> None:
    """The file goes to disk as it is, whatever its place among the fields."""
    content = bytes(range(256)) * 4_096
    form = aiohttp.FormData({"purpose": "batch"})
    form.add_field("file", content, filename="lines.jsonl")
    form.add_field("late", "é")
    async with client.post("files", data=form) as response:
        told = await response.json()

    assert told == {"fields": {"purpose": "batch", "late": "é"}, "filename": "lines.jsonl", "size": len(content)}
    assert simulator.store.path("taken").read_bytes() == content


async def test_a_form_without_a_file_writes_none(simulator: Plain, client: aiohttp.ClientSession) -> None:
    """What is there instead of a file is told."""
    with aiohttp.MultipartWriter("form-data") as form:
        form.append("batch").set_content_disposition("form-data", name="purpose")
    async with client.post("files", data=form) as response:
        assert await response.json() == {"fields": {"purpose": "batch"}, "filename": None, "size": 0}
    assert not simulator.store.path("taken").exists()


async def test_what_is_no_form_is_said_to_be_none(client: aiohttp.ClientSession) -> None:
    """A body of another type is a ValueError, which a simulator answers in its own words."""
    async with client.post("files", json={"purpose": "batch"}) as response:
        assert response.status == 400


@pytest.mark.parametrize("names", ["a", "a+b"])
async def test_files_are_sent_whole(simulator: Plain, client: aiohttp.ClientSession, names: str) -> None:
    """One or several, one behind the other, with their length and the headers that were asked for."""
    for name in ("a", "b"):
        simulator.store.path(name).write_bytes(name.encode() * 300_000)
    async with client.get(f"files/{names}") as response:
        content = await response.read()
        headers = response.headers

    assert content == b"".join(name.encode() * 300_000 for name in names.split("+"))
    assert (headers["Content-Length"], headers["Content-Type"]) == (str(len(content)), "text/plain")
    assert headers["X-Of"] == "plain"


@pytest.mark.parametrize("names", ["a", "a+b"])
async def test_a_cut_sends_half(simulator: Plain, client: aiohttp.ClientSession, names: str) -> None:
    """An ordered cut announces all and sends half, once."""
    for name in ("a", "b"):
        simulator.store.path(name).write_bytes(name.encode() * 300_001)
    simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.FETCH, when="during"))
    read = 0
    with pytest.raises(aiohttp.ClientPayloadError):  # noqa: PT012 - what came before the end is counted
        async with client.get(f"files/{names}") as response:
            async for piece in response.content.iter_any():
                read += len(piece)
    async with client.get(f"files/{names}") as response:
        whole = await response.read()

    assert read == len(whole) // 2


def test_a_file_is_found_when_its_lag_is_over(simulator: Plain) -> None:
    """The lag of the settings, or the ordered one, which strikes once."""
    simulator.settings = SandboxSettings(file_lag_seconds=5.0)
    simulator.faults.order(Fault(kind=FaultKind.FILE_LAG, seconds=60.0))
    now = simulator.clock.now()

    assert [simulator.found_from() - now for _ in range(2)] == [60.0, 5.0]
