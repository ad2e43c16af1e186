"""How batches, rows and errors look on Anthropic's wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

import orjson

from gateway.sandbox import Life, Line, Outcome, Stage, StoredBatch, new_id

#: Results are kept for so long after a batch was created.
RETENTION_SECONDS = 29 * 86_400.0
_TYPES: Mapping[int, str] = MappingProxyType(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        409: "conflict_error",
        413: "request_too_large",
        422: "invalid_request_error",
        429: "rate_limit_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
)
#: Names under which a batch's notes keep how its lines ended.
TALLY = ("errored", "canceled", "expired")


def error_object(status: int, message: str, kind: str | None = None) -> dict[str, object]:
    """An error, as an HTTP answer and as a row hold it."""
    known = kind or _TYPES.get(status, "api_error")
    return {"type": "error", "error": {"type": known, "message": message}, "request_id": new_id("req_")}


def batch_object(batch: StoredBatch, where: Life, now: float, results_url: str) -> dict[str, object]:
    """A batch. Counts stay in `processing` until the whole batch has ended."""
    ended = where.stage.ended and batch.results is not None
    archived = batch.created + RETENTION_SECONDS
    cancelled = batch.cancelled if batch.cancelled is not None else where.cancelling_at
    stopping = where.stage in (Stage.CANCELLING, Stage.CANCELLED)
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended" if ended else "canceling" if stopping else "in_progress",
        "request_counts": _counts(batch, ended=ended),
        "created_at": _time(batch.created),
        "expires_at": _time(batch.created + batch.plan.window_seconds),
        "ended_at": _time(where.ended_at) if ended and where.ended_at is not None else None,
        "cancel_initiated_at": _time(cancelled) if cancelled is not None and stopping else None,
        "archived_at": _time(archived) if now >= archived else None,
        "results_url": results_url if ended and now < archived else None,
    }


def list_object(items: Sequence[dict[str, object]], *, has_more: bool) -> dict[str, object]:
    """One page of a list."""
    return {
        "data": items,
        "has_more": has_more,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
    }


def row(line: Line, outcome: Outcome) -> bytes:
    """One row of a batch's results; its kind is its first word, so that rows can be counted by it."""
    return orjson.dumps({"custom_id": line.custom_id, "result": _result(outcome)})


def tally(errors: bytes) -> dict[str, str]:
    """How the lines ended that have no answer."""
    counts = {kind: errors.count(b'"result":{"type":"%b"' % kind.encode()) for kind in TALLY}
    return {kind: str(count) for kind, count in counts.items()}


def _result(outcome: Outcome) -> dict[str, object]:
    if outcome.status == 200:
        return {"type": "succeeded", "message": outcome.body}
    if outcome.status is None and outcome.reason != "timeout":
        return {"type": "canceled" if outcome.reason == "cancelled" else "expired"}
    return {"type": "errored", "error": outcome.body or error_object(504, "The request timed out.")}


def _counts(batch: StoredBatch, *, ended: bool) -> dict[str, int]:
    counts = dict.fromkeys(("processing", "succeeded", *TALLY), 0)
    if not ended or batch.results is None:
        return counts | {"processing": batch.total}
    return counts | {"succeeded": batch.results.succeeded} | {kind: int(batch.extra.get(kind, 0)) for kind in TALLY}


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
