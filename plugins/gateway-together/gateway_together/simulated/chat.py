"""What the simulated chat model answers: a chat completion that is a pure function of the body (and of the line, if sampled).

It ends what it says with `eos` where OpenAI says `stop`, and tells log probabilities as lists
side by side, as Together does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import orjson

from gateway.sandbox import Directive, Outcome, answer_text, body_hash, instance, sampled, tokens_of

_REFUSAL = "I'm sorry, I cannot help with that."
_BYTES_PER_TOKEN = 4


def completion(body: Mapping[str, object], line_id: str, now: float, told: Directive | None = None) -> Outcome:
    """The chat completion for a body that `chat_problem` has nothing against."""
    name = body_hash(body)
    sample = line_id if sampled(body) else None
    count = body.get("n")
    refused = told is not None and told.word == "refusal"
    choices = [
        _choice(body, name if index == 0 else f"{name} choice {index}", sample, index=index, refused=refused)
        for index in range(count if isinstance(count, int) else 1)
    ]
    answered = sum(tokens for _, tokens in choices)
    asked = tokens_of(len(orjson.dumps(body.get("messages"))))
    unique = hashlib.blake2b(f"{name} {line_id}".encode(), digest_size=8).hexdigest()
    answer: dict[str, object] = {
        "id": unique,
        "object": "chat.completion",
        "created": int(now),
        "model": body.get("model"),
        "prompt": [{"text": last_text(body.get("messages"))}] if body.get("echo") else [],
        "choices": [choice for choice, _ in choices],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
            "cached_tokens": 0,
        },
    }
    return Outcome(status=200, body=answer, input_tokens=asked, output_tokens=answered)


def last_text(messages: object) -> str:
    """The text of the last user message; of the last message of all if there is none."""
    texts = [
        (message.get("role"), _text(message.get("content")))
        for message in (messages if isinstance(messages, list) else ())
        if isinstance(message, dict)
    ]
    asked = [text for role, text in texts if role == "user"] or [text for _, text in texts]
    return asked[-1] if asked else ""


def _choice(
    body: Mapping[str, object], name: str, sample: str | None, *, index: int, refused: bool
) -> tuple[dict[str, object], int]:
    """One choice, and its tokens; `name` tells whose it is."""
    message: dict[str, object] = {"role": "assistant", "content": None, "tool_calls": []}
    finish, call = "eos", _tool(body)
    if refused:
        message["content"] = text = _REFUSAL
    elif call is not None:
        text = orjson.dumps(instance(call.get("parameters", {"type": "object"}), name)).decode()
        function = {"name": call.get("name"), "arguments": text}
        message["tool_calls"] = [
            {"index": 0, "id": f"call_{name.replace(' ', '_')}", "type": "function", "function": function}
        ]
        finish = "tool_calls"
    else:
        text = _formatted(body.get("response_format"), name) or answer_text(
            last_text(body.get("messages")), name, sample
        )
        limit = body.get("max_tokens")
        if isinstance(limit, int) and tokens_of(len(text)) > limit:
            text, finish = text[: limit * _BYTES_PER_TOKEN], "length"
        message["content"] = text
    choice: dict[str, object] = {
        "index": index,
        "message": message,
        "logprobs": _logprobs(text, body.get("logprobs")),
        "finish_reason": finish,
        "seed": int(name[:8], 16),
    }
    return choice, tokens_of(len(text))


def _logprobs(text: str, count: object) -> dict[str, object] | None:
    """A token a word, each certain; its rivals are named after their rank."""
    if not isinstance(count, int) or count == 0:
        return None
    tokens = text.split()
    ranks = [{token: 0.0} | {f"{token}-{rank}": -10.0 for rank in range(2, count + 1)} for token in tokens]
    return {"tokens": tokens, "token_logprobs": [0.0] * len(tokens), "token_ids": None, "top_logprobs": ranks}


def _formatted(wanted: object, name: str) -> str | None:
    """The answer in a wanted JSON format; None when plain text is wanted."""
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return orjson.dumps({"answer": name}).decode()
    schema = wanted.get("json_schema")
    if wanted.get("type") == "json_schema" and isinstance(schema, dict):
        return orjson.dumps(instance(schema.get("schema", {}), name)).decode()
    return None


def _tool(body: Mapping[str, object]) -> Mapping[str, object] | None:
    """The function that has to be called; None when the model is free to write text, which it then does."""
    choice, tools = body.get("tool_choice"), body.get("tools")
    functions = [
        function
        for tool in (tools if isinstance(tools, list) else ())
        if isinstance(tool, dict) and isinstance(function := tool.get("function"), dict)
    ]
    if choice == "required":
        return functions[0] if functions else None
    if isinstance(choice, dict) and isinstance(named := choice.get("function"), dict):
        return next((function for function in functions if function.get("name") == named.get("name")), None)
    return None


def _text(content: object) -> str:
    """A message's content as text: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part.get("text")) for part in parts if isinstance(part, dict) and part.get("type") == "text")
