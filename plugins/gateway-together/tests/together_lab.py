"""What the tests of this plugin share: bodies, lines, and the official SDKs pointed at the simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from together import AsyncTogether, Together

from gateway import Call
from gateway.testing import Lab
from gateway_together import TogetherProvider

MARKER = "abcdefghij0123456789"
CHAT = "/v1/chat/completions"


def chat(text: str, **fields: object) -> dict[str, object]:
    """A chat body with one user message."""
    return {"model": "sim-small", "messages": [{"role": "user", "content": text}], **fields}


def call(body: dict[str, object], endpoint: str = CHAT) -> Call:
    """What the gateway makes of `body` at admission."""
    return Call(endpoint=endpoint, model=str(body["model"]), body=body)


def line(custom_id: str, body: object, **changes: object) -> dict[str, object]:
    """One input line."""
    return {"custom_id": custom_id, "body": body, **changes}


def written(path: Path, *lines: object) -> Path:
    """`path` with these lines as JSON."""
    path.write_bytes(b"".join(orjson.dumps(entry) + b"\n" for entry in lines))
    return path


def base_url(lab: Lab) -> str:
    """What SDK 3 takes."""
    assert lab.server is not None
    return lab.server.base_url(lab.simulator)


@asynccontextmanager
async def sdk(lab: Lab) -> AsyncIterator[AsyncTogether]:
    """The official asynchronous client."""
    async with AsyncTogether(base_url=base_url(lab), api_key="sandbox", max_retries=0) as client:
        yield client


def sync_sdk(lab: Lab) -> Together:
    """The official synchronous client; call it in a thread, the simulator lives on the loop."""
    return Together(base_url=base_url(lab), api_key="sandbox", max_retries=0)


@asynccontextmanager
async def provider_at(lab: Lab, url: str, **settings: object) -> AsyncIterator[TogetherProvider]:
    """A provider with another address."""
    own = TogetherProvider.Settings.model_validate({"api_key": "k", "base_url": url, **settings})
    provider = TogetherProvider("elsewhere", own, lab.clock, lab.directory)
    try:
        yield provider
    finally:
        await provider.aclose()
