"""Services that configuration alone describes: dialects, paths, headers and windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from openai_lab import call, chat, service, text_of

from gateway import Limits, Rejected
from gateway.testing import QuickClock
from gateway_openai import OpenAICompatibleProvider, OpenAIProvider
from gateway_openai.sandbox import OpenAISimulator
from gateway_openai.simulated.services import CompatibleSimulator


@pytest.mark.parametrize(
    ("window", "shown"), [("1h", "1h"), ("24h", "24h"), ("1d", "24h"), ("3d", "3d"), ("36h", "36h")]
)
async def test_a_configured_dialect_can_be_rehearsed(window: str, shown: str, tmp_path: Path) -> None:
    """The simulator of `openai-compatible` takes whatever endpoint, window and further fields a table names."""
    fields = {"endpoint": "/v4/chat/completions", "create_fields": {"auto_delete_input_file": False}}
    async with service(
        OpenAICompatibleProvider, CompatibleSimulator, tmp_path, completion_window=window, **fields
    ) as lab:
        ended = await lab.run(chat("hello"))
        [result] = await lab.results(ended)
        raw = await lab.sdk.batches.retrieve(ended.remote_id)

    assert (raw.endpoint, raw.completion_window) == ("/v4/chat/completions", shown)
    assert "hello" in text_of(result)


async def test_configured_paths_and_windows_reach_any_service(tmp_path: Path) -> None:
    """`openai-compatible` sends the endpoint and the window that its table names, in lines and create call."""
    settings = {"endpoint": "/v4/chat/completions", "completion_window": "12h", "base_url": "http://127.0.0.1:9/v1"}
    own = OpenAICompatibleProvider.Settings.model_validate({"api_key": "k", **settings})
    provider = OpenAICompatibleProvider("p", own, QuickClock(), tmp_path)
    line = orjson.loads(provider.frame("a", provider.encode(call())))
    await provider.aclose()

    assert line["url"] == "/v4/chat/completions"


async def test_configured_fields_go_into_the_create_call_and_nowhere_else(tmp_path: Path) -> None:
    """`create_fields` are in the body of the create call: a strict server names the one that it does not know."""
    fields = {"auto_delete_input_file": False}
    async with service(OpenAICompatibleProvider, OpenAISimulator, tmp_path, create_fields=fields) as lab:
        batch = await lab.uploaded(chat("x"))
        with pytest.raises(Rejected, match="Unknown parameter: 'auto_delete_input_file'"):
            await lab.provider.submit(batch)

    assert b"auto_delete_input_file" not in batch.spool.read_bytes()


@pytest.mark.parametrize("header", ["", "Idempotency-Key"])
async def test_the_marker_goes_into_the_configured_header_of_the_create_call(header: str, tmp_path: Path) -> None:
    """A repeated create call carries the same key, another batch another one; without the setting there is none."""
    async with service(OpenAICompatibleProvider, OpenAISimulator, tmp_path, idempotency_header=header) as lab:
        seen: list[tuple[str, str | None]] = []
        authorised = lab.simulator.authorised

        def watch(request: web.Request) -> bool:
            seen.append((f"{request.method} {request.path}", request.headers.get("Idempotency-Key")))
            return authorised(request)

        lab.simulator.authorised = watch  # type: ignore[method-assign]
        batch = await lab.uploaded(chat("x"))
        await lab.provider.submit(batch)
        await lab.provider.submit(batch)
        await lab.provider.submit(replace(batch, marker="z" * 20))

    keys = [key for where, key in seen if where.endswith("/v1/batches") and where.startswith("POST")]
    assert keys == ([batch.marker, batch.marker, "z" * 20] if header else [None, None, None])
    assert {key for where, key in seen if not where.endswith("/v1/batches")} == {None}


def test_limits_stay_the_kinds_own_without_a_window() -> None:
    """A kind whose settings change no limit has one set of limits."""
    settings = OpenAIProvider.Settings.model_validate({})
    assert OpenAIProvider.limits_of(settings) is OpenAIProvider.limits
    assert isinstance(OpenAIProvider.limits, Limits)
