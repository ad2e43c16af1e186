"""Keys of `[providers.NAME]` for the kind `anthropic`; the README has them in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway import ProviderSettings

#: The version whose requests may hold sampling fields, and the one after it, in which they are an error.
SAMPLING_VERSION = "2023-06-01"
CURRENT_VERSION = "2026-10-21"

EffortName = Literal["minimal", "low", "medium", "high", "xhigh", "max"]


def default_budgets() -> dict[EffortName, int]:
    """Tokens of thought for each effort."""
    return {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 32_768, "max": 65_536}


class ModelTraits(BaseModel):
    """What one model, or a family of them, takes; what is left out is as the plugin knows it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Sent as `max_tokens` when the caller gives none.
    max_tokens: int | None = Field(default=None, ge=1)
    #: What the model can write at most; more is refused at admission. None: the provider is the one to say no.
    max_output_tokens: int | None = Field(default=None, ge=1)
    #: How it is made to think: by effort, by a budget of tokens, or not at all.
    thinking: Literal["adaptive", "budget", "none"] | None = None
    #: What `reasoning_effort = "none"` becomes; `refuse` for models that always think.
    thinking_off: Literal["disabled", "between_tools", "refuse"] | None = None
    #: Whether a call of a function can be demanded.
    forced_tools: bool | None = None
    #: Whether it takes `temperature`, `top_p` and `top_k` under the old API version.
    sampling: bool | None = None
    #: Whether a conversation may end with the assistant, which it then goes on from.
    prefill: bool | None = None


class AnthropicSettings(ProviderSettings):
    """One workspace."""

    #: As the SDK takes it: without `/v1`.
    base_url: str = "https://api.anthropic.com"
    #: Sent with every call, whatever the SDK's own default is.
    api_version: Literal["2026-10-21", "2023-06-01"] = "2026-10-21"
    #: What becomes of `temperature`, `top_p` and `top_k` where they cannot be sent.
    sampling: Literal["refuse", "drop"] = "refuse"
    #: What becomes of `response_format` `json_object`, for which there is no word: refused, or asked for in the system prompt.
    json_object: Literal["refuse", "instruct"] = "refuse"
    #: What becomes of instructions after the conversation began: refused, sent where they stand (some models only), or moved
    #: to the front.
    late_system: Literal["refuse", "send", "hoist"] = "refuse"
    #: Sent as `max_tokens`, which the provider demands, when neither the caller nor `models` says a number.
    max_tokens: int = Field(default=16_384, ge=1)
    #: By pattern of the model's name; the first that matches and says something counts, before what the plugin knows.
    models: Mapping[str, ModelTraits] = Field(default_factory=dict)
    #: Whether thoughts come back as text; by default each model does what it does by itself.
    thinking_display: Literal["default", "summarized", "omitted"] = "default"
    #: Signed thoughts of a history in which something before them has changed, on models that mind: the provider refuses the
    #: request, or is asked to read over them, which is a beta of its API.
    stale_thoughts: Literal["refuse", "drop"] = "refuse"
    #: For models that think by budget: tokens of each effort.
    thinking_budgets: Mapping[EffortName, int] = Field(default_factory=default_budgets)
    #: Delete a remote batch when its lines are settled; results cost nothing and go by themselves after 29 days.
    delete_batches: bool = False
    #: For one small call.
    timeout_seconds: float = Field(default=60.0, gt=0)
    #: For how long a transfer may stand still: the create call, results, a synchronous answer.
    transfer_timeout_seconds: float = Field(default=600.0, gt=0)
