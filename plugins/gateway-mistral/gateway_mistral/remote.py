"""From the provider's job object to a `RemoteBatch`. Pure and liberal: all but the id may be missing, null or odd."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from gateway import Ambiguous, ProviderError, Rejected, RemoteBatch, RemoteState, TokenLimit
from gateway.reading import count, moment

#: The provider's words -> ours. Unknown words count as running.
STATES: Mapping[str, RemoteState] = MappingProxyType(
    {
        "QUEUED": RemoteState.RUNNING,
        "RUNNING": RemoteState.RUNNING,
        "CANCELLATION_REQUESTED": RemoteState.RUNNING,
        "SUCCESS": RemoteState.ENDED,
        "TIMEOUT_EXCEEDED": RemoteState.ENDED,
        "CANCELLED": RemoteState.ENDED,
        "FAILED": RemoteState.REFUSED,
    }
)
#: The word of a job that has been told to end.
STOPPING = "CANCELLATION_REQUESTED"
RESULT_FILES = ("output_file", "error_file")

#: How a full queue is told: no more than so many requests of a workspace may wait. The code is not documented.
_NO_ROOM = re.compile(r"pending (?:batch )?requests|\bquota\b|too many requests in (?:the )?queue", re.IGNORECASE)
_MAX_REASON = 500


def remote_batch(job: Mapping[str, object]) -> RemoteBatch:
    """The batch that `job` describes. Raises `Ambiguous` when it has no id."""
    remote_id = job.get("id")
    if not isinstance(remote_id, str) or not remote_id:
        raise Ambiguous("the answer names no job")
    where = {field: name for field in RESULT_FILES if isinstance(name := job.get(field), str) and name}
    succeeded, failed = count(job.get("succeeded_requests")), count(job.get("failed_requests"))
    counted = (count(job.get("completed_requests")), _sum(succeeded, failed))
    state = STATES.get(status_of(job), RemoteState.RUNNING)
    if state is RemoteState.REFUSED and (where or succeeded):
        # It broke down on the way: what was answered was paid for.
        state = RemoteState.ENDED
    inputs = input_files(job)
    return RemoteBatch(
        remote_id=remote_id,
        state=state,
        created=moment(job.get("created_at")),
        total=count(job.get("total_requests")) or None,
        done=max((known for known in counted if known is not None), default=None),
        refusal=refusal(job.get("errors")) if state is RemoteState.REFUSED else None,
        where=where | ({"input_file": inputs[0]} if inputs else {}),
    )


def status_of(job: Mapping[str, object]) -> str:
    """The provider's own word for the state, in upper case; empty when there is none."""
    status = job.get("status")
    return status.strip().upper() if isinstance(status, str) else ""


def refusal(errors: object) -> ProviderError:
    """Why a job failed before anything was run: `TokenLimit` when there was no room, else `Rejected`; no lines are named."""
    entries = errors if isinstance(errors, list) else [errors]
    texts = [_told(entry) for entry in entries if entry]
    reason = "; ".join(dict.fromkeys(text for text in texts[:5] if text))
    if no_room(reason):
        return TokenLimit(reason)
    return Rejected(reason or "the provider refused the batch and gave no reason")


def no_room(reason: str) -> bool:
    """Whether a refusal says that too much is waiting already."""
    return bool(_NO_ROOM.search(reason))


def input_files(job: Mapping[str, object]) -> Sequence[str]:
    """The ids of the files that a job was made of; none when its requests came inside the create call."""
    listed = job.get("input_files")
    return [name for name in listed if isinstance(name, str) and name] if isinstance(listed, list) else []


def _told(entry: object) -> str:
    """The text of one entry of a job's errors."""
    message = entry.get("message") if isinstance(entry, dict) else entry
    return (message if isinstance(message, str) else "")[:_MAX_REASON]


def _sum(succeeded: int | None, failed: int | None) -> int | None:
    return None if succeeded is None and failed is None else (succeeded or 0) + (failed or 0)
