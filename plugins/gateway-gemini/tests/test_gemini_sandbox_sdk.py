"""Google's own SDK, driven directly against the sandbox: the simulator is faithful to it, not just to our plugin."""

from __future__ import annotations

import io
from dataclasses import replace

import orjson
import pytest
from gemini_lab import simulator
from google.genai import errors, types
from google.genai.client import AsyncClient

from gateway.sandbox import Fault, FaultKind, body_hash
from gateway.testing import Lab

# The SDK as it comes uses aiohttp, in ways that aiohttp frowns upon.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Inheritance class Aiohttp:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning"),
]

_FILE = {"mime_type": "application/jsonl"}


def line(key: str, text: str, **fields: object) -> dict[str, object]:
    """One input line."""
    return {"key": key, "request": {"contents": [{"role": "user", "parts": [{"text": text}]}], **fields}}


def jsonl(*lines: object) -> io.BytesIO:
    """Lines as a file."""
    return io.BytesIO(b"".join(orjson.dumps(each) + b"\n" for each in lines))


async def made(sdk: AsyncClient, *lines: object) -> types.BatchJob:
    """A batch from a file."""
    file = await sdk.files.upload(file=jsonl(*lines), config=types.UploadFileConfig(**_FILE))
    return await sdk.batches.create(model="gemini-3-flash", src=file.name or "", config={"display_name": "mine"})


async def ended(lab: Lab, sdk: AsyncClient, batch: types.BatchJob) -> types.BatchJob:
    """The same batch after long enough."""
    lab.clock.jump(1_000)
    return await sdk.batches.get(name=batch.name or "")


async def test_a_batch_from_a_file(lab: Lab, sdk: AsyncClient) -> None:
    """Upload, create, get and download: every key has its own answer, in another order than the lines."""
    lines = [line(f"k{n}", f"question {n}") for n in range(20)]
    batch = await made(sdk, *lines)
    pending = await sdk.batches.get(name=batch.name or "")
    done = await ended(lab, sdk, batch)
    assert done.dest is not None
    content = await sdk.files.download(file=done.dest.file_name or "")
    rows = [orjson.loads(row) for row in content.split(b"\n") if row]

    assert (pending.state, done.state) == (types.JobState.JOB_STATE_PENDING, types.JobState.JOB_STATE_SUCCEEDED)
    assert (done.display_name, done.model) == ("mine", "models/gemini-3-flash")
    assert [row["key"] for row in rows] != [each["key"] for each in lines]
    answers = {row["key"]: types.GenerateContentResponse.model_validate(row["response"]) for row in rows}
    for each in lines:
        assert (answers[str(each["key"])].text or "").endswith(f"#{body_hash(each['request'])}")  # type: ignore[arg-type]


async def test_a_batch_from_inline_requests(lab: Lab, sdk: AsyncClient) -> None:
    """Requests inside the call come back inside the batch, with their metadata; a list leaves them out."""
    requests = [
        types.InlinedRequest(contents=f"question {n}", metadata={"key": f"k{n}"} if n else None) for n in range(3)
    ]
    batch = await sdk.batches.create(model="gemini-3-flash", src=requests, config={"display_name": "inline"})
    done = await ended(lab, sdk, batch)
    assert done.dest is not None
    found = {
        (answer.metadata or {}).get("key"): (answer.response.text or "")[: len("You said: question 0")]
        for answer in done.dest.inlined_responses or ()
        if answer.response
    }
    [listed] = [each async for each in await sdk.batches.list(config={"page_size": 5})]

    assert found == {"k1": "You said: question 1", "k2": "You said: question 2", None: "You said: question 0"}
    assert listed.name == batch.name
    assert listed.dest is None or not listed.dest.inlined_responses


async def test_a_small_batch_from_a_file_may_come_back_inline(lab: Lab, sdk: AsyncClient) -> None:
    """As seen in the wild: where the input came from does not say where the output goes."""
    simulator(lab).inline_output_lines = 2
    done = await ended(lab, sdk, await made(sdk, line("a", "x"), line("b", "y")))

    assert done.dest is not None
    assert done.dest.file_name is None
    assert len(done.dest.inlined_responses or ()) == 2


async def test_errors_have_codes(lab: Lab, sdk: AsyncClient) -> None:
    """A request with an unknown field fails by itself, with the API's words; its neighbour is answered."""
    requests = [line("bad", "x", config={"temperature": 1}), line("told", "[sandbox: status=429]"), line("good", "x")]
    done = await ended(lab, sdk, await made(sdk, *requests))
    assert done.dest is not None
    content = await sdk.files.download(file=done.dest.file_name or "")
    rows = {row["key"]: row for row in (orjson.loads(raw) for raw in content.split(b"\n") if raw)}

    assert rows["bad"]["error"]["code"] == 3
    assert 'Unknown name "config"' in rows["bad"]["error"]["message"]
    assert rows["told"]["error"]["code"] == 8
    assert "candidates" in rows["good"]["response"]


@pytest.mark.parametrize(
    "broken", [{"request": {}}, {"key": "a", "request": {}, "config": {}}, "text", {"key": "a", "request": []}]
)
async def test_a_bad_frame_fails_the_batch(lab: Lab, sdk: AsyncClient, broken: object) -> None:
    """What is wrong around a request fails everything, without output."""
    done = await ended(lab, sdk, await made(sdk, line("ok", "x"), broken))

    assert done.state == types.JobState.JOB_STATE_FAILED
    assert done.dest is None


async def test_files_have_a_life(lab: Lab, sdk: AsyncClient) -> None:
    """A chosen name is kept and cannot be taken twice; a file is read for a while, listed in pages, deleted, and expires."""
    simulator(lab).settings = replace(lab.simulator.settings, file_pending_seconds=30)
    chosen = types.UploadFileConfig(name="files/my-file", display_name="Mine", **_FILE)
    file = await sdk.files.upload(file=jsonl(line("a", "x")), config=chosen)
    assert (file.name, file.display_name, file.state) == ("files/my-file", "Mine", types.FileState.PROCESSING)
    with pytest.raises(errors.ClientError) as taken:
        await sdk.files.upload(file=jsonl(line("a", "x")), config=chosen)
    assert (taken.value.code, taken.value.status) == (409, "ALREADY_EXISTS")
    for _ in range(3):
        await sdk.files.upload(file=jsonl(line("a", "x")), config=types.UploadFileConfig(**_FILE))
    lab.clock.jump(31)
    assert (await sdk.files.get(name="my-file")).state == types.FileState.ACTIVE
    assert len([each async for each in await sdk.files.list(config={"page_size": 2})]) == 4
    with pytest.raises(errors.ClientError):
        await sdk.files.download(file="files/my-file")
    await sdk.files.delete(name="my-file")
    lab.clock.jump(172_800)

    assert [each async for each in await sdk.files.list()] == []
    with pytest.raises(errors.ClientError) as gone:
        await sdk.files.get(name="my-file")
    assert (gone.value.code, gone.value.status) == (403, "PERMISSION_DENIED")


async def test_large_files_go_in_chunks(lab: Lab, sdk: AsyncClient) -> None:
    """A file of more than one chunk arrives whole."""
    content = b"x" * 20_000_001
    file = await sdk.files.upload(file=io.BytesIO(content), config=types.UploadFileConfig(name="big", **_FILE))

    assert file.size_bytes == len(content)
    assert simulator(lab).store.path("in_big").read_bytes() == content


async def test_batches_are_listed_in_pages(lab: Lab, sdk: AsyncClient) -> None:
    """Every batch is in the list once, whatever the size of a page."""
    names = []
    for _ in range(7):
        names.append((await made(sdk, line("a", "x"))).name)
        lab.clock.jump(1)
    listed = [each.name async for each in await sdk.batches.list(config={"page_size": 3})]

    assert sorted(map(str, listed)) == sorted(map(str, names))


async def test_cancel_and_delete(lab: Lab, sdk: AsyncClient) -> None:
    """A cancelled batch says so; a deleted one is gone from polls and lists."""
    batch = await made(sdk, line("a", "x"))
    await sdk.batches.cancel(name=batch.name or "")
    assert (await sdk.batches.get(name=batch.name or "")).state == types.JobState.JOB_STATE_CANCELLED
    with pytest.raises(errors.ClientError):
        await sdk.batches.cancel(name=batch.name or "")
    await sdk.batches.delete(name=batch.name or "")
    with pytest.raises(errors.ClientError) as gone:
        await sdk.batches.get(name=batch.name or "")

    assert gone.value.code == 404
    assert [each async for each in await sdk.batches.list()] == []


async def test_an_expired_batch_gives_nothing(lab: Lab, sdk: AsyncClient) -> None:
    """After 48 hours without an end there is nothing to fetch."""
    lab.simulator.faults.order(Fault(kind=FaultKind.EXPIRED))
    done = await ended(lab, sdk, await made(sdk, line("a", "x"), line("b", "y")))

    assert (done.state, done.dest) == (types.JobState.JOB_STATE_EXPIRED, None)


async def test_content_at_once(lab: Lab, sdk: AsyncClient) -> None:
    """The synchronous endpoint answers the SDK: text, JSON, calls in parallel with one signature, thoughts in usage."""
    text = await sdk.models.generate_content(model="gemini-3-flash", contents="hi", config={"system_instruction": "s"})
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    answer = await sdk.models.generate_content(
        model="gemini-3-flash",
        contents="hi",
        config={"response_mime_type": "application/json", "response_json_schema": schema},
    )
    tool = types.Tool(
        function_declarations=[
            types.FunctionDeclaration(name="f", parameters_json_schema=schema),
            types.FunctionDeclaration(name="g"),
        ]
    )
    calling = types.ToolConfig(
        function_calling_config=types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
    )
    config = types.GenerateContentConfig(
        tools=[tool],
        tool_config=calling,
        thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW, include_thoughts=True),
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    called = await sdk.models.generate_content(model="gemini-3-flash", contents="hi", config=config)
    assert called.candidates is not None
    assert called.candidates[0].content is not None
    parts = called.candidates[0].content.parts or []

    assert (text.text or "").startswith("You said: hi")
    assert orjson.loads(answer.text or "").keys() == {"a"}
    assert [part.function_call.name for part in parts if part.function_call] == ["f", "g"]
    assert [bool(part.thought_signature) for part in parts if part.function_call] == [True, False]
    assert parts[0].thought is True
    assert called.usage_metadata is not None
    assert called.usage_metadata.thoughts_token_count


async def test_an_altered_signature_is_refused(lab: Lab, sdk: AsyncClient) -> None:
    """A call that comes back must carry its own signature, unaltered; without any it is refused as well."""
    tool = types.Tool(function_declarations=[types.FunctionDeclaration(name="f")])
    calling = types.ToolConfig(
        function_calling_config=types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
    )
    off = types.AutomaticFunctionCallingConfig(disable=True)
    config = types.GenerateContentConfig(tools=[tool], tool_config=calling, automatic_function_calling=off)
    called = await sdk.models.generate_content(model="gemini-3-flash", contents="hi", config=config)
    assert called.candidates is not None
    content = called.candidates[0].content
    assert content is not None
    assert content.parts is not None
    result = types.Part.from_function_response(name="f", response={"output": "x"})
    user = types.UserContent(parts=[types.Part(text="hi")])
    history = [user, content, types.UserContent(parts=[result])]
    plain = types.GenerateContentConfig(tools=[tool], automatic_function_calling=off)
    good = await sdk.models.generate_content(model="gemini-3-flash", contents=history, config=plain)
    signature = content.parts[0].thought_signature
    for wrong in (b"x" + (signature or b"")[1:], None):
        content.parts[0].thought_signature = wrong
        with pytest.raises(errors.ClientError, match=r"(?i)signature"):
            await sdk.models.generate_content(model="gemini-3-flash", contents=history, config=plain)

    assert good.text


async def test_embeddings_in_a_batch(lab: Lab, sdk: AsyncClient) -> None:
    """Embedding rows have one content each, and come back with their keys."""
    lines = [{"key": k, "request": {"content": {"parts": [{"text": k}]}, "outputDimensionality": 3}} for k in "ab"]
    file = await sdk.files.upload(file=jsonl(*lines), config=types.UploadFileConfig(**_FILE))
    with pytest.warns(Warning, match="experimental"):
        batch = await sdk.batches.create_embeddings(
            model="gemini-embedding-001",
            src=types.EmbeddingsBatchJobSource(file_name=file.name),
            config={"display_name": "e"},
        )
    done = await ended(lab, sdk, batch)
    assert done.dest is not None
    content = await sdk.files.download(file=done.dest.file_name or "")
    rows = [orjson.loads(row) for row in content.split(b"\n") if row]

    assert {row["key"] for row in rows} == {"a", "b"}
    assert [len(row["response"]["embedding"]["values"]) for row in rows] == [3, 3]


@pytest.mark.parametrize(
    ("kind", "status", "name"),
    [(FaultKind.TOKEN_LIMIT, 429, "RESOURCE_EXHAUSTED"), (FaultKind.REVOKED, 400, "INVALID_ARGUMENT")],
)
async def test_refusals_are_googles(lab: Lab, sdk: AsyncClient, kind: FaultKind, status: int, name: str) -> None:
    """Errors have Google's body; a bad key is a 400 with a reason, a full queue a 429."""
    file = await sdk.files.upload(file=jsonl(line("a", "x")), config=types.UploadFileConfig(**_FILE))
    lab.simulator.faults.order(Fault(kind=kind))
    with pytest.raises(errors.ClientError) as caught:
        await sdk.batches.create(model="gemini-3-flash", src=file.name or "", config={"display_name": "x"})

    assert (caught.value.code, caught.value.status) == (status, name)
    assert caught.value.details["error"]["details"]
