"""How files, operations, rows and errors look on Google's wire: int64 as strings, zeros and nothings left out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import orjson
from aiohttp import web

from gateway.sandbox import Life, Line, Outcome, Stage, StoredBatch, StoredFile, reply
from gateway_gemini.simulated.generate import google_error, grpc_of

#: Of uploaded files and of results.
RETENTION_SECONDS = 172_800.0
_STATES = {
    Stage.VALIDATING: "PENDING",
    Stage.IN_PROGRESS: "RUNNING",
    Stage.FINALIZING: "RUNNING",
    Stage.CANCELLING: "RUNNING",
    Stage.COMPLETED: "SUCCEEDED",
    Stage.FAILED: "FAILED",
    Stage.EXPIRED: "EXPIRED",
    Stage.CANCELLED: "CANCELLED",
}
_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch"
_KEY_INVALID = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "API_KEY_INVALID",
    "domain": "googleapis.com",
    "metadata": {"service": "generativelanguage.googleapis.com"},
}
_NO_ROOM = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaMetric": "generativelanguage.googleapis.com/batch_enqueued_tokens"}],
}
#: Marks requests that came without a key; it leaves with the row.
UNKEYED = "\N{SYMBOL FOR NULL}"


def refusal(status: int, message: str, code: str | None = None) -> web.Response:
    """An error; a bad key is a 400 with a reason here, a full queue a 429 with the quota's name."""
    if code == "invalid_api_key":
        return reply(google_error(400, "API key not valid. Please pass a valid API key.", [_KEY_INVALID]), 400)
    if code == "token_limit_exceeded":
        return reply(google_error(429, message, [_NO_ROOM]), 429)
    return reply(google_error(status, message), status)


def stamp(time: float | None) -> str | None:
    """RFC 3339 with nanoseconds, as the API writes it."""
    return None if time is None else datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def file_object(file: StoredFile, name: str, root: str, now: float) -> dict[str, object]:
    """An uploaded file; `name` as `files/ID`, `root` the address of the API with its version."""
    return {
        "name": name,
        "displayName": file.filename,
        "mimeType": file.extra.get("mime_type", "application/jsonl"),
        "sizeBytes": str(file.size),
        "createTime": stamp(file.created),
        "updateTime": stamp(file.created),
        "expirationTime": stamp(file.expires),
        "sha256Hash": base64.b64encode(file.extra.get("sha256", "").encode()).decode(),
        "uri": f"{root}/{name}",
        "state": "ACTIVE" if now >= file.pending_until else "PROCESSING",
        "source": "UPLOADED",
    }


def result_file_object(name: str, size: int, created: float, root: str) -> dict[str, object]:
    """A file of results."""
    return {
        "name": name,
        "mimeType": "application/jsonl",
        "sizeBytes": str(size),
        "createTime": stamp(created),
        "expirationTime": stamp(created + RETENTION_SECONDS),
        "uri": f"{root}/{name}",
        "downloadUri": f"{root}/{name}:download?alt=media",
        "state": "ACTIVE",
        "source": "GENERATED",
    }


def operation(batch: StoredBatch, where: Life, output: Mapping[str, object] | None) -> dict[str, object]:
    """A batch as the API shows it: inside a long-running operation; its output stands in both places."""
    told = batch.metadata or {}
    name = f"batches/{batch.id}"
    about: dict[str, object] = {
        "@type": _TYPE,
        "model": f"models/{batch.model}",
        "displayName": told.get("displayName"),
        "createTime": stamp(batch.created),
        "endTime": stamp(where.ended_at),
        "updateTime": stamp(where.ended_at or where.in_progress_at or batch.created),
        "batchStats": _stats(batch, where),
        "state": f"BATCH_STATE_{_STATES[where.stage]}",
        "name": name,
    }
    if "fileName" in told:
        about["inputConfig"] = {"fileName": told["fileName"]}
    if output is not None:
        about["output"] = output
    shown: dict[str, object] = {"name": name, "metadata": {key: field for key, field in about.items() if field}}
    if where.stage.ended:
        shown["done"] = True
    if where.stage is Stage.FAILED:
        shown["error"] = _error(batch)
    elif output is not None:
        shown["response"] = {"@type": _TYPE + "Output", **output}
    return shown


def row(line: Line, outcome: Outcome) -> bytes:
    """One row of a result file; nothing at all for a line that was never run."""
    if outcome.status == 200:
        return orjson.dumps({"key": line.custom_id, "response": outcome.body})
    if outcome.status is None and outcome.reason != "timeout":
        return b""
    code, name = grpc_of(outcome.status or 504)
    error = outcome.body.get("error") if outcome.body else None
    message = error.get("message") if isinstance(error, dict) else f"The request failed: {name}."
    return orjson.dumps({"key": line.custom_id, "error": {"code": code, "message": message}})


def inlined(rows: Sequence[bytes], field: str) -> dict[str, object]:
    """Rows of a file as the output of a batch that is answered inline; rows that are damaged are not there."""
    found = []
    for raw in rows:
        try:
            content = orjson.loads(raw)
        except orjson.JSONDecodeError:
            continue
        key = content.pop("key", "")
        found.append(content if key.startswith(UNKEYED) else content | {"metadata": {"key": key}})
    return {field: {field: found}}


def _stats(batch: StoredBatch, where: Life) -> dict[str, str]:
    """Counts as strings; zeros are not written. An expired batch yields nothing, so nothing of it counts as done."""
    succeeded, failed = (batch.results.succeeded, batch.results.failed) if batch.results else (0, 0)
    if where.stage is Stage.EXPIRED:
        succeeded = failed = 0
    elif batch.results is None:
        succeeded = int(batch.total * where.done)
    counts = {
        "requestCount": batch.total,
        "successfulRequestCount": succeeded,
        "failedRequestCount": failed,
        "pendingRequestCount": batch.total - succeeded - failed,
    }
    return {name: str(number) for name, number in counts.items() if number > 0}


def _error(batch: StoredBatch) -> dict[str, object]:
    first = batch.problems[0]
    full = first.code == "token_limit_exceeded"
    place = "" if first.line is None else f" (line {first.line})"
    return {"code": 8 if full else 3, "message": f"{first.message}{place}"}
