"""A list that was not read to its end is no list."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import Batch, RemoteBatch, RemoteState, Retryable
from gateway.clock import as_datetime
from gateway.testing import FakeClock
from gateway_openai import OpenAIProvider
from gateway_openai.listing import oldest_first
from gateway_openai.settings import OpenAISettings


class Endless(OpenAIProvider):
    """An account whose list goes on and on."""

    async def page(self, after: str | None) -> tuple[dict[str, object], str | None]:
        """One more, and another one after it."""
        return {"data": [{"id": f"batch_{after}", "created_at": 1, "status": "completed"}]}, f"{after}x"[-9:]


async def test_a_list_that_never_ends_is_no_empty_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages there are: ours may stand on the next one, so that it is not sent again."""
    monkeypatch.setattr("gateway_openai.provider._MAX_PAGES", 3)
    settings = OpenAISettings.model_validate({"api_key": "k", "base_url": "http://127.0.0.1:9/v1"})
    provider = Endless("x", settings, FakeClock(), tmp_path)
    batch = Batch(marker="m" * 20, endpoint="/v1/chat/completions", model="m", count=1, size=1, spool=tmp_path / "x")
    with pytest.raises(Retryable):
        await provider.find(batch)
    await provider.aclose()


def test_the_oldest_comes_first() -> None:
    """Of several batches of one create the oldest is ours, whatever the order of the list; unknown times come last."""
    seen = [
        RemoteBatch(remote_id=name, state=RemoteState.RUNNING, created=None if at is None else as_datetime(at))
        for name, at in (("c", 30.0), ("unknown", None), ("a", 10.0), ("b", 20.0))
    ]

    assert [remote.remote_id for remote in oldest_first(seen)] == ["a", "b", "c", "unknown"]
