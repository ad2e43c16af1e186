"""What is told of exceptions whose words may quote keys and prompts."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.config import ProviderTable
from gateway.configured import ConfiguredProvider
from gateway.errors import PluginFault, Refusal, Retryable
from gateway.lines import line_size
from gateway.metrics import Metrics
from gateway.provider import ProviderSettings
from gateway.records import Limits
from gateway.testing import FakeClock, FakeProvider
from gateway.troubles import trouble
from gateway_openai import OpenAIProvider

KEY = "no-known-shape"


class Unmakable(FakeProvider):
    """Quotes its key when it is made."""

    def __init__(self, *arguments: object) -> None:
        raise RuntimeError(f"what is {KEY}?")


class Vague(FakeProvider):
    """Quotes its key when it is asked for its limits."""

    @classmethod
    def limits_of(cls, settings: ProviderSettings) -> Limits:
        """Raises."""
        raise RuntimeError(f"what is {KEY}?")


class Unframed(OpenAIProvider):
    """Quotes what it should frame."""

    def frame(self, line_id: str, payload: bytes) -> bytes:
        """Raises."""
        raise RuntimeError(f"what is {payload!r}?")


@pytest.mark.parametrize("kind", [Unmakable, Vague])
def test_a_disabled_provider_does_not_tell_its_key(kind: type[FakeProvider], tmp_path: Path) -> None:
    """Why a kind cannot be used is told to its callers, without the key that the exception quotes."""
    table = ProviderTable(name="p", kind="fake", settings={"api_key": KEY})
    provider = ConfiguredProvider(
        table=table,
        kind=kind,
        settings=ProviderSettings(base_url="", api_key=KEY),
        reason=None,
        clock=SystemClock(),
        directory=tmp_path,
    )

    assert provider.instance is None
    assert "RuntimeError: what is [redacted]?" in str(provider.disabled_reason)


def test_a_bug_parks_a_batch_without_its_words() -> None:
    """Of a bug its class is told, of a provider's refusal, a plugin's fault and a full disk what they say."""
    assert trouble(RuntimeError("my diary")) == "RuntimeError"
    assert trouble(TimeoutError("my diary")) == "TimeoutError"
    assert trouble(Retryable("status 503")) == "Retryable: status 503"
    assert trouble(PluginFault("plugin of kind x")) == "plugin of kind x"
    assert trouble(OSError(errno.ENOSPC, "No space left")) == "OSError: [Errno 28] No space left"


def test_a_line_that_cannot_be_framed_is_the_plugins_fault(tmp_path: Path) -> None:
    """Its caller is told 502 and whose bug it is, and nothing of what the exception quotes."""
    settings = Unframed.Settings.model_validate({"api_key": KEY})
    plugin = Unframed("p", settings, FakeClock(), tmp_path)

    with pytest.raises(Refusal) as refused:
        line_size(plugin, Limits(), b"my diary", Metrics())

    assert refused.value.code == "provider_unavailable"
    assert "failed on this request with RuntimeError" in str(refused.value)
    assert "diary" not in str(refused.value)
