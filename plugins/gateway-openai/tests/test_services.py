"""Services of OpenAI's shape that are kinds of their own: what each does otherwise, through its own or OpenAI's SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import groq
import orjson
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, BadRequestError
from openai_lab import CHAT, Lab, QuickClock, chat, frame, jsonl, text_of

from gateway import Call, Limits, RemoteState, Unsupported
from gateway.sandbox import SandboxServer, SandboxSettings
from gateway_openai import AzureProvider, GroqProvider, KlusterProvider, OpenAICompatibleProvider, OpenAIProvider
from gateway_openai.sandbox import OpenAISimulator
from gateway_openai.simulated.services import AzureSimulator, GroqSimulator, KlusterSimulator

QUICK = SandboxSettings(validating_seconds=10, running_seconds=100, finalizing_seconds=10)


@asynccontextmanager
async def service(
    kind: type[OpenAIProvider],
    simulator_class: type[OpenAISimulator],
    directory: Path,
    path: str = "",
    **settings: object,
) -> AsyncIterator[Lab]:
    """A simulated service, our provider and OpenAI's SDK in front of it; `path` instead of the simulator's own."""
    clock = QuickClock()
    simulator = simulator_class(clock=clock, settings=QUICK, directory=directory / "sandbox")
    async with SandboxServer([simulator]) as server:
        url = server.url(simulator) + path if path else server.base_url(simulator)
        own = kind.Settings.model_validate({"api_key": "sandbox", "base_url": url, **settings})
        provider = kind(kind.kind, own, clock, directory)
        async with AsyncOpenAI(base_url=url, api_key="sandbox", max_retries=0) as sdk:
            yield Lab(clock=clock, simulator=simulator, server=server, sdk=sdk, provider=provider, directory=directory)
        await provider.aclose()


def call(**fields: object) -> Call:
    """A chat call with these fields."""
    body = {**chat("hello"), **fields}
    return Call(endpoint=CHAT, model="sim-small", body=body)


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


@pytest.mark.parametrize(("path", "version"), [("/openai/v1", ""), ("/openai", "2024-10-21")])
async def test_azure_is_reached_at_both_forms_of_its_address(path: str, version: str, tmp_path: Path) -> None:
    """With `/v1` and without a version, or with `?api-version=`: files, batches and the synchronous call all get there."""
    async with service(AzureProvider, AzureSimulator, tmp_path, path, api_version=version) as lab:
        remote = await lab.run(chat("one"), chat("two"))
        results = await lab.results(remote)
        answered = await lab.provider.complete(call())

    assert remote.state is RemoteState.ENDED
    assert ["one" in text_of(results[0]), "two" in text_of(results[1])] == [True, True]
    assert answered.status == 200


async def test_azures_own_client_walks_a_batch_through_the_simulator(tmp_path: Path) -> None:
    """`AsyncAzureOpenAI` with a dated version sees files and batches as its types say."""
    async with service(AzureProvider, AzureSimulator, tmp_path) as lab:
        endpoint = lab.server.url(lab.simulator)
        async with AsyncAzureOpenAI(
            azure_endpoint=endpoint, api_key="k", api_version="2024-10-21", max_retries=0
        ) as sdk:
            file = await sdk.files.create(file=("input.jsonl", jsonl(frame("a", chat("one")))), purpose="batch")
            made = await sdk.batches.create(
                input_file_id=file.id,
                endpoint="/chat/completions",  # type: ignore[arg-type] - Azure's own word
                completion_window="24h",
            )
            lab.clock.jump(1_000)
            ended = await sdk.batches.retrieve(made.id)
            content = await sdk.files.content(ended.output_file_id or "")

    assert (ended.status, ended.error_file_id) == ("completed", "")
    assert orjson.loads(content.content)["custom_id"] == "a"


@pytest.mark.parametrize(("auth", "header"), [("api-key", "api-key"), ("entra", "authorization")])
async def test_azures_key_goes_out_where_azure_looks_for_it(auth: str, header: str, tmp_path: Path) -> None:
    """A resource's key in `api-key` alone, an Entra token as a bearer."""
    async with service(AzureProvider, AzureSimulator, tmp_path, auth=auth) as lab:
        seen: list[Mapping[str, str]] = []
        authorised = lab.simulator.authorised
        lab.simulator.authorised = lambda request: bool(seen.append(request.headers)) or authorised(request)  # type: ignore[method-assign, func-returns-value]
        await lab.provider.find(await lab.uploaded(chat("x")))

    expected = "sandbox" if auth == "api-key" else "Bearer sandbox"
    assert {headers.get(header) for headers in seen} == {expected}
    assert all(("api-key" in headers) != ("Authorization" in headers) for headers in seen)


async def test_an_azure_batch_outlives_its_window(tmp_path: Path) -> None:
    """Azure expires nothing: the batch runs on after a day, and it is for the gateway to set it an end."""
    async with service(AzureProvider, AzureSimulator, tmp_path) as lab:
        remote = await lab.provider.submit(await lab.uploaded(chat("[sandbox: endless] x")))
        lab.simulator.store.put_batch(
            replace(
                batch := lab.simulator.store.batches[remote.remote_id], plan=replace(batch.plan, running_seconds=10**6)
            )
        )
        lab.clock.jump(3 * 86_400)
        polled = await lab.provider.poll(remote)

    assert polled.state is RemoteState.RUNNING


async def test_configured_paths_and_windows_reach_any_service(tmp_path: Path) -> None:
    """`openai-compatible` sends the endpoint and the window that its table names, in lines and create call."""
    settings = {"endpoint": "/v4/chat/completions", "completion_window": "12h", "base_url": "http://127.0.0.1:9/v1"}
    own = OpenAICompatibleProvider.Settings.model_validate({"api_key": "k", **settings})
    provider = OpenAICompatibleProvider("p", own, QuickClock(), tmp_path)
    line = orjson.loads(provider.frame("a", provider.encode(call())))
    await provider.aclose()

    assert line["url"] == "/v4/chat/completions"


def test_limits_stay_the_kinds_own_without_a_window() -> None:
    """A kind whose settings change no limit has one set of limits."""
    settings = OpenAIProvider.Settings.model_validate({})
    assert OpenAIProvider.limits_of(settings) is OpenAIProvider.limits
    assert isinstance(OpenAIProvider.limits, Limits)
