"""How files, batches, rows and errors look on OpenAI's wire."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import orjson

from gateway.sandbox import Life, Line, Outcome, Stage, StoredBatch, StoredFile
from gateway_openai.simulated.shape import Shape

#: Reasons of lines that were never answered -> OpenAI's code and message.
_UNANSWERED = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed because the batch was cancelled."),
    "timeout": ("request_timeout", "The request timed out."),
}
_ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def file_object(file: StoredFile, now: float) -> dict[str, object]:
    """A file."""
    shown: dict[str, object] = {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed" if now >= file.pending_until else "pending",
        "status_details": None,
    }
    if file.expires is not None:
        shown["expires_at"] = int(file.expires)
    return shown


def batch_object(batch: StoredBatch, where: Life, shape: Shape, *, again: bool = False) -> dict[str, object]:
    """A batch; `again`: not in the answer to its create call."""
    shown = _batch_object(batch, where, shape)
    if shape.text_times and again:
        shown |= {name: str(time) for name, time in shown.items() if name.endswith("_at") and time is not None}
    if shape.empty_ids:
        shown |= {name: "" for name in ("output_file_id", "error_file_id") if shown[name] is None}
    return _formal(shown) if shape.formal else shown


def _formal(shown: Mapping[str, object]) -> dict[str, object]:
    times = {
        name: datetime.fromtimestamp(time, UTC).isoformat()
        for name, time in shown.items()
        if name.endswith("_at") and isinstance(time, int)
    }
    status = str(shown["status"])
    counts = None if status == "validating" else shown["request_counts"]
    return {**shown, **times, "status": status.capitalize(), "request_counts": counts, "endpoint": None}


def _batch_object(batch: StoredBatch, where: Life, shape: Shape) -> dict[str, object]:
    results = batch.results
    ended = {stage: _unix(where.ended_at if where.stage is stage else None) for stage in Stage if stage.ended}
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model or None,
        "errors": _problems(batch, bare=shape.bare_errors) if where.stage is Stage.FAILED else None,
        "input_file_id": batch.file_id,
        "completion_window": shape.window_name(batch.plan.window_seconds),
        "status": where.stage.value,
        "output_file_id": (results.output_file_id or None) if results else None,
        "error_file_id": (results.error_file_id or None) if results else None,
        "created_at": int(batch.created),
        "in_progress_at": _unix(where.in_progress_at),
        "expires_at": int(batch.created + batch.plan.window_seconds),
        "finalizing_at": _unix(where.finalizing_at),
        "completed_at": ended[Stage.COMPLETED],
        "failed_at": ended[Stage.FAILED],
        "expired_at": ended[Stage.EXPIRED],
        "cancelling_at": _unix(where.cancelling_at),
        "cancelled_at": ended[Stage.CANCELLED],
        "request_counts": _counts(batch, where),
        "usage": _usage(batch),
        "metadata": batch.metadata,
    }


def list_object(items: Sequence[dict[str, object]], *, has_more: bool) -> dict[str, object]:
    """One page of a list."""
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


def error_object(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, object]:
    """An error."""
    kind = _ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def row(line: Line, outcome: Outcome) -> bytes:
    """One row of an output or error file."""
    unique = secrets.token_hex(8)
    shown: dict[str, object] = {"id": f"batch_req_{unique}", "custom_id": line.custom_id}
    if outcome.status is None:
        code, message = _UNANSWERED.get(outcome.reason, ("server_error", "The request failed."))
        return orjson.dumps(shown | {"response": None, "error": {"code": code, "message": message}})
    response = {"status_code": outcome.status, "request_id": f"req_{unique}", "body": outcome.body}
    return orjson.dumps(shown | {"response": response, "error": None})


def _unix(time: float | None) -> int | None:
    return None if time is None else int(time)


def _problems(batch: StoredBatch, *, bare: bool) -> object:
    entries = [
        {"code": problem.code, "line": problem.line, "message": problem.message, "param": problem.param}
        for problem in batch.problems
    ]
    return entries if bare else {"object": "list", "data": entries}


def _counts(batch: StoredBatch, where: Life) -> Mapping[str, int]:
    if batch.results is not None:
        done, failed = batch.results.succeeded, batch.results.failed
    else:
        done, failed = int(batch.total * where.done), 0
    total = 0 if where.stage in (Stage.VALIDATING, Stage.FAILED) else batch.total
    return {"total": total, "completed": done, "failed": failed}


def _usage(batch: StoredBatch) -> dict[str, object] | None:
    used = batch.results
    if used is None:
        return None
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used.input_tokens + used.output_tokens,
    }
