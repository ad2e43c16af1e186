"""How files, jobs, rows and errors look on Mistral's wire."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import orjson

from gateway.sandbox import Life, Line, Outcome, Stage, StoredBatch, StoredFile

#: Purposes of files that nobody sees: requests that came inside a create call, files put together.
HIDDEN = "hidden"
#: What a full queue says; the framework knows it as a token limit.
FULL = "Too many pending requests in this workspace (1000000 at most). Try again when some have ended."
STATUSES: Mapping[Stage, str] = MappingProxyType(
    {
        Stage.VALIDATING: "QUEUED",
        Stage.IN_PROGRESS: "RUNNING",
        Stage.FINALIZING: "RUNNING",
        Stage.COMPLETED: "SUCCESS",
        Stage.FAILED: "FAILED",
        Stage.EXPIRED: "TIMEOUT_EXCEEDED",
        Stage.CANCELLING: "CANCELLATION_REQUESTED",
        Stage.CANCELLED: "CANCELLED",
    }
)
#: Reasons of lines that were never answered; what the provider says of them is not known.
_UNANSWERED: Mapping[str, str] = MappingProxyType(
    {
        "expired": "The job exceeded its timeout before this request was processed.",
        "cancelled": "The job was cancelled before this request was processed.",
        "timeout": "The request timed out.",
    }
)


def file_object(file: StoredFile) -> dict[str, object]:
    """A file."""
    made = file.purpose == "batch_output"
    kind = ("batch_error" if file.filename.endswith("_error.jsonl") else "batch_result") if made else "batch_request"
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created),
        "filename": file.filename,
        "purpose": "batch" if made else file.purpose,
        "sample_type": kind if made or file.purpose == "batch" else "instruct",
        "source": "mistral" if made else "upload",
        "num_lines": None,
        "mimetype": "application/jsonl",
        "signature": secrets.token_hex(16),
        "expires_at": None if file.expires is None else int(file.expires),
        "visibility": file.extra.get("visibility", "workspace"),
    }


def job_object(batch: StoredBatch, where: Life, inputs: Sequence[str], *, files: bool = True) -> dict[str, object]:
    """A job; `files` says whether its results are in files."""
    results = batch.results if files else None
    succeeded, failed = _counts(batch, where)
    return {
        "id": batch.id,
        "object": "batch",
        "input_files": list(inputs),
        "metadata": batch.metadata,
        "endpoint": batch.endpoint,
        "model": batch.model or None,
        "agent_id": None,
        "output_file": (results.output_file_id or None) if results else None,
        "error_file": (results.error_file_id or None) if results else None,
        "errors": _problems(batch) if where.stage is Stage.FAILED else [],
        "outputs": None,
        "status": STATUSES[where.stage],
        "created_at": int(batch.created),
        "started_at": _unix(where.in_progress_at),
        "completed_at": _unix(where.ended_at),
        "total_requests": batch.total if batch.checked and where.stage is not Stage.FAILED else 0,
        "completed_requests": succeeded + failed,
        "succeeded_requests": succeeded,
        "failed_requests": failed,
    }


def row(line: Line, outcome: Outcome) -> bytes:
    """One row of an output or error file."""
    shown: dict[str, object] = {
        "id": f"batch-{secrets.token_hex(4)}-0-{uuid.uuid4()}",
        "custom_id": line.custom_id,
    }
    if outcome.status is None:
        message = _UNANSWERED.get(outcome.reason, "The request failed.")
        return orjson.dumps(shown | {"response": None, "error": {"message": message}})
    response = {"status_code": outcome.status, "body": outcome.body}
    error = None if outcome.status == 200 else outcome.body
    return orjson.dumps(shown | {"response": response, "error": error})


def error_object(message: object, *, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, object]:
    """An error; `message` is a text or the details of a failed validation."""
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def _unix(time: float | None) -> int | None:
    return None if time is None else int(time)


def _problems(batch: StoredBatch) -> list[dict[str, object]]:
    """Texts and how often each occurs; lines are not named."""
    texts = [FULL if problem.code == "token_limit_exceeded" else problem.message for problem in batch.problems]
    return [{"message": text, "count": texts.count(text)} for text in dict.fromkeys(texts)]


def _counts(batch: StoredBatch, where: Life) -> tuple[int, int]:
    if batch.results is not None:
        return batch.results.succeeded, batch.results.failed
    return int(batch.total * where.done), 0
