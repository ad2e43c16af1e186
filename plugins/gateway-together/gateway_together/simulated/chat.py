"""What the simulated chat model answers: a chat completion that is a pure function of the body (and of the line, if sampled).

It ends what it says with `eos` where OpenAI says `stop`, and tells log probabilities as lists
side by side, as Together does.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.sandbox import ChatChoice, Directive, Outcome, chat_answer, last_text


def completion(body: Mapping[str, object], line_id: str, now: float, told: Directive | None = None) -> Outcome:
    """The chat completion for a body that `chat_problem` has nothing against."""
    answer = chat_answer(body, line_id, told)
    return answer.outcome(
        {
            "id": answer.unique(8),
            "object": "chat.completion",
            "created": int(now),
            "model": body.get("model"),
            "prompt": [{"text": last_text(body.get("messages"))}] if body.get("echo") else [],
            "choices": [_choice(choice, body.get("logprobs")) for choice in answer.choices],
            "usage": {**answer.usage, "cached_tokens": 0},
        }
    )


def _choice(choice: ChatChoice, logprobs: object) -> dict[str, object]:
    """A refusal is plain text here."""
    message: dict[str, object] = {"role": "assistant", "content": choice.text, "tool_calls": []}
    if choice.called:
        message |= {"content": None, "tool_calls": [{"index": 0, **choice.call}]}
    return {
        "index": choice.index,
        "message": message,
        "logprobs": _logprobs(choice.text, logprobs),
        "finish_reason": "eos" if choice.finish == "stop" else choice.finish,
        "seed": int(choice.name[:8], 16),
    }


def _logprobs(text: str, count: object) -> dict[str, object] | None:
    """A token a word, each certain; its rivals are named after their rank."""
    if not isinstance(count, int) or count == 0:
        return None
    tokens = text.split()
    ranks = [{token: 0.0} | {f"{token}-{rank}": -10.0 for rank in range(2, count + 1)} for token in tokens]
    return {"tokens": tokens, "token_logprobs": [0.0] * len(tokens), "token_ids": None, "top_logprobs": ranks}
