"""The simulator where no SDK goes: what it refuses, its filter language, uploads in pieces, and its memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from vertex_lab import BUCKET, LOCATION, MODEL, PROJECT, Google, chat, jsonl, line, simulator_of, url_of

from gateway.sandbox import SandboxServer, SandboxSettings
from gateway.testing import Lab, QuickClock, sandboxed
from gateway_vertex import VertexProvider
from gateway_vertex.sandbox import VertexSimulator
from gateway_vertex.simulated.filters import BadFilter, parse_filter

JOBS = f"/v1/projects/{PROJECT}/locations/{LOCATION}/batchPredictionJobs"
UPLOADS = f"/upload/storage/v1/b/{BUCKET}/o"
TOKEN = {"Authorization": "Bearer anything"}


@pytest.fixture
async def http(lab: Lab) -> AsyncIterator[httpx2.AsyncClient]:
    """A plain HTTP client with a token."""
    async with httpx2.AsyncClient(base_url=url_of(lab), headers=TOKEN) as client:
        yield client


def job(**changes: object) -> dict[str, Any]:
    """A create call's body that is all right, once there is such an object."""
    body: dict[str, Any] = {
        "displayName": "mine",
        "model": f"publishers/google/models/{MODEL}",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [f"gs://{BUCKET}/in.jsonl"]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": f"gs://{BUCKET}/out"},
        },
    }
    return {name: field for name, field in {**body, **changes}.items() if field != "absent"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"displayName": "absent"}, "display_name"),
        ({"displayName": "x" * 129}, "display_name"),
        ({"model": "gemini-2.5-flash"}, "model name"),
        ({"unknown": 1}, 'Unknown name "unknown"'),
        ({"inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": []}}}, "exactly one"),
        ({"inputConfig": {"instancesFormat": "csv", "gcsSource": {"uris": ["gs://a/b"]}}}, "instances_format"),
        ({"inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://a/gone"]}}}, "does not exist"),
        ({"inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["http://a/b"]}}}, "no Cloud Storage"),
        ({"inputConfig": {"uri": 1}}, 'Unknown name "uri"'),
        ({"outputConfig": "absent"}, "predictions_format"),
        ({"outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {}}}, "output_uri_prefix"),
        ({"labels": {"Upper": "x"}}, "Label key"),
        ({"labels": {"a": "Upper"}}, "Label value"),
        ({"labels": {"a": 5}}, "Label value"),
        ({"labels": []}, "labels"),
        ({"labels": {f"k{n}": "" for n in range(65)}}, "At most 64"),
    ],
)
async def test_a_create_call_is_checked(
    http: httpx2.AsyncClient, google: Google, changes: dict[str, object], said: str
) -> None:
    """What the API would refuse is refused, in Google's form of an error."""
    await google.put("in.jsonl", jsonl(line("a")))
    answer = await http.post(JOBS, json=job(**changes))
    error = answer.json()["error"]

    assert (answer.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert said in error["message"]
    assert (await http.post(JOBS, json=job())).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7"])
async def test_a_body_that_is_no_object_is_refused(http: httpx2.AsyncClient, body: bytes) -> None:
    """A create call has to be a JSON object."""
    assert (await http.post(JOBS, content=body)).status_code == 400


@pytest.mark.parametrize(
    "path", [JOBS, f"{JOBS}/1", f"/storage/v1/b/{BUCKET}/o", f"/download/storage/v1/b/{BUCKET}/o/x"]
)
async def test_without_a_token_nobody_gets_in(http: httpx2.AsyncClient, lab: Lab, path: str) -> None:
    """Both APIs want a bearer token, and the configured one where there is one."""
    naked = await http.get(path, headers={"Authorization": ""})
    lab.simulator.settings = SandboxSettings(api_key="right")
    wrong = await http.get(path)
    right = await http.get(path, headers={"Authorization": "Bearer right"})

    assert (naked.status_code, naked.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    assert (wrong.status_code, right.status_code) == (401, 404 if path.endswith(("1", "x")) else 200)


@pytest.mark.parametrize("raw", [b"{", b"[]", b'{"contents":[]}', b'{"request":[]}'])
async def test_a_line_that_is_no_request_fails_the_job(lab: Lab, google: Google, raw: bytes) -> None:
    """A job whose input is not made of requests fails as a whole, before anything runs."""
    await google.put("in.jsonl", jsonl(line("a")) + raw + b"\n")
    async with httpx2.AsyncClient(base_url=url_of(lab), headers=TOKEN) as http:
        made = (await http.post(JOBS, json=job())).json()
        lab.clock.jump(1_000)
        ended = (await http.get(f"/v1/{made['name']}")).json()

    assert (ended["state"], ended["error"]["code"]) == ("JOB_STATE_FAILED", 3)
    assert "outputInfo" not in ended


async def test_a_request_that_is_refused_fails_alone(lab: Lab, google: Google) -> None:
    """A request that the model would refuse gets a row of its own that says so; its neighbours are answered."""
    bad = line("b")
    bad["request"] = {"contents": [{"role": "user", "parts": [{"text": "b"}]}], "temperature": 1}
    made = await google.job(line("a"), bad, line("c", team="UPPER"))
    lab.clock.jump(1_000)
    ended = await google.jobs.batches.get(name=made.name or "")
    statuses = sorted(row["status"][:60] for row in await google.rows(ended))

    assert statuses[0] == ""
    assert [status.startswith("Bad Request: ") for status in statuses] == [False, True, True]


async def test_lines_without_labels_are_answered_as_well(lab: Lab, google: Google) -> None:
    """A job of lines that have no names runs, also where two lines are the same."""
    made = await google.job(line("same"), line("same"), line("other"))
    lab.clock.jump(1_000)
    rows = await google.rows(await google.jobs.batches.get(name=made.name or ""))

    assert len(rows) == 3
    assert (await lab.simulator.submissions()).repeated != {}


async def test_the_ledger_knows_a_question_by_what_it_asks(lab: Lab) -> None:
    """The same question under two names is the same in the ledger, and another model is another question."""
    await lab.submit(chat("a"), chat("b"), marker="a" * 20)
    await lab.submit(chat("a"), marker="b" * 20)
    await lab.submit({**chat("b"), "model": "gemini-2.5-pro"}, marker="c" * 20)
    submitted = await lab.simulator.submissions()

    assert (submitted.lines, submitted.distinct) == (4, 3)
    assert list(submitted.repeated.values()) == [2]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("filter=display_name", "expected order"),
        ("filter=nonsense%3D1", "unknown field"),
        ("filter=state%3DRUNNING", "no state"),
        ("filter=(state%3DJOB_STATE_RUNNING", "not closed"),
        ("pageToken=%21%21", "page_token"),
        ("pageSize=many", "invalid"),
    ],
)
async def test_a_list_is_checked(http: httpx2.AsyncClient, query: str, said: str) -> None:
    """A list whose filter or page cannot be understood is refused, not answered with everything."""
    answer = await http.get(f"{JOBS}?{query}")

    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


_JOB = {"display_name": "ours-1", "state": "JOB_STATE_RUNNING", "create_time": "2026-11-20T12:00:00Z", "labels.a": "b"}


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ('display_name="ours-1"', True),
        ("display_name='ours-1'", True),
        ("display_name=ours-1", True),
        ('display_name="ours"', False),
        ('display_name:"ours"', True),
        ('display_name:"ours-*"', True),
        ('display_name:"*-2"', False),
        ('display_name!="ours-1"', False),
        ('create_time>"2026-11-20T11:00:00Z"', True),
        ('create_time>="2026-11-20T12:00:00Z" AND create_time<"2026-11-20T12:00:00Z"', False),
        ("labels.a=b", True),
        ("labels.z=b", False),
        ("NOT labels.z=b", True),
        ('state="JOB_STATE_FAILED" OR state="JOB_STATE_RUNNING"', True),
        ('display_name="x" AND labels.a=b OR labels.a=c', False),
        ('(display_name="x" OR labels.a=b) AND NOT (state="JOB_STATE_FAILED")', True),
        ('display_name="quo\\"te"', False),
    ],
)
def test_filters(text: str, fits: bool) -> None:
    """The filter language compares, joins and negates."""
    assert parse_filter(text)(_JOB) is fits


@given(text=st.text(alphabet='display_name labels.a="x" ANDORNOT()<>!:\\*\'', max_size=40) | st.text(max_size=30))
@hypothesis_settings(max_examples=300, deadline=None)
def test_no_filter_breaks_the_parser(text: str) -> None:
    """Any text is a filter, or is told to be none."""
    try:
        fits = parse_filter(text)(_JOB)
    except BadFilter:
        return

    assert fits in (True, False)


async def test_an_upload_session_counts_its_bytes(http: httpx2.AsyncClient) -> None:
    """A session tells how far it is, takes only the next piece, and ends when all bytes are there."""
    begun = await http.post(UPLOADS, params={"uploadType": "resumable"}, json={"name": "x"})
    where = begun.headers["Location"]
    piece = b"x" * (1 << 18)
    first = await http.put(where, content=piece, headers={"Content-Range": f"bytes 0-{len(piece) - 1}/*"})
    asked = await http.put(where, headers={"Content-Range": "bytes */*"})
    early = await http.put(where, content=b"y", headers={"Content-Range": "bytes 300000-300000/300001"})
    nonsense = await http.put(where, content=b"y", headers={"Content-Range": "all of it"})
    total = len(piece) + 1
    last = await http.put(where, content=b"y", headers={"Content-Range": f"bytes {len(piece)}-{len(piece)}/{total}"})
    gone = await http.put(where, headers={"Content-Range": "bytes */*"})

    assert (first.status_code, first.headers["Range"]) == (308, f"bytes=0-{len(piece) - 1}")
    assert (asked.status_code, asked.headers["Range"]) == (308, f"bytes=0-{len(piece) - 1}")
    assert (early.status_code, nonsense.status_code, gone.status_code) == (503, 400, 404)
    assert (last.status_code, last.json()["size"]) == (200, str(total))


@pytest.mark.parametrize(
    "params", [{"uploadType": "media"}, {}, {"uploadType": "multipart"}, {"uploadType": "resumable"}]
)
async def test_an_upload_that_cannot_be_read_is_refused(http: httpx2.AsyncClient, params: dict[str, str]) -> None:
    """An upload of another kind, without a name or without its parts makes no object."""
    answer = await http.post(UPLOADS, params=params, content=b"what")

    assert answer.status_code == 400
    assert (await http.get(f"/storage/v1/b/{BUCKET}/o")).json() == {"kind": "storage#objects"}


async def test_paths_that_are_not_there_are_lost(http: httpx2.AsyncClient) -> None:
    """Unknown paths, versions and jobs are 404 in Google's form."""
    for path in ("/v2/projects/p/locations/l/batchPredictionJobs", f"{JOBS}/1", f"{JOBS}/1:stop", "/nowhere"):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")


async def test_everything_survives_a_restart(tmp_path: Path) -> None:
    """Jobs, objects and results are there after the simulator's process has ended and begun again."""
    async with sandboxed(VertexProvider, tmp_path) as lab:
        created = await lab.submit(*(chat(f"{n}") for n in range(3)))
        lab.clock.jump(1_000)
        await lab.provider.poll(created)
    clock = QuickClock()
    clock.jump(1_000)
    again = VertexSimulator(clock=clock, directory=tmp_path / "sandbox")
    async with SandboxServer([again]) as server:
        own = VertexProvider.Settings.model_validate({"base_url": server.base_url(again)})
        provider = VertexProvider("vertex", own, clock, tmp_path)
        ended = await provider.poll(created)
        await provider.fetch(ended, tmp_path / "rows")
        await provider.aclose()

    assert (tmp_path / "rows").read_bytes().count(b"\n") == 3


async def test_results_are_made_once(lab: Lab) -> None:
    """However often and by how many an ended job is asked for, its results are written once."""
    remote = await lab.run(*(chat(f"{n}") for n in range(150)))
    simulator = simulator_of(lab)
    before = {file.id for file in simulator.store.files.values()}
    for _ in range(3):
        await lab.provider.poll(remote)

    assert {file.id for file in simulator.store.files.values()} == before
    assert orjson.dumps(sorted(file.filename.rpartition("/")[2] for file in simulator.store.files.values())) == (
        b'["input.jsonl","predictions_0001.jsonl","predictions_0002.jsonl"]'
    )
