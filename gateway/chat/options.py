"""The fields beside messages and tools: sampling, limits, formats, and what is refused or read over. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.chat.fields import Fields, shown
from gateway.chat.records import Effort, JsonObject, JsonSchema

#: Most answers to one question, and most stop sequences, that OpenAI takes itself.
MOST_ANSWERS = 128
_MOST_STOPS = 4
_MOST_RIVALS = 20

#: What is ours to deal with, or whose loss nobody notices: never looked at here.
IGNORED = frozenset({"stream", "stream_options", "metadata", "cache"})
#: Hints, with the type that they must have.
HINTS: Mapping[str, type] = MappingProxyType(
    {
        "prediction": Mapping,
        "prompt_cache_key": str,
        "prompt_cache_options": Mapping,
        "prompt_cache_retention": str,
        "verbosity": str,
    }
)
#: What no translation can say, with what to do instead.
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "audio": "answers cannot be spoken in a translated batch; leave it out, or use a model of OpenAI's",
        "moderation": "only OpenAI moderates answers; leave it out and moderate them yourself",
        "web_search_options": "the model cannot search the web in a translated batch; leave it out",
    }
)
#: Tiers that mean what a batch is anyway.
_BATCH_TIERS = ("auto", "default", "flex", "batch")


def refuse_foreign(body: Fields) -> None:
    """Refuse what is OpenAI's alone."""
    for name, reason in REFUSED.items():
        if body.has(name):
            raise body.unsupported(name, reason)
    for word in body.items("modalities") or ():
        if word != "text":
            raise body.unsupported(
                "modalities", f"{shown(word)} is not possible; answers are text: say ['text'] or leave it out"
            )
    body.word("service_tier", _BATCH_TIERS)
    if body.flag("store"):
        raise body.unsupported(
            "store", "there is no store at this provider; leave it out: the gateway keeps every answer itself"
        )
    if body.mapping("logit_bias"):
        raise body.unsupported(
            "logit_bias", "counts in the tokens of OpenAI's models, which other models do not have; leave it out"
        )


def note_hints(body: Fields) -> None:
    """Remember the hints that are read over."""
    for name, kind in HINTS.items():
        content = body.content.get(name)
        if content is not None and not isinstance(content, kind):
            raise body.unsupported(
                name, f"must be {'an object' if kind is Mapping else 'a string'}, not {shown(content)}"
            )
    body.hint(*HINTS)


def read_stop(body: Fields) -> tuple[str, ...]:
    """`stop`, always as several."""
    content = body.content.get("stop")
    if content is None:
        return ()
    stops = (content,) if isinstance(content, str) else body.items("stop") or ()
    if len(stops) > _MOST_STOPS:
        raise body.unsupported("stop", f"may hold {_MOST_STOPS} strings, not {len(stops)}")
    found = tuple(stop for stop in stops if isinstance(stop, str) and stop)
    if len(found) != len(stops):
        raise body.unsupported("stop", "must be a string or a list of strings, none of them empty")
    return found


def read_max_tokens(body: Fields) -> int | None:
    """`max_completion_tokens`, else the older `max_tokens`."""
    older = body.whole("max_tokens", 1)
    newer = body.whole("max_completion_tokens", 1)
    return older if newer is None else newer


def read_penalty(body: Fields, name: str) -> float | None:
    """A penalty; none when it is zero."""
    return body.number(name, -2, 2) or None


def read_top_logprobs(body: Fields) -> int | None:
    """`top_logprobs`, which only means something beside `logprobs`."""
    rivals = body.whole("top_logprobs", 0, _MOST_RIVALS)
    if body.flag("logprobs"):
        return rivals
    if rivals:
        raise body.unsupported("top_logprobs", "needs logprobs: set logprobs to true as well")
    return None


def read_effort(body: Fields) -> Effort | None:
    """`reasoning_effort`."""
    word = body.word("reasoning_effort", tuple(Effort))
    return None if word is None else Effort(word)


def read_user(body: Fields) -> str | None:
    """Who is behind the request: `safety_identifier`, else the older `user`."""
    older = body.text("user")
    return body.text("safety_identifier") or older or None


def read_response_format(body: Fields) -> JsonObject | JsonSchema | None:
    """`response_format`; None for text."""
    form = body.fields("response_format")
    if form is None:
        return None
    kind = form.word("type", ("text", "json_object", "json_schema"))
    if kind is None:
        raise form.unsupported("type", "must be 'text', 'json_object' or 'json_schema'")
    if kind != "json_schema":
        form.only({"type"})
        return JsonObject() if kind == "json_object" else None
    form.only({"type", "json_schema"})
    wanted = form.needed("json_schema")
    wanted.only({"name", "description", "schema", "strict"})
    schema = wanted.mapping("schema")
    if schema is None:
        raise wanted.unsupported("schema", "is missing; give a JSON Schema, or use response_format 'json_object'")
    return JsonSchema(
        name=wanted.name("name"),
        schema=schema,
        strict=wanted.flag("strict"),
        description=wanted.text("description") or None,
    )
