"""From an answer to a chat completion's body. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gateway.chat.records import Called, ChatUsage, Choice, Token

#: What OpenAI says for a token that had no chance; JSON has no infinity.
_NO_CHANCE = -9999.0


def completion(
    choices: Sequence[Choice],
    usage: ChatUsage | None,
    *,
    model: str,
    id: str | None = None,  # noqa: A002 - OpenAI's word
) -> dict[str, object]:
    """OpenAI's `chat.completion` object, without `created` (and without `id` if None): core sets what is missing.

    Content is null beside tool calls or a refusal, and empty where the model said nothing at all.
    """
    written: dict[str, object] = {} if id is None else {"id": id}
    written |= {"object": "chat.completion", "model": model, "choices": [_choice(choice) for choice in choices]}
    if usage is not None:
        written["usage"] = _usage(usage)
    return written


def _choice(choice: Choice) -> dict[str, object]:
    logprobs = {"content": [_token(token) for token in choice.logprobs], "refusal": None} if choice.logprobs else None
    return {
        "index": choice.index,
        "message": _message(choice),
        "finish_reason": choice.finish.value,
        "logprobs": logprobs,
    }


def _message(choice: Choice) -> dict[str, object]:
    content = choice.content
    if content is None and not choice.tool_calls and choice.refusal is None:
        content = ""
    message: dict[str, object] = {"role": "assistant", "content": content, "refusal": choice.refusal}
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.tool_calls:
        message["tool_calls"] = [_called(called) for called in choice.tool_calls]
    return message


def _called(called: Called) -> dict[str, object]:
    return {"id": called.id, "type": "function", "function": {"name": called.name, "arguments": called.arguments}}


def _token(token: Token) -> dict[str, object]:
    return {**_rival(token), "top_logprobs": [_rival(rival) for rival in token.top]}


def _rival(token: Token) -> dict[str, object]:
    logprob = token.logprob if math.isfinite(token.logprob) else _NO_CHANCE
    return {"token": token.token, "logprob": logprob, "bytes": None}


def _usage(usage: ChatUsage) -> dict[str, object]:
    sound = {"audio_tokens": usage.audio} if usage.audio else {}
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_written, **sound},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
