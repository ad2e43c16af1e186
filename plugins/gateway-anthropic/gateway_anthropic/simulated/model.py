"""What the simulated model answers: a Message that is a pure function of the params (and of the line, if sampled)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from gateway.sandbox import Directive, Outcome, answer_text, body_hash, instance, sampled, tokens_of, unique_digits
from gateway_anthropic.simulated.signing import redacted, thought

#: The provider's own word for trying out thoughts that are not shown.
REDACT = "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING"
_REFUSAL = "The sandbox was told to decline."
_BYTES_PER_TOKEN = 4

Block = dict[str, object]


@dataclass(slots=True, kw_only=True)
class _Answer:
    """An answer in the making."""

    blocks: list[Block] = field(default_factory=list)
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None
    details: Block | None = None
    thinking_tokens: int = 0


def answer(params: Mapping[str, object], line_id: str, told: Directive | None = None, *, batched: bool) -> Outcome:
    """The Message for params that nothing is wrong with."""
    name = body_hash(params)
    made = _Answer()
    if told is not None and told.word == "refusal":
        made.stop_reason = "refusal"
        made.details = {"type": "refusal", "category": None, "explanation": _REFUSAL}
    else:
        _speak(made, params, name, line_id if sampled(params) else None)
    asked = tokens_of(len(orjson.dumps([params.get("system"), params.get("messages")])))
    answered = max(1, len(orjson.dumps(made.blocks)) // _BYTES_PER_TOKEN)
    message: Block = {
        "id": f"msg_{unique_digits(name, line_id, 12)}",
        "type": "message",
        "role": "assistant",
        "model": params.get("model"),
        "content": made.blocks,
        "stop_reason": made.stop_reason,
        "stop_sequence": made.stop_sequence,
        "stop_details": made.details,
        "usage": {
            "input_tokens": asked,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": answered,
            "output_tokens_details": {"thinking_tokens": min(made.thinking_tokens, answered)},
            "service_tier": "batch" if batched else "standard",
        },
    }
    return Outcome(status=200, body=message, input_tokens=asked, output_tokens=answered)


def _speak(made: _Answer, params: Mapping[str, object], name: str, sample: str | None) -> None:
    """Thoughts if wanted, then a call or an answer; thoughts stand before words and before calls."""
    prompt = last_text(params.get("messages"))
    config = params.get("thinking")
    thinks = isinstance(config, dict) and config.get("type") in ("adaptive", "enabled")
    if thinks:
        _think(made, params, f"First thoughts #{name}", secret=REDACT in prompt)
    tool = _tool(params, prompt)
    if tool is None:
        _write(made, params, prompt, name, sample)
        return
    if thinks:
        made.blocks.append({"type": "text", "text": f"I shall call {tool.get('name')}."})
        _think(made, params, f"Second thoughts #{name}", secret=False)
    content = instance(tool.get("input_schema", {"type": "object"}), name)
    call = {"type": "tool_use", "id": f"toolu_{name}", "name": tool.get("name"), "input": content}
    made.blocks.append(call)
    made.stop_reason = "tool_use"


def _think(made: _Answer, params: Mapping[str, object], text: str, *, secret: bool) -> None:
    config = params.get("thinking")
    shown = "" if isinstance(config, dict) and config.get("display") == "omitted" else text
    make = redacted(text, params, made.blocks) if secret else thought(text, shown, params, made.blocks)
    made.blocks.append(make)
    made.thinking_tokens += tokens_of(len(text))


def _write(made: _Answer, params: Mapping[str, object], prompt: str, name: str, sample: str | None) -> None:
    text = _formatted(params.get("output_config"), name) or answer_text(prompt, name, sample)
    stops = params.get("stop_sequences")
    for stop in stops if isinstance(stops, list) else ():
        before, found, _ = text.partition(str(stop))
        if found:
            text, made.stop_reason, made.stop_sequence = before, "stop_sequence", str(stop)
    limit = params.get("max_tokens")
    if isinstance(limit, int) and len(text) > limit * _BYTES_PER_TOKEN:
        text, made.stop_reason, made.stop_sequence = text[: limit * _BYTES_PER_TOKEN], "max_tokens", None
    if text:
        made.blocks.append({"type": "text", "text": text})


def _formatted(config: object, name: str) -> str | None:
    wanted = config.get("format") if isinstance(config, dict) else None
    if not isinstance(wanted, dict):
        return None
    return orjson.dumps(instance(wanted.get("schema", {}), name)).decode()


def _tool(params: Mapping[str, object], prompt: str) -> Mapping[str, object] | None:
    """The function that is called: one that has to be, or one whose name the last words of the user contain."""
    offered = params.get("tools")
    tools: Sequence[Mapping[str, object]] = offered if isinstance(offered, list) else ()
    wanted = params.get("tool_choice")
    choice: Mapping[str, object] = wanted if isinstance(wanted, dict) else {"type": "auto"}
    match choice.get("type"):
        case "any":
            return tools[0] if tools else None
        case "tool":
            return next((tool for tool in tools if tool.get("name") == choice.get("name")), None)
        case "auto":
            words = set(re.findall(r"[a-zA-Z0-9_-]+", prompt)) if _asks(params.get("messages")) else set()
            return next((tool for tool in tools if tool.get("name") in words), None)
    return None


def last_text(messages: object) -> str:
    """The words of the last user message that has some, results of functions among them."""
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            text = _text(message.get("content"))
            if text:
                return text
    return ""


def _asks(messages: object) -> bool:
    """Whether the last message has words of the user, not results of functions only."""
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) else None
    if isinstance(content, list):
        return any(isinstance(block, dict) and block.get("type") == "text" for block in content)
    return isinstance(content, str)


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    blocks = [block for block in (content if isinstance(content, list) else ()) if isinstance(block, dict)]
    texts = [str(block.get("text")) for block in blocks if block.get("type") == "text"]
    results = [_text(block.get("content")) for block in blocks if block.get("type") == "tool_result"]
    return "\n".join(texts or results)
