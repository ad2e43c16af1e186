"""What the simulated chat model answers: a pure function of the body (and of the line, if sampled)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from gateway.sandbox import ChatChoice, Directive, Outcome, chat_answer

#: Models with this in their name think aloud: their content is a list of chunks.
_THINKERS = "magistral"


def completion(
    body: Mapping[str, object], model: str, line_id: str, now: float, told: Directive | None = None
) -> Outcome:
    """The chat completion for a body that `chat_problem` has nothing against."""
    answer = chat_answer(body, line_id, told, required=("any", "required"))
    return answer.outcome(
        {
            "id": answer.unique(16),
            "object": "chat.completion",
            "created": int(now),
            "model": model,
            "choices": [_choice(choice, model) for choice in answer.choices],
            "usage": {**answer.usage, "prompt_audio_seconds": None, "service_tier": None},
        }
    )


def _choice(choice: ChatChoice, model: str) -> dict[str, object]:
    """A refusal is plain text here, and an answer that calls has empty content."""
    message: dict[str, object] = {"role": "assistant", "content": "", "tool_calls": None, "prefix": False}
    if choice.called:
        message["tool_calls"] = [{**choice.call, "id": _call_id(choice.name), "index": 0}]
    else:
        message["content"] = _thought(choice.name, choice.text) if _THINKERS in model else choice.text
    return {"index": choice.index, "message": message, "finish_reason": choice.finish}


def _thought(name: str, text: str) -> list[dict[str, object]]:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": f"Thinking about {name}."}], "closed": True}
    return [thinking, {"type": "text", "text": text}]


def _call_id(name: str) -> str:
    """Nine letters and digits, as Mistral's ids of tool calls."""
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()[:9]
