"""A whole completion told again as the stream a client asked for. Pure.

Source of the shapes: OpenAI's chat.completion.chunk as openai-python 3.54 parses it; what real clients bear was
measured (heartbeats must be data chunks with one choice, one id and one model throughout).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.rows import write_json

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
        return b"data: %b\n\n" % write_json(event)

    def replay(self, completion: Mapping[str, object]) -> Iterator[bytes]:
        """The events after the opening: every choice's content, refusal, tool calls and end, then usage, then the end mark."""
        for index, choice in _in_order(completion.get("choices")):
            yield from self._choice(index, choice)
        usage = completion.get("usage")
        if self.usage and usage is not None:
            yield self._event([], usage)
        yield DONE

    def _choice(self, index: int, choice: Mapping[str, object]) -> Iterator[bytes]:
        message = choice.get("message")
        message = message if isinstance(message, dict) else {}
        if index:
            yield self.chunk({"role": "assistant", "content": ""}, index)
        logprobs = choice.get("logprobs")
        deltas = _deltas(message)
        if logprobs is not None and not deltas:
            deltas = [{"content": ""}]
        for delta in deltas:
            yield self._event(
                [{"index": index, "delta": delta, "finish_reason": None}]
                if logprobs is None
                else [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}]
            )
            logprobs = None
        yield self.chunk({}, index, choice.get("finish_reason") or "stop")


def _in_order(choices: object) -> list[tuple[int, Mapping[str, object]]]:
    """The choices by index: openai's own reader of streams wants the lower ones first."""
    found = []
    for place, choice in enumerate(choices if isinstance(choices, list) else ()):
        if isinstance(choice, dict):
            index = choice.get("index")
            found.append((index if isinstance(index, int) else place, choice))
    return sorted(found, key=lambda each: each[0])


def _deltas(message: Mapping[str, object]) -> list[dict[str, object]]:
    """The parts of a message, in the order a model would have sent them."""
    deltas: list[dict[str, object]] = []
    rest = {name: value for name, value in message.items() if name not in _OWN and value is not None}
    if rest:
        deltas.append(rest)
    deltas += [{name: message[name]} for name in ("content", "refusal") if message.get(name)]
    calls = message.get("tool_calls")
    for index, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, dict):
            # Some providers number every call 0, which readers would take for pieces of one.
            deltas.append({"tool_calls": [{**call, "index": index}]})
    return deltas


def error_event(body: bytes) -> bytes:
    """An OpenAI error object in a stream: all SDKs raise it with its message."""
    return b"data: %b\n\n" % body
