"""What is known of Anthropic's models, as far as it decides what may be asked of them. Pure.

Source: Anthropic's pages "Thinking", "Troubleshooting thinking" and the migration guides of its models, read in
November 2026. A model that is not known here is taken for one that does everything; `models` in the configuration
says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, TypeVar

from gateway_anthropic.settings import ModelTraits

#: Think by a budget of tokens only.
_BUDGET = (
    *("claude-3-7-*", "claude-opus-4-0*", "claude-opus-4-1*", "claude-opus-4-2*", "claude-sonnet-4-0*"),
    *("claude-sonnet-4-2*", "claude-*-4-5*"),
)
#: Do not think.
_THOUGHTLESS = ("claude-2*", "claude-instant*", "claude-3-5-*", "claude-3-opus*", "claude-3-sonnet*", "claude-3-haiku*")
#: Always think.
_THOUGHTFUL = ("claude-fable-*", "claude-mythos-*", "claude-opus-5-5*")
#: Think a little less instead of not at all.
_BETWEEN = ("claude-sonnet-5-5*",)
#: Refuse a demanded call of a function.
_FREE = ("claude-fable-5-[1-9]*", "claude-mythos-5-[1-9]*", "claude-opus-5-5*", "claude-sonnet-5-5*")
#: Refuse sampling fields under any version of the API.
_UNSAMPLED = ("claude-opus-4-[78]*", "claude-*-5", "claude-*-5-*", "claude-mythos-*")
#: Refuse a temperature and a `top_p` in one request (their 400 says so; reports of 2025 and 2026).
_EITHER = ("claude-opus-4-1*", "claude-*-4-5*", "claude-*-4-6*")


Trait = TypeVar("Trait")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What one model takes."""

    max_tokens: int | None
    max_output_tokens: int | None
    thinking: Literal["adaptive", "budget", "none"]
    thinking_off: Literal["disabled", "between_tools", "refuse"]
    forced_tools: bool
    sampling: bool
    #: Whether a temperature and a `top_p` may stand in one request.
    sampling_pair: bool
    prefill: bool


def traits_of(model: str, configured: Mapping[str, ModelTraits]) -> Traits:
    """What `model` takes: as `configured`, else as known, else everything."""
    known = _known(model)
    said = [traits for pattern, traits in configured.items() if fnmatchcase(model, pattern)]
    if not said:
        return known
    return Traits(
        max_tokens=_first((traits.max_tokens for traits in said), otherwise=known.max_tokens),
        max_output_tokens=_first((traits.max_output_tokens for traits in said), otherwise=known.max_output_tokens),
        thinking=_first((traits.thinking for traits in said), otherwise=known.thinking),
        thinking_off=_first((traits.thinking_off for traits in said), otherwise=known.thinking_off),
        forced_tools=_first((traits.forced_tools for traits in said), otherwise=known.forced_tools),
        sampling=_first((traits.sampling for traits in said), otherwise=known.sampling),
        sampling_pair=known.sampling_pair,
        prefill=_first((traits.prefill for traits in said), otherwise=known.prefill),
    )


def _known(model: str) -> Traits:
    """What the plugin knows; patterns of older models are the more particular ones."""
    thoughtless = _fits(model, _THOUGHTLESS)
    older = thoughtless or _fits(model, _BUDGET)
    most = (8_192 if "-3-5-" in model else 4_096) if thoughtless else None
    between = _fits(model, _BETWEEN)
    always = not older and _fits(model, _THOUGHTFUL)
    return Traits(
        max_tokens=most,
        max_output_tokens=most,
        thinking="none" if thoughtless else "budget" if older else "adaptive",
        thinking_off="refuse" if always else "between_tools" if between else "disabled",
        forced_tools=not _fits(model, _FREE),
        sampling=older or not _fits(model, _UNSAMPLED),
        sampling_pair=not _fits(model, _EITHER),
        prefill=older,
    )


def _fits(model: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)


def _first(said: Iterable[Trait | None], *, otherwise: Trait) -> Trait:
    return next((trait for trait in said if trait is not None), otherwise)
