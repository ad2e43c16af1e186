"""How much a model shall think, in Anthropic's words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway import Unsupported
from gateway.chat import Effort
from gateway_anthropic.models import Traits
from gateway_anthropic.settings import AnthropicSettings

#: The least budget there is.
LEAST_BUDGET = 1_024
_FIELD = "reasoning_effort"
#: What the API wants to be told of `block_binding`.
BINDING_BETA = "thinking-binding-controls-2026-08-01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking:
    """What to say of thinking."""

    #: The `thinking` field; None: say nothing.
    config: Mapping[str, object] | None = None
    #: `output_config.effort`.
    effort: str | None = None
    #: Whether an effort was asked for and is not sent.
    dropped: bool = False

    @property
    def on(self) -> bool:
        """Whether the model is told to think, in whichever way."""
        return self.config is not None and self.config.get("type") in ("enabled", "adaptive")

    @property
    def by_budget(self) -> bool:
        """Whether the model is made to think by a budget of tokens."""
        return self.config is not None and self.config.get("type") == "enabled"


def write_thinking(
    effort: Effort | None,
    traits: Traits,
    settings: AnthropicSettings,
    *,
    max_tokens: int,
    thoughtful: bool | None,
) -> Thinking:
    """What `effort` becomes. `thoughtful` is whether the last turn that called functions begins with its thoughts.

    A model that thinks by budget refuses a history whose last calls lack the thoughts before them (a conversation begun
    elsewhere, or without thinking): it is then asked not to think. Adaptive thinking does not mind. Raises `Unsupported`.
    """
    if effort is None:
        always = traits.thinking == "adaptive" and traits.thinking_off != "disabled"
        wanted = always and thoughtful and settings.stale_thoughts == "drop"
        return Thinking(config=_told({"type": "adaptive"}, settings)) if wanted else Thinking()
    if effort is Effort.NONE:
        return _off(traits)
    if traits.thinking == "none":
        return Thinking(dropped=True)
    if traits.thinking == "adaptive":
        word = Effort.LOW if effort is Effort.MINIMAL else effort
        return Thinking(config=_told({"type": "adaptive"}, settings), effort=word.value)
    if thoughtful is False:
        return Thinking(config={"type": "disabled"}, dropped=True)
    budget = _budget(effort, settings, max_tokens)
    return Thinking(config=_told({"type": "enabled", "budget_tokens": budget}, settings))


def _off(traits: Traits) -> Thinking:
    if traits.thinking == "none":
        return Thinking()
    if traits.thinking_off == "refuse":
        raise Unsupported(_FIELD, "this model always thinks; use 'low' or leave it out")
    return Thinking(config={"type": traits.thinking_off})


def _budget(effort: Effort, settings: AnthropicSettings, max_tokens: int) -> int:
    """Tokens for thoughts: as configured, but never more than half of all, so that an answer has room."""
    if max_tokens <= LEAST_BUDGET:
        raise Unsupported(_FIELD, f"thinking needs room for more than {LEAST_BUDGET} tokens; raise max_tokens")
    wanted = {str(name): tokens for name, tokens in settings.thinking_budgets.items()}.get(effort.value, LEAST_BUDGET)
    return max(LEAST_BUDGET, min(wanted, max_tokens // 2))


def _told(config: dict[str, object], settings: AnthropicSettings) -> dict[str, object]:
    """A way of thinking, with what is configured beside it."""
    if settings.thinking_display != "default":
        config["display"] = settings.thinking_display
    if settings.stale_thoughts == "drop":
        config["block_binding"] = {"prefix_mismatch_behavior": "drop_block"}
    return config
