"""What is known of Anthropic's models, by the names that the SDK lists."""

from __future__ import annotations

import pytest

from gateway_anthropic.models import traits_of
from gateway_anthropic.settings import ModelTraits


@pytest.mark.parametrize(
    ("model", "thinking", "off", "forced", "sampling", "prefill"),
    [
        ("claude-fable-5-2", "adaptive", "refuse", False, False, False),
        ("claude-fable-5", "adaptive", "refuse", True, False, False),
        ("claude-mythos-preview", "adaptive", "refuse", True, False, False),
        ("claude-opus-5-5", "adaptive", "refuse", False, False, False),
        ("claude-opus-5", "adaptive", "disabled", True, False, False),
        ("claude-sonnet-5-5", "adaptive", "between_tools", False, False, False),
        ("claude-haiku-5-5", "adaptive", "disabled", True, False, False),
        ("claude-opus-4-8", "adaptive", "disabled", True, False, False),
        ("claude-opus-4-6", "adaptive", "disabled", True, True, False),
        ("claude-sonnet-4-6", "adaptive", "disabled", True, True, False),
        ("claude-haiku-4-5-20251001", "budget", "disabled", True, True, True),
        ("claude-opus-4-5", "budget", "disabled", True, True, True),
        ("claude-opus-4-1-20250805", "budget", "disabled", True, True, True),
        ("claude-sonnet-4-20250514", "budget", "disabled", True, True, True),
        ("claude-3-7-sonnet-20250219", "budget", "disabled", True, True, True),
        ("claude-3-5-haiku-latest", "none", "disabled", True, True, True),
        ("some-other-model", "adaptive", "disabled", True, True, False),
    ],
)
def test_each_generation_has_its_traits(
    model: str, thinking: str, off: str, *, forced: bool, sampling: bool, prefill: bool
) -> None:
    """Thinking, demanded calls, sampling and prefill as Anthropic's migration guides have them."""
    traits = traits_of(model, {})

    assert (traits.thinking, traits.thinking_off) == (thinking, off)
    assert (traits.forced_tools, traits.sampling, traits.prefill) == (forced, sampling, prefill)


def test_what_is_configured_comes_first() -> None:
    """The first pattern that fits and says something counts; what nobody says stays as it is known."""
    configured = {
        "claude-fable-5-2": ModelTraits(max_tokens=5),
        "claude-fable-*": ModelTraits(max_tokens=7, forced_tools=True),
    }
    traits = traits_of("claude-fable-5-2", configured)

    assert (traits.max_tokens, traits.forced_tools, traits.thinking_off) == (5, True, "refuse")
