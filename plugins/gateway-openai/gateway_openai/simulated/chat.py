"""What the simulated chat model answers: a chat completion that is a pure function of the body (and of the line, if sampled)."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.sandbox import ChatChoice, Directive, Outcome, chat_answer


def completion(body: Mapping[str, object], line_id: str, now: float, told: Directive | None = None) -> Outcome:
    """The chat completion for a body that `chat_problem` has nothing against."""
    answer = chat_answer(body, line_id, told)
    details = {
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    return answer.outcome(
        {
            "id": f"chatcmpl-{answer.unique(12)}",
            "object": "chat.completion",
            "created": int(now),
            "model": body.get("model"),
            "choices": [_choice(choice) for choice in answer.choices],
            "usage": {**answer.usage, **details},
            "service_tier": "default",
            "system_fingerprint": "fp_sandbox",
        }
    )


def _choice(choice: ChatChoice) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    if choice.called:
        message["tool_calls"] = [choice.call]
    else:
        message["refusal" if choice.refused else "content"] = choice.text
    return {"index": choice.index, "message": message, "logprobs": None, "finish_reason": choice.finish}
