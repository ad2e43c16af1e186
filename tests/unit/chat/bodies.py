"""Bodies of chat requests, ordinary and strange, for the tests of this room."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from gateway.chat import read_chat
from gateway.errors import Unsupported

#: One pixel, and the head of a document: only the alphabet matters here.
PIXEL = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0xLjQ="


def body(*messages: object, **fields: object) -> dict[str, object]:
    """A request with these messages; one of the user's when there are none."""
    return {"model": "m", "messages": list(messages) or [{"role": "user", "content": "hello"}], **fields}


def called(*ids: str, name: str = "look", arguments: str = '{"at": "sea"}') -> dict[str, object]:
    """An assistant's message that calls a function once for each id."""
    function = {"name": name, "arguments": arguments}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": id_, "type": "function", "function": function} for id_ in ids],
    }


def gave(id_: str, content: object = "blue") -> dict[str, object]:
    """A tool's message."""
    return {"role": "tool", "tool_call_id": id_, "content": content}


def tool(name: str = "look", **fields: object) -> dict[str, object]:
    """A function among the tools."""
    return {"type": "function", "function": {"name": name, **fields}}


_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from([10**400, "", "a"])
)
#: Anything JSON can hold.
any_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def _mostly(content: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """`content`, and anything instead in one of ten draws."""
    return st.integers(0, 9).flatmap(lambda die: any_json if die == 9 else content)


def _some(whole: dict[str, object]) -> st.SearchStrategy[object]:
    """`whole`, or without some of its fields."""
    without = st.sets(st.sampled_from(sorted(whole)), max_size=2)
    return without.map(lambda names: {name: content for name, content in whole.items() if name not in names})


def _object(**fields: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """An object with some of these fields, each as it should be or as anything."""
    return st.fixed_dictionaries({name: _mostly(content) for name, content in fields.items()}).flatmap(_some)


_words = st.sampled_from(["text", "hello", ""])
_breakpoint = st.just({"mode": "explicit"})
_part = (
    _object(type=st.just("text"), text=_words, prompt_cache_breakpoint=_breakpoint)
    | _object(type=st.just("refusal"), refusal=_words)
    | _object(
        type=st.just("image_url"),
        image_url=_object(url=st.sampled_from([PIXEL, "https://x/y", PDF, "data:,"]), detail=st.just("low")),
    )
    | _object(type=st.just("input_audio"), input_audio=_object(data=st.just("AAAA"), format=st.just("mp3")))
    | _object(
        type=st.just("file"), file=_object(file_data=st.just(PDF), file_id=st.just("file-1"), filename=st.just("a.pdf"))
    )
)
_content = _words | st.lists(_part, max_size=3)
_arguments = st.sampled_from(["{}", '{"a":1}', "[]", "{", "", '{"a":123456789012345678901234567890}', "[" * 9999])
_name = st.sampled_from(["look", "go"])
_id = st.sampled_from(["c1", "c2", "c1__bw1_", "c2__bw1_AAAA"])
_function = _object(name=_name, arguments=_arguments)
_call = _object(id=_id, type=st.just("function"), function=_function, custom=st.just({"name": "x", "input": ""}))
_message = (
    _object(role=st.sampled_from(["system", "developer", "user"]), content=_content, name=_name)
    | _object(
        role=st.just("assistant"),
        content=_content,
        refusal=_words,
        tool_calls=st.lists(_call, max_size=2),
        function_call=_function,
        audio=st.just({"id": "a"}),
    )
    | _object(role=st.just("tool"), content=_content, tool_call_id=_id)
    | _object(role=st.just("function"), content=_content, name=_name)
)
_definition = _object(name=_name, description=_words, parameters=st.just({"type": "object"}), strict=st.booleans())
_tool = _object(type=st.sampled_from(["function", "custom"]), function=_definition)
_chosen = _object(type=st.just("function"), function=_object(name=_name))
_choice = (
    st.sampled_from(["none", "auto", "required"])
    | _chosen
    | _object(
        type=st.just("allowed_tools"),
        allowed_tools=_object(mode=st.just("auto"), tools=st.lists(_chosen, max_size=2)),
    )
)
_schema = _object(name=_name, schema=st.just({"type": "object"}), strict=st.booleans(), description=_words)
#: Every field, as it should be.
_FIELDS: dict[str, st.SearchStrategy[object]] = dict(  # noqa: C408 - reads as a body is written
    model=st.just("m"),
    messages=st.lists(_message, max_size=5),
    tools=st.lists(_tool, max_size=2),
    tool_choice=_choice,
    functions=st.lists(_definition, max_size=2),
    function_call=st.sampled_from(["none", "auto"]) | _object(name=_name),
    response_format=_object(type=st.sampled_from(["text", "json_object", "json_schema"]), json_schema=_schema),
    stop=_words | st.lists(_words, max_size=5),
    max_tokens=st.integers(0, 9),
    max_completion_tokens=st.integers(0, 9),
    temperature=st.floats(-1, 3),
    top_p=st.floats(0, 1),
    top_k=st.integers(0, 9),
    n=st.integers(0, 3),
    seed=st.integers(),
    presence_penalty=st.floats(-3, 3),
    frequency_penalty=st.floats(-3, 3),
    logit_bias=st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
    logprobs=st.booleans(),
    top_logprobs=st.integers(0, 30),
    reasoning_effort=st.sampled_from(["low", "max"]),
    user=_words,
    safety_identifier=_words,
    modalities=st.lists(st.sampled_from(["text", "audio"]), max_size=2),
    service_tier=st.sampled_from(["auto", "priority"]),
    store=st.booleans(),
    prediction=_object(type=st.just("content"), content=_words),
    verbosity=st.just("low"),
    parallel_tool_calls=st.booleans(),
)


@st.composite
def strange_bodies(draw: st.DrawFn) -> dict[str, object]:
    """A request that is nearly right: up to four fields are drawn, mostly as they should be, now and then as anything."""
    names = draw(st.lists(st.sampled_from([*_FIELDS, "strange"]), max_size=4, unique=True))
    return body(**{name: draw(_mostly(_FIELDS.get(name, any_json))) for name in names})


def refused(request: dict[str, object]) -> str:
    """The place in `request` that is refused."""
    with pytest.raises(Unsupported) as caught:
        read_chat(request)
    assert caught.value.reason
    return caught.value.field
