"""From a caller's body to a `ChatRequest`. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.chat.fields import Fields
from gateway.chat.messages import read_messages
from gateway.chat.options import (
    HINTS,
    IGNORED,
    MOST_ANSWERS,
    REFUSED,
    note_hints,
    read_effort,
    read_max_tokens,
    read_penalty,
    read_response_format,
    read_stop,
    read_top_logprobs,
    read_user,
    refuse_foreign,
)
from gateway.chat.records import ChatRequest
from gateway.chat.tools import read_tool_choice, read_tools

#: Every field of a chat completion request, and the extension `top_k`. What is not here is refused.
KNOWN = (
    IGNORED
    | frozenset(HINTS)
    | frozenset(REFUSED)
    | {
        *("model", "messages", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
        *(
            "response_format",
            "stop",
            "max_tokens",
            "max_completion_tokens",
            "temperature",
            "top_p",
            "top_k",
            "n",
            "seed",
        ),
        *("presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "reasoning_effort"),
        *("user", "safety_identifier", "modalities", "service_tier", "store"),
    }
)


def read_chat(body: Mapping[str, object]) -> ChatRequest:
    """The request in `body`, checked as a whole.

    Raises `Unsupported`, naming the field, for what no translation can say: see `docs/translation.md`. Raises nothing else,
    whatever JSON `body` holds.
    """
    fields = Fields(content=body)
    fields.only(KNOWN)
    refuse_foreign(fields)
    note_hints(fields)
    system, turns = read_messages(fields)
    tools = read_tools(fields)
    parallel = fields.flag("parallel_tool_calls")
    return ChatRequest(
        model=fields.name("model"),
        system=system,
        turns=turns,
        tools=tools,
        tool_choice=read_tool_choice(fields, tools),
        parallel_tool_calls=parallel if tools else None,
        response_format=read_response_format(fields),
        stop=read_stop(fields),
        max_tokens=read_max_tokens(fields),
        temperature=fields.number("temperature", 0, 2),
        top_p=fields.number("top_p", 0, 1),
        top_k=fields.whole("top_k", 1),
        n=fields.whole("n", 1, MOST_ANSWERS) or 1,
        seed=fields.whole("seed", -(2**63)),
        presence_penalty=read_penalty(fields, "presence_penalty"),
        frequency_penalty=read_penalty(fields, "frequency_penalty"),
        logprobs=fields.flag("logprobs") or False,
        top_logprobs=read_top_logprobs(fields),
        effort=read_effort(fields),
        user=read_user(fields),
        hints=tuple(fields.hints),
    )
