"""Whatever `encode` accepts fits the SDK's own types, and the simulator."""

from __future__ import annotations

import orjson
from gemini_lab import MODEL, TOOL
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chat import read_chat
from gateway_gemini.simulated.generate import request_problem
from gateway_gemini.translate import generate_content_request

_TEXT = st.text(min_size=1, max_size=30).filter(str.strip)
_ARGUMENTS = st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers(-9, 9) | st.none(), max_size=3)
_USER = st.builds(lambda text: {"role": "user", "content": text}, _TEXT)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, object]]:
    """Conversations with calls and their results, ending with a user's turn."""
    messages: list[dict[str, object]] = [draw(_USER)]
    for turn in range(draw(st.integers(0, 3))):
        arguments = draw(st.lists(_ARGUMENTS, max_size=3))
        calls = [
            {
                "id": f"c{turn}_{n}",
                "type": "function",
                "function": {"name": "weather", "arguments": orjson.dumps(each).decode()},
            }
            for n, each in enumerate(arguments)
        ]
        text = draw(_TEXT) if not calls or draw(st.booleans()) else None
        messages.append({"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {}))
        messages += [{"role": "tool", "tool_call_id": each["id"], "content": draw(_TEXT)} for each in calls]
        messages.append(draw(_USER))
    return messages


_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "max_tokens": st.integers(1, 1000),
        "stop": st.lists(_TEXT, min_size=1, max_size=4),
        "seed": st.integers(-(1 << 31), (1 << 31) - 1),
        "presence_penalty": st.floats(-2, 1.9),
        "reasoning_effort": st.sampled_from(["low", "medium", "high", "max"]),
        "response_format": st.sampled_from([{"type": "text"}, {"type": "json_object"}]),
        "tool_choice": st.sampled_from(["auto", "none", "required"]),
    },
)


@settings(deadline=None, max_examples=150)
@given(messages=conversations(), fields=_FIELDS)
def test_what_is_accepted_fits_the_sdks_types_and_the_simulator(
    messages: list[dict[str, object]], fields: dict[str, object]
) -> None:
    """Whatever `encode` takes, google-genai's own models take, field by field, and so does the strict simulator."""
    body = {"model": MODEL, "messages": messages, "tools": [TOOL], **fields}
    request = orjson.loads(orjson.dumps(generate_content_request(read_chat(body))))

    contents = [types.Content.model_validate(content) for content in request["contents"]]
    types.GenerationConfig.model_validate(request.get("generationConfig", {}))
    for tool in request["tools"]:
        types.Tool.model_validate(tool)
    types.ToolConfig.model_validate(request.get("toolConfig", {}))
    assert request_problem(request, MODEL) is None
    said = [part.text for content in contents for part in content.parts or () if part.text]
    assert said == [message["content"] for message in messages if message["role"] != "tool" and message["content"]]
