"""From Together's job object to a `RemoteBatch`. Pure and liberal: all but the id may be missing, null or odd."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import orjson

from gateway import Ambiguous, ProviderError, Rejected, RemoteBatch, RemoteState, TokenLimit, Unauthorised
from gateway.reading import moment

#: The provider's words -> ours. Unknown words count as running. `CANCELING` is known from SDK 1 only.
STATES: Mapping[str, RemoteState] = MappingProxyType(
    {
        "VALIDATING": RemoteState.RUNNING,
        "IN_PROGRESS": RemoteState.RUNNING,
        "CANCELING": RemoteState.RUNNING,
        "CANCELLING": RemoteState.RUNNING,
        "COMPLETED": RemoteState.ENDED,
        "EXPIRED": RemoteState.ENDED,
        "CANCELLED": RemoteState.ENDED,
        "CANCELED": RemoteState.ENDED,
        "FAILED": RemoteState.REFUSED,
    }
)
#: Words of jobs that have been told to end.
STOPPING = frozenset({"CANCELING", "CANCELLING"})
#: What we keep of a job for fetching and discarding.
RESULT_FIELDS = ("output_file_id", "error_file_id")
_FILE_FIELDS = ("input_file_id", *RESULT_FIELDS)

#: Why a job failed is one sentence without a code, so only words can tell. Each is narrow: a sentence may quote a request.
_CROWDED = re.compile(r"enqueued?\W+(?:input\W+)?tokens?|token_limit_exceeded", re.IGNORECASE)
_UNPAID = re.compile(
    r"insufficient (?:credit|balance|fund)|out of credit|credit limit|free trial credit|payment required"
    r"|billing (?:hard )?limit|invalid api key",
    re.IGNORECASE,
)
_BROKEN = re.compile(r"internal (?:server )?error|(?:service|temporarily) unavailable", re.IGNORECASE)
_FILELESS = re.compile(
    r"\bfile\b[^.;]{0,100}\b(?:not found|not exist|not (?:yet )?(?:been )?(?:processed|ready|available)|being processed)",
    re.IGNORECASE,
)
#: A line's name, should the sentence give it: a marker and a number.
_LINE = re.compile(r"(?<![a-z0-9])[a-z0-9]{20}-(\d{1,9})(?!\d)")
_MAX_REASON = 500


def parse_list(content: bytes) -> list[Mapping[str, object]]:
    """The objects of a list, which is a bare array for jobs and under `data` for files. Raises `Ambiguous` for all else."""
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError:
        parsed = None
    items = parsed.get("data") if isinstance(parsed, dict) else parsed
    if not isinstance(items, list):
        raise Ambiguous("the answer is not a list")
    return [item for item in items if isinstance(item, dict)]


def job_of(content: Mapping[str, object]) -> Mapping[str, object]:
    """The job in the answer to a create call, bare or under `job`.

    Raises `Ambiguous` when there is none: a warning in its place does not say that nothing was made.
    """
    job = content.get("job", content if "id" in content else None)
    if isinstance(job, dict):
        return job
    warning = content.get("warning")
    raise Ambiguous(f"create: the answer has no job; warning: {str(warning or 'none')[:_MAX_REASON]}")


def remote_batch(job: Mapping[str, object]) -> RemoteBatch:
    """The batch that `job` describes; Together counts no lines. Raises `Ambiguous` when it has no id."""
    remote_id = job.get("id")
    if not isinstance(remote_id, str) or not remote_id:
        raise Ambiguous("the answer names no batch")
    where = {field: name for field in _FILE_FIELDS if isinstance(name := job.get(field), str) and name}
    state = STATES.get(status_of(job), RemoteState.RUNNING)
    refused = refusal(job.get("error")) if state is RemoteState.REFUSED else None
    if refused is not None and (where.keys() & set(RESULT_FIELDS) or _broke_down(refused)):
        # What was answered until then was paid for; what was not is a missing line, and may be asked again.
        state, refused = RemoteState.ENDED, None
    return RemoteBatch(
        remote_id=remote_id,
        state=state,
        created=moment(job.get("created_at")),
        refusal=refused,
        where=where,
    )


def status_of(job: Mapping[str, object]) -> str:
    """The provider's own word for the state, in upper case; empty when there is none."""
    status = job.get("status")
    return status.strip().upper() if isinstance(status, str) else ""


def refusal(reason: object) -> ProviderError:
    """What the sentence of a failed job means: `TokenLimit`, `Unauthorised`, or `Rejected` with the line it names, if any."""
    told = reason[:_MAX_REASON] if isinstance(reason, str) else ""
    if is_crowded(told):
        return TokenLimit(told)
    if is_unpaid(told):
        return Unauthorised(told)
    lines = sorted({int(number) for number in _LINE.findall(told)})
    return Rejected(told or "the provider refused the batch and gave no reason", lines)


def _broke_down(refused: ProviderError) -> bool:
    """Whether the provider failed, or lost the file, and not the batch: its lines must not be refused for that."""
    if not isinstance(refused, Rejected) or refused.lines:
        return False
    return _BROKEN.search(refused.reason) is not None or lacks_file(refused.reason)


def is_crowded(reason: str) -> bool:
    """Whether the provider says that too many tokens are waiting already."""
    return _CROWDED.search(reason) is not None


def is_unpaid(reason: str) -> bool:
    """Whether the provider says that the account cannot pay, or that its key is none."""
    return _UNPAID.search(reason) is not None


def lacks_file(reason: str) -> bool:
    """Whether a create call was refused for its file only: it may be there in a moment, or has to be uploaded anew."""
    return _FILELESS.search(reason) is not None
