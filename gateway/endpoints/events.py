"""A whole completion told again as the stream a client asked for. Pure.

Source of the shapes: OpenAI's chat.completion.chunk as openai-python 3.54 parses it; what real clients bear was measured
(heartbeats must be data chunks with one choice, one id and one model throughout).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

DONE = b"data: [DONE]\n\n"
#: Parts of a message that are no delta, or get one of their own.
_OWN = frozenset({"role", "content", "refusal", "tool_calls"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """What all chunks of one stream share."""

    id: str
    model: str
    created: int
    #: `stream_options.include_usage`.
    usage: bool = False

    def chunk(self, delta: Mapping[str, object], index: int = 0, finish_reason: object = None) -> bytes:
        """One event with one choice."""
        return self._event([{"index": index, "delta": delta, "finish_reason": finish_reason}])

    def opening(self) -> bytes:
        """The first event: who speaks."""
        return self.chunk({"role": "assistant", "content": ""})

    def beat(self) -> bytes:
        """A sign of life every client takes for a chunk."""
        return self.chunk({"content": ""})

    def _event(self, choices: Sequence[object], usage: object = None) -> bytes:
        event = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        if usage is not None:
            event["usage"] = usage
        return b"data: %b\n\n" % orjson.dumps(event)

    def replay(self, completion: Mapping[str, object]) -> Iterator[bytes]:
        """The events after the opening: every choice's content, refusal, tool calls and end, then usage, then the end mark."""
        choices = completion.get("choices")
        for place, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                yield from self._choice(place, choice)
        usage = completion.get("usage")
        if self.usage and usage is not None:
            yield self._event([], usage)
        yield DONE

    def _choice(self, place: int, choice: Mapping[str, object]) -> Iterator[bytes]:
        index = choice.get("index")
        index = index if isinstance(index, int) else place
        message = choice.get("message")
        message = message if isinstance(message, dict) else {}
        if index:
            yield self.chunk({"role": "assistant", "content": ""}, index)
        logprobs = choice.get("logprobs")
        for delta in _deltas(message):
            yield self._event(
                [{"index": index, "delta": delta, "finish_reason": None}]
                if logprobs is None
                else [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}]
            )
            logprobs = None
        yield self.chunk({}, index, choice.get("finish_reason") or "stop")


def _deltas(message: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """The parts of a message, in the order a model would have sent them."""
    rest = {name: value for name, value in message.items() if name not in _OWN and value is not None}
    if rest:
        yield rest
    for name in ("content", "refusal"):
        if message.get(name):
            yield {name: message[name]}
    calls = message.get("tool_calls")
    for index, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, dict):
            yield {"tool_calls": [{"index": index, **call}]}


def error_event(body: bytes) -> bytes:
    """An OpenAI error object in a stream: all SDKs raise it with its message."""
    return b"data: %b\n\n" % body
