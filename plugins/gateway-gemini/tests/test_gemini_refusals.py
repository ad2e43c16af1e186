"""What Gemini has no words for: refused by its field, or left out by its name, before anything is paid."""

from __future__ import annotations

import pytest
from gemini_lab import ASKED, CALL, CHAT, MODEL, PIXEL, TOOL, call, chat, request_in

from gateway import Call, Unsupported
from gateway_gemini.dialect import Dialect
from gateway_gemini.encode import dropped, encode_line


def _user(part: dict[str, object]) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": [part]}]}


_REFUSED: list[tuple[str, dict[str, object]]] = [
    ("n", {"n": 2}),
    ("logit_bias", {"logit_bias": {"1": 2}}),
    ("parallel_tool_calls", {"tools": [TOOL], "parallel_tool_calls": False}),
    ("web_search_options", {"web_search_options": {}}),
    ("moderation", {"moderation": True}),
    ("service_tier", {"service_tier": "priority"}),
    ("service_tier", {"service_tier": "scale"}),
    ("audio", {"audio": {"voice": "a", "format": "wav"}}),
    ("modalities", {"modalities": ["text", "audio"]}),
    ("strange", {"strange": 1}),
    ("seed", {"seed": 1 << 40}),
    ("presence_penalty", {"presence_penalty": 2}),
    ("max_tokens", {"max_tokens": 0}),
    ("tools[0].type", {"tools": [{"type": "custom", "custom": {"name": "x"}}]}),
    ("tools[0].function.name", {"tools": [{"type": "function", "function": {"name": "1st"}}]}),
    (
        "messages[0].content[0].image_url",
        _user({"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}),
    ),
    (
        "messages[0].content[0].image_url",
        _user({"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{PIXEL}"}}),
    ),
    ("messages[0].content[0].file.file_id", _user({"type": "file", "file": {"file_id": "file-1"}})),
    (
        "messages[1].tool_calls[0].function.arguments",
        {
            "messages": [
                ASKED[0],
                {
                    "role": "assistant",
                    "tool_calls": [{**CALL, "function": {"name": "weather", "arguments": "not json"}}],
                },
                ASKED[2],
            ]
        },
    ),
    ("messages[1]", {"messages": [ASKED[0], {"role": "assistant", "content": "prefilled"}]}),
    ("messages[3]", {"messages": [*ASKED, {"role": "system", "content": "late"}]}),
]


@pytest.mark.parametrize(("field", "changes"), _REFUSED, ids=[f"{n}-{field}" for n, (field, _) in enumerate(_REFUSED)])
def test_what_gemini_cannot_say_is_refused_by_its_field(field: str, changes: dict[str, object]) -> None:
    """Nothing that the provider would refuse hours later is accepted; the refusal names what is in the way."""
    with pytest.raises(Unsupported) as caught:
        encode_line(call(chat() | changes), Dialect())

    assert caught.value.field == field
    assert caught.value.reason


def test_json_beside_tools_is_refused_where_it_does_not_work() -> None:
    """Generations before the third take JSON output only without functions."""
    body = chat(tools=[TOOL], response_format={"type": "json_object"})
    with pytest.raises(Unsupported) as caught:
        request_in(body | {"model": "gemini-2.5-flash"})

    assert caught.value.field == "response_format"
    assert request_in(body)["generationConfig"] == {"responseMimeType": "application/json"}


def test_hints_are_dropped_by_name() -> None:
    """What goes without being refused is told by its dotted name."""
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}  # type: ignore[dict-item]
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "description": "d"}}
    body = chat(user="u", verbosity="low", tools=[strict], response_format=wanted)

    names = {"user", "verbosity", "tools[0].function.strict", "response_format.json_schema.description"}
    assert set(dropped(call(body))) == names
    assert list(dropped(call(chat()))) == []


def test_what_json_cannot_hold_is_refused() -> None:
    """A schema may name a number beyond 64 bits; that is the caller's to mend, and no bug here."""
    schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 2**70}}}
    with pytest.raises(Unsupported, match="JSON"):
        encode_line(
            call(chat(tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}])), Dialect()
        )


def test_only_chat_and_embeddings_are_served() -> None:
    """An endpoint that the batches do not have is refused."""
    with pytest.raises(Unsupported):
        encode_line(Call(endpoint="/v1/responses", model="x", body=chat()), Dialect())
    assert encode_line(Call(endpoint=CHAT, model=MODEL, body=chat()), Dialect())
