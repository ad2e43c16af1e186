"""The provider against the simulated project, where the contract does not look."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
import structlog
from vertex_lab import BUCKET, CHAT, MARKER, MODEL, PREFIX, Google, chat, in_order, provider_at, text_of, url_of

from gateway import Call, RemoteState, Retryable
from gateway.sandbox import Fault, FaultKind, Operation
from gateway.testing import Lab
from gateway_vertex.provider import result_names
from gateway_vertex.storage import ObjectStore


async def test_a_job_says_everything_about_its_batch(lab: Lab, google: Google) -> None:
    """The marker is the job's name, its label and its place in the bucket, and the model is Google's by its full name."""
    remote = await lab.submit(chat("one"), chat("two"))
    job = await google.jobs.batches.get(name=remote.remote_id)
    metadata = next(iter(lab.simulator.store.batches.values())).metadata or {}
    lines = (await google.read(f"{PREFIX}/input.jsonl")).splitlines()

    assert job.display_name == f"batchway-{MARKER}"
    assert job.model == f"publishers/google/models/{MODEL}"
    assert job.src is not None
    assert job.src.gcs_uri == [f"gs://{BUCKET}/{PREFIX}/input.jsonl"]
    assert job.dest is not None
    assert job.dest.gcs_uri == f"gs://{BUCKET}/{PREFIX}/output/"
    assert orjson.loads(metadata["labels"]) == {"batchway": MARKER}
    assert [orjson.loads(line)["request"]["labels"] for line in lines] == [
        {"batchway-line": f"{MARKER}-0"},
        {"batchway-line": f"{MARKER}-1"},
    ]


async def test_every_shard_is_fetched_answers_first(lab: Lab, google: Google) -> None:
    """A large job's shards all come, in order, and its errors behind them."""
    bodies = [chat(f"number {n}" + " [sandbox: status=400]" * (n % 50 == 0)) for n in range(250)]
    remote = await lab.run(*bodies)
    names = [name.rpartition("/")[2] for name in await google.names(f"{PREFIX}/output/")]
    results = await lab.results(remote)

    assert names == ["errors_0001.jsonl", *(f"predictions_000{n}.jsonl" for n in (1, 2, 3))]
    assert [result.status for result in results] == [200] * 245 + [400] * 5
    assert [result.line_id for result in in_order(results)] == [f"{MARKER}-{n}" for n in range(250)]
    assert all(f"number {n}" in text_of(result) for n, result in enumerate(in_order(results)) if n % 50)


def test_objects_that_have_rows_are_told_from_others() -> None:
    """Predictions come before what cannot be told, errors last, and files that hold no rows are left where they are."""
    names = [
        "o/errors_0001.jsonl",
        "o/incremental_predictions.jsonl",
        "o/predictions_0002.jsonl",
        "o/predictions_0001.jsonl",
        "o/prediction.results-00000-of-00002",
        "o/predictions.jsonl-00000-of-00003",
        "o/manifest.txt",
        "o/",
    ]

    assert result_names(names) == [
        "o/prediction.results-00000-of-00002",
        "o/predictions.jsonl-00000-of-00003",
        "o/predictions_0001.jsonl",
        "o/predictions_0002.jsonl",
        "o/incremental_predictions.jsonl",
        "o/errors_0001.jsonl",
    ]


async def test_results_are_found_without_a_directory(lab: Lab) -> None:
    """A job that names no output directory is read below the prefix that was its batch's own."""
    remote = await lab.run(chat("a"), chat("b"))
    nameless = replace(remote, where={"prefix": remote.where["prefix"]})

    assert len(await lab.results(nameless)) == 2
    assert await lab.results(replace(remote, where={})) == []


async def test_each_copy_of_a_job_has_its_own_results(lab: Lab) -> None:
    """Two jobs of one create call write to one prefix, and each is fetched from its own directory."""
    batch = await lab.upload(chat("a"), chat("b"))
    lab.simulator.faults.order(Fault(kind=FaultKind.TWICE))
    await lab.provider.submit(batch)
    lab.clock.jump(1_000)
    copies = [await lab.provider.poll(remote) for remote in await lab.provider.find(batch)]

    assert [len(await lab.results(copy)) for copy in copies] == [2, 2]
    assert copies[0].where["output"] != copies[1].where["output"]


async def test_all_pages_of_copies_are_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of one name are all found, oldest first, however many pages the filtered list has."""
    monkeypatch.setattr("gateway_vertex.jobs._PAGE", 2)
    batch = await lab.upload(chat("a"))
    made = []
    for _ in range(5):
        made.append((await lab.provider.submit(batch)).remote_id)
        lab.clock.jump(1)

    assert [remote.remote_id for remote in await lab.provider.find(batch)] == made


async def test_a_filter_that_is_ignored_finds_nobody_else(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the list come unfiltered, only jobs with our marker are ours."""
    monkeypatch.setattr("gateway_vertex.simulated.jobs.parse_filter", lambda _: lambda _: True)
    batch = await lab.upload(chat("a"))
    ours = await lab.provider.submit(batch)
    await lab.submit(chat("b"), marker="strangers0strangers0")

    assert [remote.remote_id for remote in await lab.provider.find(batch)] == [ours.remote_id]


async def test_a_list_without_an_end_is_given_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that always names a next page is no answer, and not an empty one."""
    monkeypatch.setattr("gateway.listing.MOST_PAGES", 3)
    monkeypatch.setattr("gateway_vertex.simulated.jobs._is_of", lambda *_: True)
    monkeypatch.setattr("gateway_vertex.jobs._PAGE", 1)
    batch = await lab.upload(chat("a"))
    for _ in range(5):
        await lab.provider.submit(batch)
    with pytest.raises(Retryable):
        await lab.provider.find(batch)


async def test_discarding_leaves_nothing_but_the_job(lab: Lab, google: Google) -> None:
    """After a discard the bucket has no object of the batch, every other object is there, and the job can be looked up."""
    await google.put(f"{PREFIX}x/other", b"stays")
    batch = await lab.upload(*(chat(str(n)) for n in range(120)))
    remote = await lab.later(await lab.provider.submit(batch))
    before = await google.names()
    await lab.provider.discard(batch, remote)

    assert len(before) == 4
    assert await google.names() == [f"{PREFIX}x/other"]
    assert (await lab.provider.poll(remote)).state is RemoteState.ENDED


async def test_an_expired_job_that_never_ran_has_ended(lab: Lab) -> None:
    """A job that waited in the queue until it expired has no output, and its end is told with nothing to fetch."""
    lab.simulator.settings = replace(lab.simulator.settings, validating_seconds=500, window_seconds=100)
    remote = await lab.run(chat("a"))

    assert (remote.state, remote.done) == (RemoteState.ENDED, None)
    assert await lab.results(remote) == []


async def test_a_job_that_failed_with_output_has_ended(lab: Lab) -> None:
    """A job that FAILED and yet wrote rows is fetched: what was answered was paid for."""
    lab.simulator.faults.order(Fault(kind=FaultKind.ALL_FAILED, status=429))
    remote = await lab.run(chat("a"), chat("b"))

    assert (remote.state, remote.done, remote.total) == (RemoteState.ENDED, 2, 2)
    assert [(result.status, result.retriable) for result in await lab.results(remote)] == [(429, True)] * 2


async def test_an_unknown_state_is_named_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that nobody has heard of counts as running, and is in the log once."""
    remote = await lab.submit(chat("x"))
    monkeypatch.setattr(
        "gateway_vertex.simulated.jobs.job_resource", lambda batch, _: {"name": batch.id, "state": "JOB_STATE_AFLOAT"}
    )
    with structlog.testing.capture_logs() as logs:
        states = [(await lab.provider.poll(remote)).state for _ in range(3)]

    assert states == [RemoteState.RUNNING] * 3
    assert [(entry["event"], entry["state"]) for entry in logs] == [("unknown_remote_state", "AFLOAT")]


async def test_lines_can_be_named_by_key(lab: Lab, google: Google) -> None:
    """Without a label key the line's name stands beside the request, and comes home from there."""
    async with provider_at(lab, url_of(lab), label_key="") as provider:
        keyed = replace(lab, provider=provider)
        remote = await keyed.run(chat("a"), chat("b"))
        line = orjson.loads((await google.read(f"{PREFIX}/input.jsonl")).splitlines()[0])
        results = in_order(await keyed.results(remote))

    assert (line["key"], "labels" in line["request"]) == (f"{MARKER}-0", False)
    assert [result.line_id for result in results] == [f"{MARKER}-0", f"{MARKER}-1"]


async def test_an_object_that_is_gone_already_is_discarded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that somebody else deleted in the meantime does not stop a discard."""
    batch = await lab.upload(chat("a"))
    real = ObjectStore.names
    monkeypatch.setattr(ObjectStore, "names", lambda self, place: [f"{PREFIX}/gone", *real(self, place)])
    await lab.provider.discard(batch, None)

    assert not lab.simulator.store.files


async def test_the_list_is_filtered_where_it_is(lab: Lab) -> None:
    """Looking for a batch among many others takes one page: the filter is the provider's."""
    batch = await lab.upload(chat("a"))
    await lab.provider.submit(batch)
    for n in range(120):
        await lab.provider.submit(replace(batch, marker=f"{n:020d}"))
    found = await lab.provider.find(batch)

    assert len(found) == 1
    assert lab.simulator.ledger.calls["list"] == 1


async def test_nobody_asks_for_the_bucket_itself(lab: Lab) -> None:
    """No call needs a right to the bucket beyond its objects: what the SDK asks by itself is switched off."""
    batch = await lab.upload(chat("a"))
    await lab.provider.upload(batch)
    await lab.provider.discard(batch, None)

    assert lab.simulator.ledger.calls["poll"] == 1  # the object's size, at the second upload


async def test_a_fetch_that_failed_leaves_no_file(lab: Lab) -> None:
    """A download that breaks off leaves nothing behind that could pass for results."""
    remote = await lab.run(*(chat(f"{n} {'x' * 500}") for n in range(50)))
    home = lab.directory / "fetches"
    home.mkdir()
    lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.FETCH, when="during"))
    with pytest.raises(Retryable):
        await lab.provider.fetch(remote, home / "rows")

    assert list(home.iterdir()) == []


async def test_a_download_that_came_out_wrong_is_repeated(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that do not fit the checksum that came with them are Retryable, not results."""
    remote = await lab.run(chat("a"))
    shard = next(file for file in lab.simulator.store.files.values() if "predictions" in file.filename)
    path = lab.simulator.store.path(shard.id)
    path.write_bytes(path.read_bytes().replace(b"You", b"Who"))
    with pytest.raises(Retryable):
        await lab.results(remote)


async def test_a_tuned_model_is_asked_by_its_full_name(lab: Lab) -> None:
    """A model of the project's own, and one of another publisher, are named as they are."""
    tuned = "projects/acme/locations/us-central1/models/123"
    batch = replace(await lab.upload(chat("a")), model=tuned)
    await lab.provider.submit(batch)
    answer = await lab.provider.complete(Call(endpoint=CHAT, model="google/gemini-2.5-pro", body=chat("now")))

    assert next(iter(lab.simulator.store.batches.values())).model == tuned
    assert (answer.body or {})["model"] == "gemini-2.5-pro"


async def test_nothing_is_polled_by_a_shorter_name(lab: Lab) -> None:
    """A job is polled in the project and location of its own name, whatever is configured by now."""
    remote = await lab.submit(chat("a"))
    async with provider_at(lab, url_of(lab), project="other", location="europe-west1") as provider:
        seen = await provider.poll(remote)

    assert seen.remote_id == remote.remote_id
