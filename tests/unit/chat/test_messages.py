"""The conversation: who says what, which call each result answers, and which media come along."""

from __future__ import annotations

import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import chat as sdk

from gateway.chat import (
    AssistantTurn,
    ChatRequest,
    Link,
    Media,
    Part,
    SystemTurn,
    Text,
    ToolCall,
    ToolResult,
    ToolTurn,
    UserTurn,
    carry,
    read_chat,
)
from gateway.errors import Unsupported
from tests.unit.chat.bodies import PDF, PIXEL, body, called, gave, refused, tool


def user(content: object = "hello") -> dict[str, object]:
    """A user's message."""
    return {"role": "user", "content": content}


def assistant(**fields: object) -> dict[str, object]:
    """An assistant's message."""
    return {"role": "assistant", **fields}


def read(*messages: object) -> ChatRequest:
    """These messages, read."""
    return read_chat(body(*messages))


def part(content: object) -> Part:
    """The one part of a user's message."""
    [turn] = read(user([content])).turns
    assert isinstance(turn, UserTurn)
    [only] = turn.parts
    return only


def image(url: object, **fields: object) -> dict[str, object]:
    """An image."""
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def file(**fields: object) -> dict[str, object]:
    """A file."""
    return {"type": "file", "file": fields}


def sound(form: object = "mp3", content: object = "AAAA") -> dict[str, object]:
    """A sound."""
    return {"type": "input_audio", "input_audio": {"data": content, "format": form}}


def test_leading_instructions_are_hoisted_and_later_ones_stay() -> None:
    """System and developer are one; what comes after the conversation began keeps its place, for the plugin to decide."""
    request = read(
        {"role": "system", "content": "be kind"},
        {"role": "developer", "content": [{"type": "text", "text": "be"}, {"type": "text", "text": "brief"}]},
        user(),
        {"role": "developer", "content": "and quick"},
    )
    assert request.system == (Text(text="be kind"), Text(text="be"), Text(text="brief"))
    assert request.turns[1:] == (SystemTurn(texts=(Text(text="and quick"),), field="messages[3]"),)


@pytest.mark.parametrize("nothing", ["", [], [{"type": "text", "text": ""}]])
def test_what_says_nothing_is_left_out(nothing: object) -> None:
    """Empty texts, which providers refuse, vanish, and messages of nothing else with them."""
    request = read({"role": "system", "content": nothing}, user(nothing), user(), assistant(content=nothing))
    assert request.system == ()
    assert request.turns == (UserTurn(parts=(Text(text="hello"),), field="messages[2]"),)
    assert refused(body(user(nothing))) == "messages"


def test_refusals_count_as_what_the_model_said() -> None:
    """A refusal, in a part or beside the content, is text, after the content."""
    request = read(
        user(),
        assistant(content=[{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}], refusal="c"),
        assistant(content=None, refusal="d"),
    )
    texts = [[text.text for text in turn.texts] for turn in request.turns if isinstance(turn, AssistantTurn)]
    assert texts == [["a", "b", "c"], ["d"]]


def test_an_answer_may_be_sent_back_as_it_came() -> None:
    """Clients append the SDK's message as it is, nulls and extensions among it; nothing of that is refused."""
    message = sdk.ChatCompletionMessage.model_validate(
        {
            "role": "assistant",
            "content": None,
            "annotations": [],
            "reasoning_content": "thought",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}],
        }
    )
    request = read(user(), message.model_dump(), gave("c1"))
    assert request.hints == ("messages[1].reasoning_content",)
    call = ToolCall(id="c1", name="look", arguments={}, field="messages[1].tool_calls[0]")
    assert request.turns[1] == AssistantTurn(tool_calls=(call,), field="messages[1]")


def test_an_answer_in_two_messages_is_one_turn() -> None:
    """Some clients keep words and calls apart; the thoughts of the turn belong before both."""
    request = read(user(), assistant(content="a"), called("c1"), gave("c1"))
    call = ToolCall(id="c1", name="look", arguments={"at": "sea"}, field="messages[2].tool_calls[0]")

    assert request.turns[1] == AssistantTurn(texts=(Text(text="a"),), tool_calls=(call,), field="messages[2]")


def test_results_that_follow_each_other_share_a_turn() -> None:
    """Providers want the results of one turn's calls together; each has the name of its function."""
    request = read(user(), called("c1", "c2"), gave("c2", ""), gave("c1", [{"type": "text", "text": "sea"}]), user())
    assert request.turns[2] == ToolTurn(
        results=(
            ToolResult(id="c2", name="look", parts=(), field="messages[2]"),
            ToolResult(id="c1", name="look", parts=(Text(text="sea"),), field="messages[3]"),
        ),
        field="messages[2]",
    )


def test_what_an_id_carries_comes_with_the_call() -> None:
    """Plugins see the provider's own ids, and what they had packed into them."""
    id_ = carry("c1", {"owner": {"signature": "x"}})
    turns = read(user(), called(id_), gave(id_)).turns
    assert isinstance(turns[1], AssistantTurn)
    assert isinstance(turns[2], ToolTurn)
    assert turns[1].tool_calls[0].id == turns[2].results[0].id == "c1"
    assert turns[1].tool_calls[0].carried == {"owner": {"signature": "x"}}


def test_results_find_their_calls_when_ids_were_cut() -> None:
    """A client that shortens ids loses what they carried, not its conversation."""
    id_ = carry("c1", {"owner": {"signature": "x"}})[:-3]
    turns = read(user(), called(id_), gave(id_)).turns
    assert isinstance(turns[1], AssistantTurn)
    assert turns[1].tool_calls[0].carried is None


def test_the_same_id_may_be_used_in_another_turn() -> None:
    """Some providers number the calls of each turn from zero."""
    turns = read(user(), called("c"), gave("c", "1"), called("c", name="go"), gave("c", "2")).turns
    names = [turn.results[0].name for turn in turns if isinstance(turn, ToolTurn)]
    assert names == ["look", "go"]


def test_a_conversation_may_end_with_calls() -> None:
    """Whether a model may go on from its own calls is for the plugin to know."""
    assert isinstance(read(user(), called("c")).turns[-1], AssistantTurn)


def test_the_old_form_of_calls_becomes_the_new() -> None:
    """`function_call` and the role `function` are a call and its result, tied by an id made of their place."""
    request = read(
        user(),
        assistant(content=None, function_call={"name": "look", "arguments": "{}"}),
        {"role": "function", "name": "look", "content": "blue"},
        assistant(content="so", function_call={"name": "look", "arguments": '{"a":1}'}),
        {"role": "function", "name": "look", "content": None},
    )
    calls = [turn.tool_calls[0] for turn in request.turns if isinstance(turn, AssistantTurn)]
    results = [turn.results[0] for turn in request.turns if isinstance(turn, ToolTurn)]
    assert [call.id for call in calls] == [result.id for result in results]
    assert calls[0].id != calls[1].id
    assert calls[1].arguments == {"a": 1}
    assert [result.parts for result in results] == [(Text(text="blue"),), ()]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"type": "text", "text": " "}, Text(text=" ")),
        (image(PIXEL), Media(media_type="image/png", content="iVBORw0KGgo=", field="messages[0].content[0].image_url")),
        (
            image("DATA:Image/JPEG;name=x;BASE64,AAAA"),
            Media(media_type="image/jpeg", content="AAAA", field="messages[0].content[0].image_url"),
        ),
        (
            image("data:image/jpg;base64,AAAA"),
            Media(media_type="image/jpeg", content="AAAA", field="messages[0].content[0].image_url"),
        ),
        (image("HTTPS://x/y"), Link(url="HTTPS://x/y", field="messages[0].content[0].image_url")),
        (sound(), Media(media_type="audio/mpeg", content="AAAA", field="messages[0].content[0].input_audio")),
        (sound("wav"), Media(media_type="audio/wav", content="AAAA", field="messages[0].content[0].input_audio")),
        (
            file(file_data=PDF, filename="a.pdf"),
            Media(
                media_type="application/pdf",
                content="JVBERi0xLjQ=",
                filename="a.pdf",
                field="messages[0].content[0].file",
            ),
        ),
        (
            file(file_data="data:text/plain;charset=utf-8;base64,aGk="),
            Media(media_type="text/plain", content="aGk=", field="messages[0].content[0].file"),
        ),
    ],
)
def test_media_come_with_their_type(content: object, found: Part) -> None:
    """Images, sounds and files are bytes of a type, or a link, and know where they stood."""
    assert part(content) == found


_PLACE = "messages[0].content[0]"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (7, ""),
        ({}, ".type"),
        ({"type": "video"}, ".type"),
        ({"type": "refusal", "refusal": "no"}, ".type"),
        ({"type": "text"}, ".text"),
        ({"type": "text", "text": 1}, ".text"),
        ({"type": "text", "text": "a", "strange": 1}, ".strange"),
        ({"type": "image_url", "image_url": "https://x/y"}, ".image_url"),
        ({"type": "image_url"}, ".image_url"),
        (image(""), ".image_url.url"),
        (image("ftp://x/y"), ".image_url.url"),
        (image("data:image/png,abc"), ".image_url.url"),
        (image("data:;base64,AAAA"), ".image_url.url"),
        (image("data:image/png;base64,"), ".image_url.url"),
        (image("data:image/png;base64,AAA"), ".image_url.url"),
        (image("data:image/png;base64,AA-_"), ".image_url.url"),
        (image("data:image/png;base64,AA\nAA"), ".image_url.url"),
        (image("data:image/png;base64,AAAé"), ".image_url.url"),
        (image(PDF), ".image_url.url"),
        (image(PIXEL, detail="huge"), ".image_url.detail"),
        (image(PIXEL, strange=1), ".image_url.strange"),
        (sound("ogg"), ".input_audio.format"),
        (sound(None), ".input_audio.format"),
        (sound("wav", ""), ".input_audio.data"),
        (sound("wav", "!"), ".input_audio.data"),
        (file(file_id="file-1"), ".file.file_id"),
        (file(), ".file.file_data"),
        (file(file_data="JVBERi0xLjQ="), ".file.file_data"),
        (file(file_data=PDF, filename=1), ".file.filename"),
    ],
)
def test_what_cannot_be_sent_is_refused_where_it_stands(content: object, place: str) -> None:
    """A refusal inside a message names message, part and field."""
    assert refused(body(user([content]))) == _PLACE + place


@pytest.mark.parametrize("role", ["system", "developer", "assistant", "tool"])
def test_only_users_send_media(role: str) -> None:
    """An image in anybody else's message has no counterpart."""
    before = [user(), called("c")] if role == "tool" else [user()]
    message = {"role": role, "content": [image(PIXEL)], **({"tool_call_id": "c"} if role == "tool" else {})}
    assert refused(body(*before, message)) == f"messages[{len(before)}].content[0].type"


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([{"role": "system", "content": "only"}], "messages"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "robot", "content": "x"}], "messages[0].role"),
        ([{"role": ["user"], "content": "x"}], "messages[0].role"),
        ([user(None)], "messages[0].content"),
        ([user(5)], "messages[0].content"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "system"}], "messages[0].content"),
        ([user() | {"strange": 1}], "messages[0].strange"),
        ([user(), assistant(audio={"id": "a"})], "messages[1].audio"),
        ([user(), assistant(content="x", strange=1)], "messages[1].strange"),
        ([user(), assistant(tool_calls={})], "messages[1].tool_calls"),
        ([user(), assistant(tool_calls=["c"])], "messages[1].tool_calls[0]"),
        ([user(), assistant(tool_calls=[{"id": "c"}])], "messages[1].tool_calls[0].function"),
        ([user(), called("")], "messages[1].tool_calls[0].id"),
        ([user(), called("c", "c")], "messages[1].tool_calls[1].id"),
        ([user(), called("c", name="")], "messages[1].tool_calls[0].function.name"),
        ([user(), called("c", arguments="[1]")], "messages[1].tool_calls[0].function.arguments"),
        ([user(), called("c", arguments='"x"')], "messages[1].tool_calls[0].function.arguments"),
        ([user(), called("c", arguments="{")], "messages[1].tool_calls[0].function.arguments"),
        ([user(), called("c", arguments='{"a":NaN}')], "messages[1].tool_calls[0].function.arguments"),
        ([user(), called("c", arguments='{"a":%s}' % ("9" * 30))], "messages[1].tool_calls[0].function.arguments"),
        ([user(), called("c", arguments='{"a":%s}' % ("[" * 9999))], "messages[1].tool_calls[0].function.arguments"),
        (
            [user(), assistant(tool_calls=[{"id": "c", "type": "custom", "custom": {"name": "x", "input": ""}}])],
            "messages[1].tool_calls[0].type",
        ),
        ([user(), gave("c")], "messages[1].tool_call_id"),
        ([user(), called("c"), gave("d")], "messages[2].tool_call_id"),
        ([user(), called("c"), gave("c"), gave("c")], "messages[3].tool_call_id"),
        ([user(), called("c"), gave("c"), user(), gave("c")], "messages[4].tool_call_id"),
        ([user(), called("c"), {"role": "tool", "content": "x"}], "messages[2].tool_call_id"),
        ([user(), called("c"), {"role": "tool", "tool_call_id": "c"}], "messages[2].content"),
        ([user(), called("c"), user()], "messages[1].tool_calls[0]"),
        ([user(), called("c", "d"), gave("c"), user()], "messages[1].tool_calls[1]"),
        ([user(), called("c", "d"), gave("c")], "messages[1].tool_calls[1]"),
        ([user(), called("c"), {"role": "system", "content": "x"}, gave("c")], "messages[1].tool_calls[0]"),
        ([user(), {"role": "function", "name": "look", "content": "x"}], "messages[1].name"),
        (
            [user(), called("c") | {"function_call": {"name": "look", "arguments": "{}"}}],
            "messages[1].function_call",
        ),
    ],
)
def test_conversations_that_do_not_hold_together_are_refused(messages: list[object], place: str) -> None:
    """Every call has its result right after it and every result its call, or the place of the broken one is named."""
    assert refused(body(*messages)) == place


def test_hints_in_messages_are_named_by_their_place() -> None:
    """Names, image details and cache marks are read over, and said so."""
    mark = {"mode": "explicit"}
    request = read(
        {"role": "system", "content": [{"type": "text", "text": "x", "prompt_cache_breakpoint": mark}], "name": "s"},
        {**user([image(PIXEL, detail="low"), image(PIXEL, detail="auto")]), "name": "joe"},
    )
    assert set(request.hints) == {
        "messages[0].name",
        "messages[0].content[0].prompt_cache_breakpoint",
        "messages[1].name",
        "messages[1].content[0].image_url.detail",
    }


def test_marks_of_caches_are_read_over_wherever_libraries_put_them() -> None:
    """LiteLLM and others send `cache_control` to every provider, in parts, messages and tools; its loss changes no meaning."""
    mark = {"cache_control": {"type": "ephemeral"}}
    part = {"type": "text", "text": "x", **mark}
    messages = [{"role": "system", "content": [part]}, {**user(), **mark}, called("c1") | mark, gave("c1") | mark]
    request = read_chat(body(*messages, tools=[tool() | mark, tool("go", **mark)]))

    assert {hint.removesuffix(".cache_control") for hint in request.hints} == {
        *("messages[0].content[0]", "messages[1]", "messages[2]", "messages[3]", "tools[0]", "tools[1].function"),
    }


@pytest.mark.parametrize("field", ["reasoning", "reasoning_details", "thinking_blocks", "provider_specific_fields"])
def test_thoughts_in_other_words_are_read_over(field: str) -> None:
    """A conversation that began at Groq, Together or behind LiteLLM goes on elsewhere."""
    request = read(user(), {**assistant(content="x"), field: [{"text": "hm"}]}, user())

    assert request.hints == (f"messages[1].{field}",)


_SHAPES = [
    (sdk.ChatCompletionSystemMessageParam, "messages[1]", {"role": "system", "content": "x"}),
    (sdk.ChatCompletionDeveloperMessageParam, "messages[1]", {"role": "developer", "content": "x"}),
    (sdk.ChatCompletionUserMessageParam, "messages[1]", user()),
    (sdk.ChatCompletionAssistantMessageParam, "messages[1]", assistant(content="x")),
    (sdk.ChatCompletionContentPartTextParam, "messages[1].content[0]", {"type": "text", "text": "x"}),
    (sdk.ChatCompletionContentPartImageParam, "messages[1].content[0]", image(PIXEL)),
    (sdk.ChatCompletionContentPartInputAudioParam, "messages[1].content[0]", sound()),
    (sdk.chat_completion_content_part_param.File, "messages[1].content[0]", file(file_data=PDF)),
]


@pytest.mark.parametrize(
    ("place", "content", "name"),
    [(place, content, name) for shape, place, content in _SHAPES for name in typing.get_type_hints(shape)],
)
def test_every_field_of_openais_messages_is_known(place: str, content: dict[str, object], name: str) -> None:
    """A field that a new SDK brings to messages or parts is decided on, not refused as unknown by accident."""
    strange = content | {name: {"strange": 1}}
    unknown = ""
    try:
        read(user(), user([strange]) if place.endswith("content[0]") else strange)
    except Unsupported as refusal:
        if "is not a field" in refusal.reason:
            unknown = refusal.field
    assert unknown != f"{place}.{name}", f"decide what becomes of {unknown}"


_TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), _TEXTS), min_size=1, max_size=6))
def test_every_word_arrives_in_order(said: list[tuple[str, str]]) -> None:
    """Texts are neither changed nor joined, whoever speaks twice."""
    turns = read(*[{"role": role, "content": text} for role, text in said]).turns
    found = []
    for turn in turns:
        if isinstance(turn, UserTurn):
            found.append(("user", "".join(part.text for part in turn.parts if isinstance(part, Text))))
        elif isinstance(turn, AssistantTurn):
            found.append(("assistant", "".join(text.text for text in turn.texts)))
    assert found == said
