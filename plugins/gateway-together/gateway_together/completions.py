"""Together's chat completion in OpenAI's words. Pure, and never raises on anything a provider can send."""

from __future__ import annotations

from collections.abc import Mapping


def openai_completion(answer: Mapping[str, object]) -> dict[str, object]:
    """`answer` as an OpenAI client expects it; fields that OpenAI does not have stay where they harm nobody."""
    completion = dict(answer)
    if not completion.get("prompt"):
        # Part of every answer, and filled only for who asked for an echo.
        completion.pop("prompt", None)
    choices = completion.get("choices")
    if isinstance(choices, list):
        completion["choices"] = [_choice(choice, n) for n, choice in enumerate(choices)]
    usage = completion.get("usage")
    if isinstance(usage, dict):
        completion["usage"] = _usage(usage)
    elif "usage" in completion:
        del completion["usage"]
    return completion


def _choice(choice: object, n: int) -> object:
    if not isinstance(choice, dict):
        return choice
    sent: dict[str, object] = {"index": n, **choice}
    message = sent.get("message")
    called = isinstance(message, dict) and bool(message.get("tool_calls"))
    if sent.get("finish_reason") in (None, "eos"):
        sent["finish_reason"] = "tool_calls" if called else "stop"
    if "logprobs" in sent:
        sent["logprobs"] = _logprobs(sent["logprobs"])
    if isinstance(message, dict):
        sent["message"] = _message(message)
    return sent


def _message(message: Mapping[str, object]) -> dict[str, object]:
    """With the keys that clients rely on, and without calls of tools when there are none."""
    sent: dict[str, object] = {"role": "assistant", "content": None, "refusal": None, **message}
    for field in ("tool_calls", "function_call"):
        if not sent.get(field):
            sent.pop(field, None)
    return sent


def _logprobs(logprobs: object) -> object:
    """Together's lists side by side as OpenAI's list of tokens; what is neither becomes null."""
    if not isinstance(logprobs, dict):
        return None
    if isinstance(logprobs.get("content"), list):
        return logprobs
    tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not (isinstance(tokens, list) and isinstance(values, list) and len(tokens) == len(values)):
        return None
    ranks = logprobs.get("top_logprobs")
    rivals = ranks if isinstance(ranks, list) and len(ranks) == len(tokens) else [None] * len(tokens)
    entries = zip(tokens, values, rivals, strict=True)
    return {"content": [_token(token, value) | {"top_logprobs": _top(top)} for token, value, top in entries]}


def _top(rivals: object) -> list[dict[str, object]]:
    return [_token(token, value) for token, value in rivals.items()] if isinstance(rivals, dict) else []


def _token(token: object, value: object) -> dict[str, object]:
    return {"token": str(token), "logprob": value if isinstance(value, int | float) else 0.0, "bytes": None}


def _usage(usage: Mapping[str, object]) -> dict[str, object]:
    """Tokens out of a cache are told beside the sums; OpenAI tells them one level down."""
    sent = dict(usage)
    cached = sent.get("cached_tokens")
    if isinstance(cached, int) and not isinstance(sent.get("prompt_tokens_details"), dict):
        sent["prompt_tokens_details"] = {"cached_tokens": cached}
    return {key: field for key, field in sent.items() if field is not None}
