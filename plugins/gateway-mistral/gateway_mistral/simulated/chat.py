"""What the simulated chat model answers: a pure function of the body (and of the line, if sampled)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import orjson

from gateway.sandbox import Directive, Outcome, answer_text, body_hash, instance, sampled, tokens_of

_REFUSAL = "I'm sorry, I cannot help with that."
_BYTES_PER_TOKEN = 4
#: Models with this in their name think aloud: their content is a list of chunks.
_THINKERS = "magistral"


def completion(
    body: Mapping[str, object], model: str, line_id: str, now: float, told: Directive | None = None
) -> Outcome:
    """The chat completion for a body that `chat_problem` has nothing against."""
    name = body_hash(body)
    sample = line_id if sampled(body) else None
    count = body.get("n")
    refused = told is not None and told.word == "refusal"
    choices = [
        _choice(body, model, name if index == 0 else f"{name} choice {index}", sample, index=index, refused=refused)
        for index in range(count if isinstance(count, int) else 1)
    ]
    answered = sum(tokens for _, tokens in choices)
    asked = tokens_of(len(orjson.dumps(body.get("messages"))))
    answer: dict[str, object] = {
        "id": hashlib.blake2b(f"{name} {line_id}".encode(), digest_size=16).hexdigest(),
        "object": "chat.completion",
        "created": int(now),
        "model": model,
        "choices": [choice for choice, _ in choices],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
            "prompt_audio_seconds": None,
            "service_tier": None,
        },
    }
    return Outcome(status=200, body=answer, input_tokens=asked, output_tokens=answered)


def _choice(
    body: Mapping[str, object], model: str, name: str, sample: str | None, *, index: int, refused: bool
) -> tuple[dict[str, object], int]:
    """One choice, and its tokens; `name` tells whose it is."""
    message: dict[str, object] = {"role": "assistant", "content": "", "tool_calls": None, "prefix": False}
    finish = "stop"
    call = _tool(body)
    if call is not None and not refused:
        text = orjson.dumps(instance(call.get("parameters", {"type": "object"}), name)).decode()
        function = {"name": call.get("name"), "arguments": text}
        message["tool_calls"] = [{"id": _call_id(name), "type": "function", "function": function, "index": 0}]
        finish = "tool_calls"
    else:
        text = _REFUSAL if refused else _answer(body, name, sample)
        limit = body.get("max_tokens")
        if isinstance(limit, int) and tokens_of(len(text)) > limit:
            text, finish = text[: limit * _BYTES_PER_TOKEN], "length"
        message["content"] = _thought(name, text) if _THINKERS in model else text
    return {"index": index, "message": message, "finish_reason": finish}, tokens_of(len(text))


def _thought(name: str, text: str) -> list[dict[str, object]]:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": f"Thinking about {name}."}], "closed": True}
    return [thinking, {"type": "text", "text": text}]


def _answer(body: Mapping[str, object], name: str, sample: str | None) -> str:
    wanted = body.get("response_format")
    form = wanted if isinstance(wanted, dict) else {}
    if form.get("type") == "json_object":
        return orjson.dumps({"answer": name}).decode()
    schema = form.get("json_schema")
    if form.get("type") == "json_schema" and isinstance(schema, dict):
        return orjson.dumps(instance(schema.get("schema", {}), name)).decode()
    return answer_text(_last_text(body.get("messages")), name, sample)


def _call_id(name: str) -> str:
    """Nine letters and digits, as Mistral's ids of tool calls."""
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()[:9]


def _tool(body: Mapping[str, object]) -> Mapping[str, object] | None:
    """The function that has to be called; None when the model is free to write text, which it then does."""
    choice, tools = body.get("tool_choice"), body.get("tools")
    functions = [
        function
        for tool in (tools if isinstance(tools, list) else ())
        if isinstance(tool, dict) and isinstance(function := tool.get("function"), dict)
    ]
    if choice in ("any", "required"):
        return functions[0] if functions else None
    if isinstance(choice, dict) and isinstance(named := choice.get("function"), dict):
        return next((function for function in functions if function.get("name") == named.get("name")), None)
    return None


def _last_text(messages: object) -> str:
    """The text of the last user message; of the last message of all if there is none."""
    texts = [
        (message.get("role"), _text(message.get("content")))
        for message in (messages if isinstance(messages, list) else ())
        if isinstance(message, dict)
    ]
    asked = [text for role, text in texts if role == "user"] or [text for _, text in texts]
    return asked[-1] if asked else ""


def _text(content: object) -> str:
    """A message's content as text: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    parts: Sequence[object] = content if isinstance(content, list) else ()
    return "\n".join(str(part.get("text")) for part in parts if isinstance(part, dict) and part.get("type") == "text")
