"""What failed calls mean when real libraries make them on a real line: whether anything can have been sent is told apart."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import httpx2
import openai
import pytest

from gateway import Ambiguous, Retryable
from gateway.failures import Failures

SILENCE_SECONDS = 0.2
PATIENCE = httpx2.Timeout(SILENCE_SECONDS, connect=10.0)


async def by_aiohttp(url: str) -> None:
    """One POST by aiohttp."""
    patience = aiohttp.ClientTimeout(sock_connect=10, sock_read=SILENCE_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=patience) as session,
        session.post(url, data=b"{}") as response,
    ):
        await response.read()


async def by_httpx2(url: str) -> None:
    """One POST by httpx2."""
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        await client.post(url, content=b"{}")


async def by_openai(url: str) -> None:
    """One create call by OpenAI's SDK."""
    async with openai.AsyncOpenAI(api_key="k", base_url=url, timeout=PATIENCE, max_retries=0) as client:
        await client.batches.create(input_file_id="f", endpoint="/v1/chat/completions", completion_window="24h")


WAYS = [by_aiohttp, by_httpx2, by_openai]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_connection_means_nothing_was_sent(way: Callable[[str], Awaitable[None]], scheme: str) -> None:
    """A port where nobody listens, and a peer that does not speak TLS, cannot have made a batch."""
    async with listening(answer=b"" if scheme == "http" else b"HTTP/1.1 400 no\r\n\r\n") as (server, url):
        if scheme == "http":
            server.close()
            await server.wait_closed()
        with pytest.raises(Retryable):
            async with Failures().creating():
                await way(url.replace("http:", f"{scheme}:"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("repeatable", [False, True])
async def test_who_cannot_be_reached_is_named(way: Callable[[str], Awaitable[None]], *, repeatable: bool) -> None:
    """An operator with several providers, proxies and stores learns which one it was; users, paths and queries stay unsaid."""
    async with listening(answer=b"") as (server, url):
        server.close()
        await server.wait_closed()
        place = url.removeprefix("http://").rstrip("/")
        around = Failures().repeatable("upload") if repeatable else Failures().creating("upload")
        with pytest.raises(Retryable) as failure:
            async with around:
                await way(f"http://us3r:passw0rd@{place}/hidden?key=hidden")

    assert re.fullmatch(rf"upload: \w+ at (http://)?{re.escape(place)}", failure.value.reason)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", None])
async def test_a_line_that_breaks_leaves_it_open(way: Callable[[str], Awaitable[None]], answer: bytes | None) -> None:
    """A connection that is closed without an answer or in the midst of it, or that stays silent, may have made a batch."""
    async with listening(answer=answer) as (_, url):
        with pytest.raises(Ambiguous):
            async with Failures().creating():
                await way(url)


@asynccontextmanager
async def listening(answer: bytes | None) -> AsyncIterator[tuple[asyncio.Server, str]]:
    """A server that says `answer` to whatever it hears and hangs up; None: it says nothing and holds the line."""
    lines: list[asyncio.StreamWriter] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(writer)
        await reader.read(1 << 16)
        if answer is not None:
            writer.write(answer)
            writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    try:
        yield server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        for line in lines:
            line.close()
        server.close()
