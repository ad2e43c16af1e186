"""The jobs API: `projects/P/locations/L/batchPredictionJobs`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import orjson
from aiohttp import web

from gateway.sandbox import Life, NewBatch, Operation, Route, Simulator, Stage, StoredBatch, StoredFile, reply
from gateway_gemini.simulated.generate import grpc_of
from gateway_vertex.simulated.asking import AskedJob, Refused, read_job
from gateway_vertex.simulated.buckets import Buckets
from gateway_vertex.simulated.filters import BadFilter, Test, parse_filter
from gateway_vertex.simulated.results import Published, published

PARENT = "/{version:v1|v1beta1}/projects/{project}/locations/{location}"
_JOBS = PARENT + "/batchPredictionJobs"
_DELETED = "deleted"
_STATES = {
    Stage.VALIDATING: "QUEUED",
    Stage.IN_PROGRESS: "RUNNING",
    Stage.FINALIZING: "RUNNING",
    Stage.CANCELLING: "CANCELLING",
    Stage.CANCELLED: "CANCELLED",
    Stage.EXPIRED: "EXPIRED",
    Stage.FAILED: "FAILED",
}


class Jobs:
    """The jobs of all projects and locations, each seen in its own only."""

    def __init__(self, simulator: Simulator, buckets: Buckets) -> None:
        self._simulator = simulator
        self._buckets = buckets

    def routes(self) -> Iterator[Route]:
        """Every path of jobs."""
        one = _JOBS + "/{job_id:[^/:]+}"
        yield Route(method="POST", path=_JOBS, answer=self.create, operation=Operation.CREATE)
        yield Route(method="GET", path=_JOBS, answer=self.list, operation=Operation.LIST)
        yield Route(method="GET", path=one, answer=self.get, operation=Operation.POLL)
        yield Route(method="POST", path=one + ":cancel", answer=self.cancel, operation=Operation.CANCEL)
        yield Route(method="DELETE", path=one, answer=self.delete, operation=Operation.DISCARD)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Make a job; its lines are looked at later."""
        try:
            asked = read_job(await request.read())
        except Refused as refused:
            return self._simulator.refuse(400, str(refused))
        file = self._buckets.find(asked.bucket, asked.name)
        if file is None or file.hidden_until > self._simulator.clock.now():
            return self._simulator.refuse(400, f"The input {asked.input_uri[:200]} does not exist.")
        made = await self._simulator.create(_new_batch(asked, file, _parent(request)))
        if isinstance(made, web.Response):
            return made
        return reply(job_resource(made, Life(stage=Stage.VALIDATING)))

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One job as it is now."""
        job_id = self._known(request)
        if job_id is None:
            return self._lost(request)
        return reply(job_resource(*await self._simulator.current(job_id)))

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of the location's jobs, newest first."""
        query = request.query
        size = query.get("pageSize", "0") or "0"
        try:
            test = parse_filter(query.get("filter", ""))
            start = _start(query.get("pageToken", ""))
            wanted = min(int(size) or 20, 100)
        except (BadFilter, ValueError) as bad:
            return self._simulator.refuse(400, f"Invalid list request: {bad}")
        found = [batch for batch in self._simulator.listed() if _is_of(batch, _parent(request))]
        shown = [job for batch in found if (job := self._fitting(batch, test)) is not None]
        page: dict[str, object] = {}
        if shown[start : start + wanted]:
            page["batchPredictionJobs"] = shown[start : start + wanted]
        if len(shown) > start + wanted:
            page["nextPageToken"] = base64.urlsafe_b64encode(b"%d" % (start + wanted)).decode()
        return reply(page)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Ask for a job's end; nothing happens to one that has ended."""
        job_id = self._known(request)
        if job_id is None:
            return self._lost(request)
        await self._simulator.cancel(job_id)
        return reply({})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Forget a job that has ended; its objects stay."""
        job_id = self._known(request)
        if job_id is None:
            return self._lost(request)
        batch, where = await self._simulator.current(job_id)
        if not where.stage.ended:
            return self._simulator.refuse(400, "The job has not ended: cancel it first.", code="FAILED_PRECONDITION")
        self._simulator.store.put_batch(replace(batch, extra={**batch.extra, _DELETED: "yes"}))
        name = f"{_parent(request)}/operations/{job_id}"
        return reply({"name": name, "done": True, "response": {"@type": "type.googleapis.com/google.protobuf.Empty"}})

    def _fitting(self, batch: StoredBatch, test: Test) -> dict[str, object] | None:
        job = job_resource(batch, self._simulator.glance(batch))
        return job if test(_fields(batch, job)) else None

    def _known(self, request: web.Request) -> str | None:
        job_id = request.match_info["job_id"]
        if not self._simulator.known(job_id):
            return None
        return job_id if _is_of(self._simulator.store.batches[job_id], _parent(request)) else None

    def _lost(self, request: web.Request) -> web.Response:
        name = f"{_parent(request)}/batchPredictionJobs/{request.match_info['job_id'][:64]}"
        return self._simulator.refuse(404, f"The BatchPredictionJob {name} does not exist.")


def job_resource(batch: StoredBatch, where: Life) -> dict[str, object]:
    """A `BatchPredictionJob` as the API writes it: what has no value is left out, and whole numbers are strings."""
    asked = batch.metadata or {}
    results = published(batch)
    job: dict[str, object] = {
        "name": f"{asked['parent']}/batchPredictionJobs/{batch.id}",
        "displayName": asked["display_name"],
        "model": batch.model,
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [asked["input_uri"]]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": asked["output_uri"]},
        },
        "state": f"JOB_STATE_{_state(where, results)}",
        "createTime": _time(batch.created),
        "updateTime": _time(where.ended_at or where.in_progress_at or batch.created),
    }
    if labels := orjson.loads(asked["labels"]):
        job["labels"] = labels
    if where.in_progress_at is not None:
        job["startTime"] = _time(where.in_progress_at)
    if where.ended_at is not None:
        job["endTime"] = _time(where.ended_at)
    if stats := _stats(batch, where, results):
        job["completionStats"] = stats
    if results is not None and where.stage.ended:
        job["outputInfo"] = {"gcsOutputDirectory": results.directory}
    if error := _error(batch, where, results):
        job["error"] = error
    return job


def _new_batch(asked: AskedJob, file: StoredFile, parent: str) -> NewBatch:
    return NewBatch(
        file_id=file.id,
        endpoint="generateContent",
        model=asked.model,
        size=file.size,
        metadata={
            "parent": parent,
            "display_name": asked.display_name,
            "input_uri": asked.input_uri,
            "output_uri": asked.output_uri,
            "labels": orjson.dumps(dict(asked.labels)).decode(),
        },
    )


def _state(where: Life, results: Published | None) -> str:
    if where.stage is not Stage.COMPLETED:
        return _STATES[where.stage]
    if results is None or not results.failed:
        return "SUCCEEDED"
    return "PARTIALLY_SUCCEEDED" if results.succeeded else "FAILED"


def _stats(batch: StoredBatch, where: Life, results: Published | None) -> dict[str, str]:
    if where.in_progress_at is None or not batch.checked:
        return {}
    succeeded, failed = int(batch.total * where.done), 0
    if results is not None:
        succeeded, failed = results.succeeded, results.failed
    counts = {
        "successfulCount": succeeded,
        "failedCount": failed,
        "incompleteCount": batch.total - succeeded - failed,
    }
    return {name: str(number) for name, number in counts.items() if number > 0}


def _error(batch: StoredBatch, where: Life, results: Published | None) -> dict[str, object] | None:
    if where.stage is Stage.FAILED:
        problem = batch.problems[0]
        status = 429 if problem.code == "token_limit_exceeded" else 400
        return {"code": grpc_of(status)[0], "message": problem.message}
    if where.stage is Stage.COMPLETED and results is not None and results.failed and not results.succeeded:
        return {"code": grpc_of(400)[0], "message": "All requests of the job failed."}
    return None


def _fields(batch: StoredBatch, job: Mapping[str, object]) -> dict[str, str]:
    """What a filter can ask for."""
    labels = orjson.loads((batch.metadata or {})["labels"])
    return {
        "display_name": str(job["displayName"]),
        "state": str(job["state"]),
        "create_time": str(job["createTime"]),
        "update_time": str(job["updateTime"]),
        "has_error": str("error" in job).lower(),
        **{f"labels.{key}": label for key, label in labels.items()},
    }


def _parent(request: web.Request) -> str:
    return f"projects/{request.match_info['project']}/locations/{request.match_info['location']}"


def _is_of(batch: StoredBatch, parent: str) -> bool:
    return (batch.metadata or {}).get("parent") == parent and _DELETED not in batch.extra


def _start(token: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(token)) if token else 0
    except (binascii.Error, ValueError):
        raise ValueError("page_token is invalid") from None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
