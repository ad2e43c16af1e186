"""From a `BatchPredictionJob` to a `RemoteBatch`. Pure and liberal: all but the name may be missing, null or odd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from gateway import Ambiguous, Batch, ProviderError, Rejected, RemoteBatch, RemoteState, TokenLimit, Unauthorised
from gateway.reading import count, items, mapping, moment, text
from gateway.records import is_marker
from gateway_gemini.answer import status_of as http_status_of
from gateway_gemini.remote import is_empty
from gateway_vertex.places import Place

#: The words of the API, less what stands before and in `_STATE_` -> ours. Unknown words count as running.
STATES: Mapping[str, RemoteState] = MappingProxyType(
    {
        **dict.fromkeys(
            ("QUEUED", "PENDING", "RUNNING", "CANCELLING", "PAUSED", "UPDATING", "UNSPECIFIED"), RemoteState.RUNNING
        ),
        **dict.fromkeys(("SUCCEEDED", "PARTIALLY_SUCCEEDED", "CANCELLED", "EXPIRED", "FAILED"), RemoteState.ENDED),
    }
)
CANCELLING = "CANCELLING"
FAILED = "FAILED"
#: In `RemoteBatch.where`: the directory that the job says it made, and the prefix it was told to make it under.
OUTPUT, PREFIX = "output", "prefix"
#: The label of a job that carries the marker too.
MARKER_LABEL = "batchway"

_MAX_REASON = 500


def job_of(batch: Batch, model: str, bucket: Place) -> dict[str, object]:
    """The create call's body: the marker is the display name, a label, and the place of input and output."""
    place = bucket.of_batch(batch.marker)
    return {
        "displayName": display_name(batch.marker),
        "model": model,
        "inputConfig": {
            "instancesFormat": "jsonl",
            "gcsSource": {"uris": [batch.file_id or f"{place.uri}input.jsonl"]},
        },
        "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": place.output.uri}},
        "labels": {MARKER_LABEL: batch.marker},
    }


def display_name(marker: str) -> str:
    """What a batch's job is called."""
    return f"batchway-{marker}"


def is_ours(job: Mapping[str, object], batch: Batch) -> bool:
    """Whether a listed job carries the marker of `batch`."""
    labels = mapping(job.get("labels"))
    return job.get("displayName") == display_name(batch.marker) or labels.get(MARKER_LABEL) == batch.marker


def marker_of(job: Mapping[str, object]) -> str | None:
    """The marker that a listed job carries; None: it is nobody's of our kind."""
    marker = (text(job.get("displayName")) or "").removeprefix(display_name(""))
    words = (mapping(job.get("labels")).get(MARKER_LABEL), marker)
    return next((word for word in words if is_marker(word)), None)


def remote_batch(job: Mapping[str, object]) -> RemoteBatch:
    """The batch that `job` describes. Raises `Ambiguous` when it has no name."""
    name = text(job.get("name"))
    if name is None:
        raise Ambiguous("the answer names no job")
    word = status_of(job)
    state = STATES.get(word, RemoteState.RUNNING)
    where = _where(job)
    done, total = _counts(mapping(job.get("completionStats")), ended=state is RemoteState.ENDED)
    refusal = refusal_of(job) if word == FAILED and not (where.get(OUTPUT) and done != 0) else None
    return RemoteBatch(
        remote_id=name,
        state=state if refusal is None else RemoteState.REFUSED,
        created=moment(job.get("createTime")),
        total=total,
        done=done,
        refusal=refusal,
        where=where,
    )


def status_of(job: Mapping[str, object]) -> str:
    """The API's own word for the state, without its prefix and in upper case; empty when there is none."""
    return (text(job.get("state")) or "").upper().rpartition("_STATE_")[2]


def refusal_of(job: Mapping[str, object]) -> ProviderError | None:
    """Why a job that failed was refused; None when it broke down instead, and another may do better."""
    error = mapping(job.get("error"))
    told = [error, *map(mapping, items(job.get("partialFailures"))[:4])]
    messages = [message for each in told if (message := text(each.get("message")))]
    reason = "; ".join(dict.fromkeys(messages))[:_MAX_REASON] or "the job failed and gave no reason"
    status, retriable = http_status_of(error)
    if status in (401, 403):
        return Unauthorised(reason)
    if status == 429:
        return TokenLimit(reason)
    return None if retriable else Rejected(reason)


def listed(page: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    """The jobs of one page of a list; a page without any has no such field. Raises `Ambiguous` when it is no page."""
    jobs = page.get("batchPredictionJobs")
    if not isinstance(jobs, list) and not is_empty(page):
        raise Ambiguous("the answer is not a list of jobs")
    return [job for job in items(jobs) if isinstance(job, dict)]


def _where(job: Mapping[str, object]) -> dict[str, str]:
    directory = text(mapping(job.get("outputInfo")).get("gcsOutputDirectory"))
    destination = mapping(mapping(job.get("outputConfig")).get("gcsDestination"))
    prefix = text(destination.get("outputUriPrefix"))
    return {field: uri for field, uri in ((OUTPUT, directory), (PREFIX, prefix)) if uri is not None}


def _counts(stats: Mapping[str, object], *, ended: bool) -> tuple[int | None, int | None]:
    """Lines that are done, and lines that are counted; of an ended job, those that have a row: others never get one.

    Numbers come as strings, and -1 stands for unknown.
    """
    succeeded, failed = count(stats.get("successfulCount")), count(stats.get("failedCount"))
    if succeeded is None and failed is None:
        return None, None
    done = (succeeded or 0) + (failed or 0)
    if ended:
        return done, done or None
    left = count(stats.get("incompleteCount"))
    return done, None if left is None else done + left
