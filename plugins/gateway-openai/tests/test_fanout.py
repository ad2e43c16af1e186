"""A server without batches: the official SDK's own call, one at a time, and what each of its answers means."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import orjson
import pytest
from openai_lab import CHAT, chat, text_of

from gateway import Ambiguous, Call, Missing, Rejected, Result, Retryable, Unauthorised, Unsupported
from gateway.sandbox import Fault, FaultKind, Operation, SandboxServer
from gateway.testing import QuickClock
from gateway_openai.fanout import FanOutProvider
from gateway_openai.sandbox import OpenAISimulator


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[tuple[OpenAISimulator, str]]:
    """A simulated server and its base URL."""
    simulator = OpenAISimulator(clock=QuickClock(), directory=tmp_path / "sandbox")
    async with SandboxServer([simulator]) as server:
        yield simulator, server.base_url(simulator)


def provider_at(base_url: str, directory: Path, **settings: object) -> FanOutProvider:
    """A provider before this address."""
    own = FanOutProvider.Settings.model_validate({"base_url": base_url, **settings})
    return FanOutProvider("local", own, QuickClock(), directory)


@pytest.fixture
async def local(simulator: tuple[OpenAISimulator, str], tmp_path: Path) -> AsyncIterator[FanOutProvider]:
    """A provider with nothing but an address, before the simulator."""
    provider = provider_at(simulator[1], tmp_path)
    yield provider
    await provider.aclose()


def call_of(body: Mapping[str, object]) -> Call:
    """A call as core makes it."""
    return Call(endpoint=CHAT, model=str(body["model"]), body=body)


async def asked(provider: FanOutProvider, body: Mapping[str, object]) -> Result:
    """The way of a stored request: encoded at admission, asked from what was stored."""
    return await provider.complete_payload(CHAT, str(body["model"]), provider.encode(call_of(body)))


async def test_an_address_is_all_it_needs(local: FanOutProvider) -> None:
    """Without a key, a stored request is answered as the caller's own call would be."""
    body = chat("hello", temperature=0, stream=True, stream_options={"include_usage": True})
    stored = await asked(local, body)
    direct = await local.complete(call_of(body))

    assert (stored.status, stored.line_id) == (200, None)
    assert text_of(stored) == text_of(direct)
    assert text_of(stored).startswith("You said: hello ")
    assert (local.batch, local.concurrency, local.completion_seconds) == (False, 4, 600.0)


async def test_fields_pass_as_they_are(simulator: tuple[OpenAISimulator, str], tmp_path: Path) -> None:
    """Several choices, structured output and fields nobody has heard of go to the server; configured ones stay here."""
    provider = provider_at(simulator[1], tmp_path, drop_fields=["logit_bias"])
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    body = chat("x", n=2, response_format=wanted, guided_regex="a+", logit_bias={"1": 2})
    payload = orjson.loads(provider.encode(call_of(body)))["body"]
    result = await asked(provider, body)
    await provider.aclose()
    answer = orjson.loads(orjson.dumps(result.body))

    assert payload == {name: content for name, content in body.items() if name != "logit_bias"}
    assert provider.dropped(call_of(body)) == ["logit_bias"]
    assert [set(orjson.loads(choice["message"]["content"])) for choice in answer["choices"]] == [{"a"}, {"a"}]


@pytest.mark.parametrize(
    ("status", "retriable"),
    [(400, False), (404, False), (422, False), (408, True), (429, True), (500, True), (503, True)],
)
async def test_an_answer_of_any_status_is_a_result(
    simulator: tuple[OpenAISimulator, str], local: FanOutProvider, status: int, retriable: bool
) -> None:
    """It is judged as a line of that status would be, with the server's own words, and asked once."""
    order(simulator, kind=FaultKind.STATUS, status=status, message="these words")
    result = await asked(local, chat("x"))

    assert (result.status, result.retriable) == (status, retriable)
    assert result.error is not None
    assert result.error.message == "these words"
    assert simulator[0].ledger.calls["complete"] == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_come_back_later_is_no_attempt(
    simulator: tuple[OpenAISimulator, str], local: FanOutProvider, status: int
) -> None:
    """A server that names a time has not looked at the request."""
    order(simulator, kind=FaultKind.STATUS, status=status, retry_after=7.0)
    with pytest.raises(Retryable) as raised:
        await asked(local, chat("x"))

    assert raised.value.retry_after == 7.0


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refused_key_is_about_the_account(
    simulator: tuple[OpenAISimulator, str], local: FanOutProvider, status: int
) -> None:
    """No request is at fault, so none of them fails."""
    order(simulator, kind=FaultKind.STATUS, status=status)
    with pytest.raises(Unauthorised):
        await asked(local, chat("x"))


async def test_a_lost_answer_is_ambiguous_and_not_asked_again_by_itself(
    simulator: tuple[OpenAISimulator, str], local: FanOutProvider
) -> None:
    """The server acted and the connection was cut: the SDK must not repeat the call behind core's back."""
    order(simulator, kind=FaultKind.CUT, when="after")
    with pytest.raises(Ambiguous):
        await asked(local, chat("x"))

    assert simulator[0].ledger.calls["complete"] == 1


async def test_a_server_that_is_not_there_has_done_nothing(tmp_path: Path) -> None:
    """A refused connection may be tried again without counting."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    provider = provider_at(f"http://127.0.0.1:{port}/v1", tmp_path)
    with pytest.raises(Retryable):
        await asked(provider, chat("x"))
    await provider.aclose()


@pytest.mark.parametrize(
    ("head", "body", "expected"),
    [
        (b"200 OK", b"<html>a proxy's page</html>", Ambiguous),
        (b"200 OK", b"\xff\xfe", Ambiguous),
        (
            b"503 Service Unavailable",
            b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}',
            Retryable,
        ),
        (b"503 Service Unavailable", b"busy", None),
        (b"200 OK", b'{"choices":[]}', None),
        (b"200 OK", b'{"choices":[{"message":{"content":"hi"}}]}', None),
        (b"500 Oops", b"", None),
    ],
)
async def test_whatever_a_server_writes_has_a_meaning(
    tmp_path: Path, head: bytes, body: bytes, expected: type[Exception] | None
) -> None:
    """An answer in no shape we know is a lost one, a model that is being loaded is waited for, the rest is judged."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (head, len(body), body)
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    provider = provider_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", tmp_path)
    outcome: Result | Exception
    try:
        outcome = await asked(provider, chat("x"))
    except (Ambiguous, Retryable, Unauthorised, Rejected, Missing) as error:
        outcome = error
    await provider.aclose()
    server.close()
    await server.wait_closed()

    assert type(outcome) is (expected or Result)
    if isinstance(outcome, Result):
        assert (outcome.body is not None) is (b"hi" in body)
        assert outcome.retriable is (b"hi" not in body)


@pytest.mark.parametrize("settings", [{}, {"base_url": ""}, {"concurrency": 0}, {"organization": "x"}])
def test_settings_are_checked(settings: dict[str, object]) -> None:
    """Without an address, with no calls at all, or with keys of other kinds, there is nothing to start."""
    given = {"base_url": "http://localhost:8000/v1", **settings} if settings else {}
    with pytest.raises(ValueError, match=r"base_url|concurrency|organization"):
        FanOutProvider.Settings.model_validate(given)


def test_there_are_no_batches(tmp_path: Path) -> None:
    """Whoever asks for one is told so."""
    provider = provider_at("http://localhost:1/v1", tmp_path)
    with pytest.raises(Unsupported, match="no batches"):
        asyncio.run(provider.find(None))  # type: ignore[arg-type]


def order(simulator: tuple[OpenAISimulator, str], **fault: object) -> None:
    """One fault of the synchronous endpoint."""
    simulator[0].faults.order(Fault(operation=Operation.COMPLETE, **fault))  # type: ignore[arg-type]
