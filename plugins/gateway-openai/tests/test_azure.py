"""Azure OpenAI: two forms of its address, its own forms of ids, states and times, and batches that never expire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import groq
import orjson
import pytest
from openai import AsyncAzureOpenAI
from openai_lab import CHAT, QUICK, call, chat, frame, jsonl, service, text_of

from gateway import RemoteState, TokenLimit
from gateway_openai import AzureProvider, GroqProvider
from gateway_openai.simulated.services import AzureSimulator, GroqSimulator


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


@pytest.mark.parametrize(
    ("given", "version", "meant"),
    [
        ("https://r.openai.azure.com", "", "https://r.openai.azure.com/openai/v1"),
        ("https://r.openai.azure.com/", "2024-10-21", "https://r.openai.azure.com/openai"),
        ("https://r.openai.azure.com/openai/v1/", "", "https://r.openai.azure.com/openai/v1"),
        ("https://r.openai.azure.com/openai/v1", "2024-10-21", "https://r.openai.azure.com/openai"),
        ("https://r.openai.azure.com/openai", "", "https://r.openai.azure.com/openai/v1"),
        ("https://gate.example.com/team/openai/v1", "", "https://gate.example.com/team/openai/v1"),
    ],
)
def test_azures_address_may_be_the_bare_endpoint(given: str, version: str, meant: str) -> None:
    """What the portal shows is enough, and a version decides which of the two paths is asked; proxies' paths stay."""
    settings = AzureProvider.Settings.model_validate({"base_url": given, "api_version": version})

    assert settings.base_url == meant


async def test_azures_dated_interface_is_read_in_its_own_forms(tmp_path: Path) -> None:
    """States in capitals, times in ISO form, empty ids, no counts and no endpoint: the batch is followed and found."""
    async with service(AzureProvider, AzureSimulator, tmp_path, "/openai", api_version="2024-10-21") as lab:
        made = await lab.uploaded(chat("one"))
        remote = await lab.provider.submit(made)
        raw = await lab.provider.page(None)
        found = await lab.provider.find(replace(made, first_sent=remote.created))
        lab.clock.jump(1_000)
        ended = await lab.provider.poll(remote)
        [result] = await lab.results(ended)

    [shown] = raw.items
    assert (shown["status"], shown["request_counts"], shown["error_file_id"]) == ("Validating", None, "")
    assert isinstance(shown["created_at"], str)
    assert (remote.created, remote.total, remote.state) == (found[0].created, None, RemoteState.RUNNING)
    assert remote.created is not None
    assert (ended.state, "error_file_id" in ended.where) == (RemoteState.ENDED, False)
    assert "one" in text_of(result)


@pytest.mark.parametrize("at_create", [True, False])
async def test_azures_full_queue_makes_batches_smaller(at_create: bool, tmp_path: Path) -> None:
    """`token_limit_exceeded` is read in both places where regions tell it: the create call's 400 and the failed batch."""
    async with service(AzureProvider, AzureSimulator, tmp_path) as lab:
        lab.simulator.settings = replace(QUICK, max_enqueued_tokens=1, token_limit_at_create=at_create)
        batch = await lab.uploaded(chat("a question of more than one token"))
        if at_create:
            with pytest.raises(TokenLimit):
                await lab.provider.submit(batch)
        else:
            remote = await lab.provider.submit(batch)
            lab.clock.jump(1_000)
            assert isinstance((await lab.provider.poll(remote)).refusal, TokenLimit)


async def test_an_azure_file_is_waited_for_while_it_is_read(tmp_path: Path) -> None:
    """The upload returns when a batch can be made of the file, not before."""
    async with service(AzureProvider, AzureSimulator, tmp_path) as lab:
        lab.simulator.settings = replace(QUICK, file_pending_seconds=30)
        before = lab.clock.now()
        remote = await lab.provider.submit(await lab.uploaded(chat("x")))

    assert remote.state is RemoteState.RUNNING
    assert lab.clock.now() - before >= 30


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

    assert (ended.status, ended.error_file_id, ended.endpoint) == ("Completed", "", None)
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
