"""Services of OpenAI's shape that are kinds of their own: what each does otherwise, through its own or OpenAI's SDK."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import groq
import httpx2
import orjson
import pytest
from openai import APIStatusError, BadRequestError
from openai_lab import CHAT, call, chat, frame, jsonl, service, text_of

from gateway import RemoteState, Retryable, Unauthorised, Unsupported
from gateway.chat import carry
from gateway.testing import QuickClock
from gateway_openai import GroqProvider, KlusterProvider, OpenAICompatibleProvider, OpenAIProvider
from gateway_openai.decode import decode_row
from gateway_openai.failures import FAILURES
from gateway_openai.remote import remote_batch
from gateway_openai.sandbox import OpenAISimulator
from gateway_openai.simulated.services import GroqSimulator, KlusterSimulator


async def test_groqs_own_sdk_walks_a_batch_through_the_simulator(tmp_path: Path) -> None:
    """Files, batches, a page of the list, results and cancel look to the groq package as its types say."""
    async with service(GroqProvider, GroqSimulator, tmp_path) as lab:
        base = lab.server.url(lab.simulator)
        async with groq.AsyncGroq(api_key="k", base_url=base, max_retries=0) as sdk:
            file = await sdk.files.create(
                file=("input.jsonl", jsonl(frame("a", chat("one")), frame("b", chat("two")))), purpose="batch"
            )
            made = await sdk.batches.create(
                input_file_id=file.id or "", endpoint=CHAT, completion_window="7d", metadata={"ours": "yes"}
            )
            lab.clock.jump(1_000)
            ended = await sdk.batches.retrieve(made.id)
            listed = await sdk.batches.list()
            content = await sdk.files.content(ended.output_file_id or "")
            second = await sdk.batches.create(input_file_id=file.id or "", endpoint=CHAT, completion_window="24h")
            stopped = await sdk.batches.cancel(second.id)
            rows = [orjson.loads(row) for row in (await content.read()).splitlines()]

    assert (made.status, made.completion_window, ended.status) == ("validating", "7d", "completed")
    assert [batch.id for batch in listed.data] == [made.id]
    assert {row["custom_id"] for row in rows} == {"a", "b"}
    assert stopped.status in ("cancelling", "cancelled")


async def test_groqs_list_is_read_to_its_end_by_cursor(tmp_path: Path) -> None:
    """A batch on the third page is found: pages go by `paging.next_cursor`, which OpenAI's SDK would not follow."""
    async with service(GroqProvider, GroqSimulator, tmp_path) as lab:
        ours = await lab.uploaded(chat("mine"))
        remote = await lab.provider.submit(ours)
        other = await lab.uploaded(chat("not mine"))
        for _ in range(45):
            lab.clock.jump(1)
            await lab.provider.submit(replace(other, marker="z" * 20))
        found = await lab.provider.find(replace(ours, first_sent=remote.created))

    assert [each.remote_id for each in found] == [remote.remote_id]


async def test_groqs_list_is_read_to_its_end_should_it_have_openais_pages(tmp_path: Path) -> None:
    """Pages that say `has_more` and no cursor go on by `after`: no batch counts as absent because of a page unread."""
    async with service(GroqProvider, OpenAISimulator, tmp_path) as lab:
        ours = await lab.uploaded(chat("mine"))
        remote = await lab.provider.submit(ours)
        other = await lab.uploaded(chat("not mine"))
        for _ in range(25):
            lab.clock.jump(1)
            await lab.provider.submit(replace(other, marker="z" * 20))
        found = await lab.provider.find(replace(ours, first_sent=remote.created))

    assert [each.remote_id for each in found] == [remote.remote_id]


@pytest.mark.parametrize("way", ["batch", "at once"])
async def test_groqs_answers_need_no_object_and_no_time(way: str, tmp_path: Path) -> None:
    """An answer without `object` and `created` is one; the gateway fills them in."""
    async with service(GroqProvider, GroqSimulator, tmp_path) as lab:
        if way == "batch":
            [result] = await lab.results(await lab.run(chat("hello")))
        else:
            result = await lab.provider.complete(call())

    assert result.status == 200
    assert result.body is not None
    assert result.body.keys() & {"object", "created"} == set()
    assert "hello" in text_of(result)


def answered(status: int, error: Mapping[str, object]) -> APIStatusError:
    """What the SDK raises for this answer."""
    response = httpx2.Response(status, request=httpx2.Request("POST", "http://127.0.0.1/v1/batches"))
    return APIStatusError("no", response=response, body=error)


def test_a_plan_without_batches_stops_the_account_and_says_what_to_do() -> None:
    """Groq's 403 for a plan is not taken for a wrong key: the reason names the plan and the code."""
    failure = FAILURES.create_failure(answered(403, {"message": "Not for you.", "code": "not_available_for_plan"}))

    assert isinstance(failure, Unauthorised)
    assert "not_available_for_plan" in failure.reason
    assert "plan behind this key has no batches" in failure.reason


def test_having_no_room_is_tried_again() -> None:
    """Groq's 498 is a 429 by another number: for a create call, for any other, for a line."""
    error = answered(498, {"message": "Flex tier capacity exceeded", "code": "capacity_exceeded"})
    row = {"custom_id": "a", "response": {"status_code": 498, "body": {"error": {"message": "full"}}}, "error": None}
    line = decode_row(orjson.dumps(row))

    assert isinstance(FAILURES.create_failure(error), Retryable)
    assert isinstance(FAILURES.repeatable_failure(error, "poll"), Retryable)
    assert (line.status, line.retriable) == (429, True)


def test_a_batch_that_ended_with_errors_has_ended() -> None:
    """Groq's page shows a completed batch with an error for one line: its answers are fetched, nothing was refused."""
    errors = [{"code": "invalid_method", "line": 4, "message": "no", "param": "method"}]
    counts = {"total": 3, "completed": 2, "failed": 1}
    shown = {
        "id": "batch_1",
        "status": "completed",
        "output_file_id": "file_1",
        "errors": errors,
        "request_counts": counts,
    }
    remote = remote_batch(shown)

    assert (remote.state, remote.refusal, remote.done) == (RemoteState.ENDED, None, 3)


async def test_a_bare_array_of_errors_is_read(tmp_path: Path) -> None:
    """Groq's `errors` is an array without an object around it: the reason and the line are told all the same."""
    async with service(GroqProvider, GroqSimulator, tmp_path) as lab:
        refused = await lab.run(chat("fine"), chat("[sandbox: poison] bad"))

    assert refused.state is RemoteState.REFUSED
    assert list(getattr(refused.refusal, "lines", {})) == [1]


@pytest.mark.parametrize(
    ("kind", "settings", "seconds"),
    [
        (GroqProvider, {}, 86_400.0),
        (GroqProvider, {"completion_window": "7d"}, 604_800.0),
        (KlusterProvider, {"completion_window": "1h"}, 3_600.0),
        (OpenAICompatibleProvider, {"base_url": "http://x/v1", "completion_window": "3d"}, 259_200.0),
    ],
)
def test_the_window_that_is_asked_for_is_the_one_that_counts(
    kind: type[OpenAIProvider], settings: Mapping[str, object], seconds: float
) -> None:
    """A batch is overdue by the window it was created with, not by the kind's usual one."""
    assert kind.limits_of(kind.Settings.model_validate(settings)).window_seconds == seconds


@pytest.mark.parametrize("kind", [GroqProvider, KlusterProvider])
async def test_a_long_window_reaches_the_provider(kind: type[OpenAIProvider], tmp_path: Path) -> None:
    """What is configured is what the create call asks for."""
    simulator, window = (GroqSimulator, "7d") if kind is GroqProvider else (KlusterSimulator, "3h")
    async with service(kind, simulator, tmp_path, completion_window=window) as lab:
        remote = await lab.provider.submit(await lab.uploaded(chat("slow")))
        shown = await lab.sdk.batches.retrieve(remote.remote_id)

    assert shown.completion_window == window


@pytest.mark.parametrize("field", ["logprobs", "top_logprobs", "logit_bias", "n"])
async def test_groq_refuses_what_its_batches_would_fail_on(field: str, tmp_path: Path) -> None:
    """Fields that Groq answers with 400 are refused at admission, by their names; set to nothing they are left out."""
    content = {"1": 2} if field == "logit_bias" else 2
    async with service(GroqProvider, GroqSimulator, tmp_path) as lab:
        with pytest.raises(Unsupported) as refused:
            lab.provider.encode(call(**{field: content}))
        left_out = lab.provider.encode(call(**{field: None}))
        with pytest.raises(BadRequestError):
            await lab.sdk.chat.completions.create(**{**chat("x"), field: content})  # type: ignore[call-overload]

    assert refused.value.field == field
    assert field not in orjson.loads(left_out)["body"]


@pytest.mark.parametrize("kind", [GroqProvider, KlusterProvider])
async def test_a_named_message_is_refused_where_the_provider_does(kind: type[OpenAIProvider], tmp_path: Path) -> None:
    """The 400 names the message; a tool's result may have its name."""
    settings = kind.Settings.model_validate({"api_key": "k", "base_url": "http://127.0.0.1:9/v1"})
    provider = kind("p", settings, QuickClock(), tmp_path)
    named = {"role": "user", "name": "bob", "content": "hi"}
    with pytest.raises(Unsupported) as refused:
        provider.encode(call(messages=[{"role": "user", "content": "a"}, named]))
    await provider.aclose()

    assert refused.value.field == "messages[1].name"


async def test_klusters_times_are_read_as_text(tmp_path: Path) -> None:
    """A batch shown again has its times as strings; it is found by its time all the same."""
    async with service(KlusterProvider, KlusterSimulator, tmp_path) as lab:
        made = await lab.uploaded(chat("a"))
        remote = await lab.provider.submit(made)
        polled = await lab.provider.poll(remote)
        found = await lab.provider.find(replace(made, first_sent=remote.created))
        raw = await lab.sdk.batches.with_raw_response.retrieve(remote.remote_id)

    assert isinstance(orjson.loads(raw.content)["created_at"], str)
    assert polled.created == remote.created
    assert [each.remote_id for each in found] == [remote.remote_id]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (GroqProvider, {"n": 1, "logprobs": False, "top_logprobs": 0, "logit_bias": {}}),
        (KlusterProvider, {"n": 1, "modalities": ["text"], "response_format": {"type": "text"}, "audio": None}),
    ],
)
def test_a_refused_field_that_asks_for_nothing_is_left_out(
    kind: type[OpenAIProvider], fields: Mapping[str, object], tmp_path: Path
) -> None:
    """What every answer is anyway may be said: it is not sent where the provider would mind."""
    settings = kind.Settings.model_validate({"api_key": "k", "base_url": "http://127.0.0.1:9/v1"})
    provider = kind("p", settings, QuickClock(), tmp_path)
    body = orjson.loads(provider.encode(call(**fields)))["body"]

    assert body.keys() == {"model", "messages"}


@pytest.mark.parametrize(
    ("kind", "kept"), [(OpenAIProvider, False), (GroqProvider, False), (OpenAICompatibleProvider, True)]
)
def test_ids_lose_what_the_gateway_put_there(kind: type[OpenAIProvider], kept: bool, tmp_path: Path) -> None:
    """A conversation comes over from another provider: OpenAI takes ids of 40 characters; only a gateway wants them whole."""
    settings = kind.Settings.model_validate({"api_key": "k", "base_url": "http://127.0.0.1:9/v1"})
    provider = kind("p", settings, QuickClock(), tmp_path)
    packed = carry("toolu_1", {"anthropic": ["a thought"]})
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": packed, "type": "function"}]}
    messages = [called, {"role": "tool", "tool_call_id": packed, "content": "x"}]
    sent = orjson.loads(provider.encode(call(messages=messages)))["body"]["messages"]

    wanted = packed if kept else "toolu_1"
    assert (sent[0]["tool_calls"][0]["id"], sent[1]["tool_call_id"]) == (wanted, wanted)


def test_groq_gets_no_fields_of_answers_that_are_sent_back(tmp_path: Path) -> None:
    """Groq refuses a whole request for a field of a message that it does not know; those that say something are named."""
    settings = GroqProvider.Settings.model_validate({"api_key": "k", "base_url": "http://127.0.0.1:9/v1"})
    provider = GroqProvider("p", settings, QuickClock(), tmp_path)
    nothing = {
        "refusal": None,
        "audio": None,
        "annotations": [],
        "function_call": None,
        "tool_calls": None,
        "name": None,
    }
    said = {"role": "assistant", "content": "a", "reasoning_content": "hm", "reasoning": "hm", **nothing}
    refused = {"role": "assistant", "content": None, "refusal": "no", "tool_calls": []}
    asked = call(messages=[said, refused, {"role": "user", "content": "b"}])

    assert orjson.loads(provider.encode(asked))["body"]["messages"] == [
        {"role": "assistant", "content": "a", "reasoning": "hm"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": "b"},
    ]
    assert provider.dropped(asked) == ["messages[0].reasoning_content"]
    assert provider.dropped(call()) == []


def test_groq_cannot_be_sent_back_a_sound(tmp_path: Path) -> None:
    """An answer that was spoken at OpenAI is there only."""
    settings = GroqProvider.Settings.model_validate({"api_key": "k", "base_url": "http://127.0.0.1:9/v1"})
    provider = GroqProvider("p", settings, QuickClock(), tmp_path)
    with pytest.raises(Unsupported) as refused:
        provider.encode(call(messages=[{"role": "assistant", "audio": {"id": "a"}}, {"role": "user", "content": "b"}]))

    assert refused.value.field == "messages[0].audio"
