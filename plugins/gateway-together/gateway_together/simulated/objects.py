"""How files, jobs, rows and errors look on Together's wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

import orjson

from gateway.sandbox import Life, Line, Outcome, Stage, StoredBatch, StoredFile

#: Where an upload stands, kept in `StoredFile.extra`.
STATE, ANNOUNCED, STORED, READY = "state", "announced", "stored", "ready"

#: What uploaded files are for.
PURPOSES = frozenset({"fine-tune", "calibration", "eval", "batch-api"})

_WORDS: Mapping[Stage, str] = MappingProxyType(
    {
        Stage.VALIDATING: "VALIDATING",
        Stage.IN_PROGRESS: "IN_PROGRESS",
        Stage.FINALIZING: "IN_PROGRESS",
        Stage.CANCELLING: "CANCELING",
        Stage.COMPLETED: "COMPLETED",
        Stage.EXPIRED: "EXPIRED",
        Stage.CANCELLED: "CANCELLED",
        Stage.FAILED: "FAILED",
    }
)
#: Codes of lines that failed. Documented are `invalid_model` and `timeout`; the others stand for what is not documented.
_CODES: Mapping[int, str] = MappingProxyType(
    {
        400: "invalid_request",
        401: "unauthorized",
        402: "insufficient_credits",
        403: "forbidden",
        404: "invalid_model",
        422: "unprocessable_entity",
        429: "rate_limit_exceeded",
        500: "internal_error",
        503: "service_unavailable",
        504: "timeout",
    }
)
_UNANSWERED: Mapping[str, str] = MappingProxyType(
    {
        "expired": "The job expired before this request was run.",
        "cancelled": "The job was cancelled before this request was run.",
        "timeout": "The request timed out.",
    }
)


def file_object(file: StoredFile, now: float) -> dict[str, object]:
    """A file. Result files, and whatever else is not looked at, have no state of processing."""
    made_here = file.purpose not in PURPOSES
    status, report = None if made_here else _file_status(file, now), None
    if problem := file.extra.get("problem"):
        report = {"valid": False, "error_type": "INVALID_FORMAT", "error": problem, "file_id": file.id}
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created),
        "filename": file.filename,
        "purpose": "batch-generated" if made_here else file.purpose,
        "FileType": "jsonl",
        "Processed": status in (None, "COMPLETED"),
        "processing_status": status,
        "validation_report": report,
    }


def job_object(batch: StoredBatch, where: Life, size: int) -> dict[str, object]:
    """A job; `size` is the bytes of its input. Keys without a value are left out."""
    results = batch.results
    shown: dict[str, object] = {
        "id": batch.id,
        "user_id": "sandbox",
        "input_file_id": batch.file_id,
        "file_size_bytes": size,
        "status": _WORDS[where.stage],
        "job_deadline": _iso(batch.created + batch.plan.window_seconds),
        "created_at": _iso(batch.created),
        "endpoint": batch.endpoint,
        "progress": 0.0 if where.stage is Stage.FAILED else round(where.done * 100, 2),
        "model_id": batch.model,
    }
    if where.ended_at is not None:
        shown["completed_at"] = _iso(where.ended_at)
    if where.stage is Stage.FAILED:
        shown["error"] = _problems(batch)
    if results is not None and results.output_file_id:
        shown["output_file_id"] = results.output_file_id
    if results is not None and results.error_file_id:
        shown["error_file_id"] = results.error_file_id
    return shown


def error_object(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, object]:
    """An error of the endpoints that are not about batches."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def row(line: Line, outcome: Outcome) -> bytes:
    """One row of an output or error file; a failure without a code of its own is told as the response it got."""
    shown: dict[str, object] = {"custom_id": line.custom_id}
    code = outcome.reason if outcome.status is None else _CODES.get(outcome.status)
    if outcome.status == 200 or code is None:
        shown["response"] = {"status_code": outcome.status, "body": outcome.body}
    else:
        shown["error"] = {"message": _UNANSWERED.get(outcome.reason) or _message(outcome.body), "code": code}
    return orjson.dumps(shown)


def _message(body: Mapping[str, object] | None) -> str:
    error = body.get("error") if body is not None else None
    return str(error.get("message")) if isinstance(error, dict) else "The request failed."


def _file_status(file: StoredFile, now: float) -> str:
    if file.extra.get(STATE, READY) != READY:
        return "PENDING"
    if now < file.pending_until:
        return "RUNNING"
    return "INVALID_FORMAT" if "problem" in file.extra else "COMPLETED"


def _problems(batch: StoredBatch) -> str:
    """One sentence; how Together names lines is not documented."""
    told = [
        problem.message if problem.line is None else f"line {problem.line}: {problem.message}"
        for problem in batch.problems
    ]
    return "; ".join(told[:5])


def _iso(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
