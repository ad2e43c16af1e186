"""From the provider's batch object to a `RemoteBatch`. Pure and liberal: all but the id may be missing, null or odd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from gateway import Ambiguous, ProviderError, Rejected, RemoteBatch, RemoteState, TokenLimit, Unauthorised
from gateway.reading import count, mapping, moment

#: The provider's words, in lower case -> ours. Unknown words count as running.
STATES: Mapping[str, RemoteState] = MappingProxyType(
    {
        "validating": RemoteState.RUNNING,
        "in_progress": RemoteState.RUNNING,
        "finalizing": RemoteState.RUNNING,
        "cancelling": RemoteState.RUNNING,
        "canceling": RemoteState.RUNNING,
        "queued": RemoteState.RUNNING,
        "progress": RemoteState.RUNNING,
        "completed": RemoteState.ENDED,
        "expired": RemoteState.ENDED,
        "cancelled": RemoteState.ENDED,
        "canceled": RemoteState.ENDED,
        "failed": RemoteState.REFUSED,
    }
)
#: Words of batches that have been told to end.
STOPPING = frozenset({"cancelling", "canceling"})
#: Codes that say: too many tokens at the moment.
TOKEN_CODES = frozenset({"token_limit_exceeded"})
#: Codes that say: the account cannot pay, whatever the status.
UNPAID_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})

#: What we keep of a batch object for fetching and discarding.
FILE_FIELDS = ("input_file_id", "output_file_id", "error_file_id")


def remote_batch(content: Mapping[str, object], line_offset: int | None = 1) -> RemoteBatch:
    """The batch that `content` describes. `line_offset` is the number of the first line in refusals; None: ignore numbers.

    Raises `Ambiguous` when it has no id.
    """
    remote_id = content.get("id")
    if not isinstance(remote_id, str) or not remote_id:
        raise Ambiguous("the answer names no batch")
    counted = mapping(content.get("request_counts"))
    completed, failed = count(counted.get("completed")), count(counted.get("failed"))
    done = None if completed is None and failed is None else (completed or 0) + (failed or 0)
    where = {field: name for field in FILE_FIELDS if isinstance(name := content.get(field), str) and name}
    state = STATES.get(status_of(content), RemoteState.RUNNING)
    if state is RemoteState.REFUSED and done and (where.keys() - {"input_file_id"}):
        # Some dialects say "failed" of a batch that broke down on the way: what was answered was paid for.
        state = RemoteState.ENDED
    return RemoteBatch(
        remote_id=remote_id,
        state=state,
        created=moment(content.get("created_at")),
        total=count(counted.get("total")) or None,
        done=done,
        refusal=refusal(content.get("errors"), line_offset) if state is RemoteState.REFUSED else None,
        where=where,
    )


def status_of(content: Mapping[str, object]) -> str:
    """The provider's own word for the state, in lower case; empty when there is none."""
    status = content.get("status")
    return status.strip().lower() if isinstance(status, str) else ""


def refusal(errors: object, line_offset: int | None = 1) -> ProviderError:
    """Why a batch failed in validation: `TokenLimit`, `Unauthorised` or `Rejected` with the lines that were named."""
    problems = list(_problems(errors))
    reason = "; ".join(dict.fromkeys(_reason(problem) for problem in problems[:5]))
    codes = {str(problem.get("code")).lower() for problem in problems}
    if codes & TOKEN_CODES:
        return TokenLimit(reason)
    if codes & UNPAID_CODES:
        return Unauthorised(reason)
    lines: dict[int, str] = {}
    for problem in problems if line_offset is not None else ():
        line = problem.get("line")
        if isinstance(line, int) and not isinstance(line, bool) and line >= (line_offset or 0):
            lines.setdefault(line - (line_offset or 0), _reason(problem))
    return Rejected(reason or "the provider refused the batch and gave no reason", lines)


def listed(content: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    """The batch objects of one page of a list. Raises `Ambiguous` when it is no page."""
    items = content.get("data")
    if not isinstance(items, list):
        raise Ambiguous("the answer is not a list of batches")
    return [item for item in items if isinstance(item, dict)]


def _problems(errors: object) -> Iterator[Mapping[str, object]]:
    entries = errors.get("data") if isinstance(errors, dict) else errors
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            yield entry


def _reason(problem: Mapping[str, object]) -> str:
    message = problem.get("message") or problem.get("code") or "no reason given"
    return str(message)[:500]
