"""Chat completions in OpenAI's shape: what a simulated model says, for each wire format to write in its own words.

Pure functions of the body, and of the line where sampling was asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import orjson

from gateway.sandbox.answers import answer_text, body_hash, instance, sampled, tokens_of
from gateway.sandbox.directives import Directive
from gateway.sandbox.faults import FaultKind
from gateway.sandbox.records import Outcome
from gateway.sandbox.store import new_id

_REFUSAL = "I'm sorry, I cannot help with that."
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatChoice:
    """One choice of an answer: a text, the call of a function, or a refusal."""

    index: int
    #: Tells it from other answers and choices.
    name: str
    #: What is said; the arguments, as JSON, where a function is called.
    text: str
    #: The function that is called.
    function: object = None
    called: bool = False
    refused: bool = False
    #: Whether it ended at the limit that the request sets.
    cut: bool = False

    @property
    def finish(self) -> str:
        """OpenAI's word for why it ended."""
        return "tool_calls" if self.called else "length" if self.cut else "stop"

    @property
    def call(self) -> dict[str, object]:
        """The call of its function, as OpenAI writes it."""
        function = {"name": self.function, "arguments": self.text}
        return {"id": f"call_{self.name.replace(' ', '_')}", "type": "function", "function": function}

    @property
    def tokens(self) -> int:
        """An estimate of its tokens."""
        return tokens_of(len(self.text))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """All that is said to one body."""

    #: Hash of the body.
    name: str
    line_id: str
    choices: Sequence[ChatChoice]
    #: An estimate of the prompt's tokens.
    asked: int

    @property
    def usage(self) -> dict[str, object]:
        """The three counts that every wire format of this shape has."""
        answered = self.answered
        return {"prompt_tokens": self.asked, "completion_tokens": answered, "total_tokens": self.asked + answered}

    @property
    def answered(self) -> int:
        """Tokens of all choices."""
        return sum(choice.tokens for choice in self.choices)

    def unique(self, size: int) -> str:
        """Twice `size` hex digits that no other line's answer has."""
        return unique_digits(self.name, self.line_id, size)

    def outcome(self, body: Mapping[str, object]) -> Outcome:
        """The answered line, written as `body`."""
        return Outcome(status=200, body=body, input_tokens=self.asked, output_tokens=self.answered)


def chat_answer(
    body: Mapping[str, object],
    line_id: str,
    told: Directive | None = None,
    *,
    required: Collection[str] = ("required",),
) -> ChatAnswer:
    """What is said to a chat body that nothing is wrong with; `required` are words of `tool_choice` that want some call."""
    name = body_hash(body)
    count = body.get("n")
    refused = told is not None and told.word == "refusal"
    function = _required_function(body, required)
    sample = line_id if sampled(body) else None
    choices = []
    for index in range(count if isinstance(count, int) else 1):
        own_name = name if index == 0 else f"{name} choice {index}"
        if refused:
            choices.append(ChatChoice(index=index, name=own_name, text=_REFUSAL, refused=True))
        elif function is not None:
            choices.append(_called(function, index, own_name))
        else:
            choices.append(_written(body, index, own_name, sample))
    asked = tokens_of(len(orjson.dumps(body.get("messages"))))
    return ChatAnswer(name=name, line_id=line_id, choices=choices, asked=asked)


def unique_digits(name: str, line_id: str, size: int) -> str:
    """Twice `size` hex digits for the answer to a line whose body hashes to `name`."""
    return hashlib.blake2b(f"{name} {line_id}".encode(), digest_size=size).hexdigest()


def last_text(messages: object) -> str:
    """The text of the last user message; of the last message of all if there is none."""
    texts = [
        (message.get("role"), _text(message.get("content")))
        for message in (messages if isinstance(messages, list) else ())
        if isinstance(message, dict)
    ]
    asked = [text for role, text in texts if role == "user"] or [text for _, text in texts]
    return asked[-1] if asked else ""


def distorted(row: bytes, fault: FaultKind) -> bytes:
    """A result row in OpenAI's shape under `fault`, for `Simulator.distort`."""
    shown = orjson.loads(row)
    response = shown.get("response")
    if fault is FaultKind.ROW_UNKNOWN_ID:
        shown["custom_id"] = new_id("unknown-")
    elif fault is FaultKind.ROW_STATUS_0:
        shown["response"] = {**(response or {}), "status_code": 0, "body": None}
    elif fault is FaultKind.ROW_NO_CHOICES and response:
        response["body"]["choices"] = []
    return orjson.dumps(shown)


def _called(function: Mapping[str, object], index: int, name: str) -> ChatChoice:
    text = orjson.dumps(instance(function.get("parameters", {"type": "object"}), name)).decode()
    return ChatChoice(index=index, name=name, text=text, function=function.get("name"), called=True)


def _written(body: Mapping[str, object], index: int, name: str, sample: str | None) -> ChatChoice:
    text = _formatted(body.get("response_format"), name) or answer_text(last_text(body.get("messages")), name, sample)
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if isinstance(limit, int) and tokens_of(len(text)) > limit:
        return ChatChoice(index=index, name=name, text=text[: limit * _BYTES_PER_TOKEN], cut=True)
    return ChatChoice(index=index, name=name, text=text)


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


def _required_function(body: Mapping[str, object], required: Collection[str]) -> Mapping[str, object] | None:
    """The function that has to be called; None when the model is free to write text, which it then does."""
    choice, tools = body.get("tool_choice"), body.get("tools")
    functions = [
        function
        for tool in (tools if isinstance(tools, list) else ())
        if isinstance(tool, dict) and isinstance(function := tool.get("function"), dict)
    ]
    if isinstance(choice, str) and choice in required:
        return functions[0] if functions else None
    if isinstance(choice, dict) and isinstance(named := choice.get("function"), dict):
        return next((function for function in functions if function.get("name") == named.get("name")), None)
    return None


def _text(content: object) -> str:
    """A message's content as text: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    parts: Sequence[object] = content if isinstance(content, list) else ()
    return "\n".join(str(part.get("text")) for part in parts if isinstance(part, dict) and part.get("type") == "text")
