"""A chat completion, understood: the records between OpenAI's words and another provider's.

Side room of plugins that translate. `read_chat` (reading) makes a `ChatRequest` of a caller's body; the plugin writes
it in its provider's words, reads the provider's answer, and `completion` (writing) says it in OpenAI's again.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Words; never empty."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """An image, a sound or a document that came inside the request."""

    #: As in `image/png`, `audio/wav`, `application/pdf`, `text/plain`; lower case, no parameters.
    media_type: str
    #: Base64, checked to be that.
    content: str
    #: The file's name, for documents.
    filename: str | None = None
    #: Where in the caller's body it stood, as in `messages[0].content[1].image_url`: for refusals.
    field: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An image behind an http(s) address."""

    url: str
    field: str = ""


Part = Text | Media | Link


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a function that the model made in an earlier turn."""

    #: As the provider knew it: without what `carry` put there.
    id: str
    name: str
    arguments: Mapping[str, object]
    #: What `carry` put into the id when it was handed out; None when there is nothing, or it cannot be read.
    carried: Mapping[str, object] | None = None
    field: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserTurn:
    """What the user said; at least one part."""

    parts: tuple[Part, ...]
    field: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantTurn:
    """What the model said and which functions it called; at least one of both. A refusal counts as text."""

    texts: tuple[Text, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    field: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What one called function gave back."""

    #: The id of the call it answers, as in `ToolCall.id`.
    id: str
    #: The function's name, looked up from the call.
    name: str
    parts: tuple[Text, ...]
    field: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolTurn:
    """The results of all calls of the assistant's turn before it, in the order they came."""

    results: tuple[ToolResult, ...]
    field: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemTurn:
    """An instruction that comes after the conversation began; leading ones are in `ChatRequest.system`."""

    texts: tuple[Text, ...]
    field: str = ""


Turn = UserTurn | AssistantTurn | ToolTurn | SystemTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: str | None = None
    #: JSON Schema of its arguments; an object schema when the caller gave none.
    parameters: Mapping[str, object] = field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool | None = None
    field: str = ""


class ToolMode(enum.StrEnum):
    """How free the model is to call functions."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """The caller's `tool_choice`."""

    mode: ToolMode
    #: Only these functions; empty: all. One name with `REQUIRED` is OpenAI's "this function".
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonObject:
    """`response_format` `json_object`: any JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSchema:
    """`response_format` `json_schema`."""

    name: str
    schema: Mapping[str, object]
    strict: bool | None = None
    description: str | None = None


class Effort(enum.StrEnum):
    """`reasoning_effort`."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A caller's request, checked; None and empty mean that the caller did not say."""

    model: str
    #: Leading system and developer turns, in order.
    system: tuple[Text, ...] = ()
    #: At least one. Turns of the same role may follow each other.
    turns: tuple[Turn, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    #: None: text.
    response_format: JsonObject | JsonSchema | None = None
    stop: tuple[str, ...] = ()
    #: `max_completion_tokens`, else `max_tokens`; at least 1.
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    #: At least 1.
    n: int = 1
    seed: int | None = None
    #: Zero is as good as not said.
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    effort: Effort | None = None
    #: `safety_identifier`, else `user`.
    user: str | None = None
    #: Names of fields that were set and that no other provider has a word for (`verbosity`, `prediction`, `prompt_cache_key`,
    #: `messages[0].name` ...): hints, whose loss changes no meaning. For `Provider.dropped`.
    hints: tuple[str, ...] = ()


class Finish(enum.StrEnum):
    """`finish_reason`."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A function that the model calls in its answer."""

    #: As the caller will see it: with what `carry` put there.
    id: str
    name: str
    #: JSON text.
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """The log probability of one token, with its rivals."""

    token: str
    logprob: float
    top: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One answer of the model."""

    finish: Finish
    #: None: said nothing.
    content: str | None = None
    tool_calls: tuple[Called, ...] = ()
    refusal: str | None = None
    #: The model's thoughts as text, where the provider shows them.
    reasoning: str | None = None
    logprobs: tuple[Token, ...] = ()
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatUsage:
    """Tokens as OpenAI counts them."""

    #: All input tokens, cached and cache-written ones among them.
    prompt: int
    #: All output tokens, those of reasoning among them.
    completion: int
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0
    #: Input tokens of sound, which have a price of their own: with any, the cost of the answer is unknown.
    audio: int = 0
