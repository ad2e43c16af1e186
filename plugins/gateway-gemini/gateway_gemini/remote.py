"""From the API's long-running operation to a `RemoteBatch`. Pure and liberal: all but the name may be missing or odd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from gateway import Ambiguous, Batch, ProviderError, Rejected, RemoteBatch, RemoteState, TokenLimit, Unauthorised
from gateway.reading import count, items, mapping, moment, text
from gateway.records import is_marker
from gateway.rows import write_json

#: The state without its prefix, `BATCH_STATE_` or `JOB_STATE_` -> ours. FAILED is looked at more closely.
STATES: Mapping[str, RemoteState] = MappingProxyType(
    {
        "UNSPECIFIED": RemoteState.RUNNING,
        "QUEUED": RemoteState.RUNNING,
        "PENDING": RemoteState.RUNNING,
        "RUNNING": RemoteState.RUNNING,
        "CANCELLING": RemoteState.RUNNING,
        "PAUSED": RemoteState.RUNNING,
        "UPDATING": RemoteState.RUNNING,
        "SUCCEEDED": RemoteState.ENDED,
        "PARTIALLY_SUCCEEDED": RemoteState.ENDED,
        "EXPIRED": RemoteState.ENDED,
        "CANCELLED": RemoteState.ENDED,
        "FAILED": RemoteState.ENDED,
    }
)
#: google.rpc codes of a failed batch that say no for good; after any other the lines may be tried again.
_NO = frozenset({3, 5, 6, 9, 11, 12})
_KEY_PROBLEM = frozenset({7, 16})
_NO_ROOM = 8
_MARK = "batchway-"
#: What a page of a list may have beside its items.
_BESIDE_ITEMS = frozenset({"nextPageToken", "unreachable"})
#: Where the name of the result file is kept.
RESULT_FILE = "responses_file"


def display_name(marker: str) -> str:
    """The name that carries the marker."""
    return _MARK + marker


def remote_batch(operation: Mapping[str, object]) -> RemoteBatch:
    """The batch that `operation` describes. Raises `Ambiguous` when it has no name."""
    about = _about(operation)
    name = text(operation.get("name")) or text(about.get("name"))
    if name is None:
        raise Ambiguous("the answer names no batch")
    state = _state(operation)
    refused = refusal(operation) if state is RemoteState.ENDED else None
    stats = mapping(about.get("batchStats"))
    done = [count(stats.get(field)) for field in ("successfulRequestCount", "failedRequestCount")]
    known = [counted for counted in done if counted is not None]
    file = result_file(operation)
    return RemoteBatch(
        remote_id=name,
        state=RemoteState.REFUSED if refused is not None else state,
        created=moment(about.get("createTime")),
        total=count(stats.get("requestCount")) or None,
        done=sum(known) if known else None,
        refusal=refused,
        where={RESULT_FILE: file} if file else {},
    )


def state_name(operation: Mapping[str, object]) -> str:
    """The API's own word for the state, without its prefix; empty when there is none."""
    state = (text(_about(operation).get("state")) or "").upper()
    return state.removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")


def refusal(operation: Mapping[str, object]) -> ProviderError | None:
    """Why a failed batch was refused as a whole; None when it has output, or when it broke down on the way."""
    error = mapping(operation.get("error"))
    if state_name(operation) not in ("FAILED", "") or not error or _has_output(operation):
        return None
    code = count(error.get("code"))
    reason = (text(error.get("message")) or "the provider gave no reason")[:500]
    if code == _NO_ROOM:
        return TokenLimit(reason)
    if code in _KEY_PROBLEM:
        return Unauthorised(reason)
    return Rejected(reason) if code in _NO else None


def listed(page: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    """The operations of one page of a list; a page without any has no such field. Raises `Ambiguous` when it is no page."""
    found = page.get("operations", page.get("batches"))
    if not isinstance(found, list) and not is_empty(page):
        raise Ambiguous("the answer is not a list of batches")
    return [mapping(item) for item in items(found)]


def is_empty(page: Mapping[str, object]) -> bool:
    """Whether a page without items has nothing in it that a page of a list does not have: Google leaves out empty fields."""
    return not {field for field, content in page.items() if content is not None} - _BESIDE_ITEMS


def result_file(operation: Mapping[str, object]) -> str | None:
    """The name of the file that holds the results."""
    return next((file for output in _outputs(operation) if (file := text(output.get("responsesFile")))), None)


def inlined_rows(operation: Mapping[str, object]) -> Iterator[bytes]:
    """Results that came inside the batch object, as rows of a file; the first of its two places that has any."""
    for output in _outputs(operation):
        for field in ("inlinedResponses", "inlinedEmbedContentResponses"):
            inner = mapping(output.get(field))
            rows = items(inner.get(field)) or items(inner.get("inlinedResponses")) or items(output.get(field))
            for row in rows:
                content = dict(mapping(row))
                key = mapping(content.pop("metadata", None)).get("key", content.get("key"))
                yield write_json({"key": key} | content)
            if rows:
                return


def is_ours(operation: Mapping[str, object], batch: Batch) -> bool:
    """Whether a listed batch carries the marker of `batch`, or was made of its file."""
    about = _about(operation)
    if text(about.get("displayName")) == display_name(batch.marker):
        return True
    file = text(mapping(about.get("inputConfig")).get("fileName"))
    return file is not None and file in {batch.file_id, f"files/{batch.marker}"}


def marker_of(operation: Mapping[str, object]) -> str | None:
    """The marker that a listed batch carries; None: it is nobody's of our kind."""
    name = text(_about(operation).get("displayName")) or ""
    marker = name.removeprefix(_MARK)
    return marker if name.startswith(_MARK) and is_marker(marker) else None


def _state(operation: Mapping[str, object]) -> RemoteState:
    """By the word if it is known, else by whether the operation is done."""
    known = STATES.get(state_name(operation))
    if operation.get("done") is True and known in (None, RemoteState.RUNNING):
        return RemoteState.ENDED
    return known or RemoteState.RUNNING


def _about(operation: Mapping[str, object]) -> Mapping[str, object]:
    """The batch inside the operation; the object itself where there is no wrapping."""
    return mapping(operation.get("metadata")) or operation


def _outputs(operation: Mapping[str, object]) -> list[Mapping[str, object]]:
    """Both places that tell of the output."""
    response = mapping(operation.get("response"))
    places = (_about(operation).get("output"), response, response.get("output"))
    return [found for place in places if (found := mapping(place))]


def _has_output(operation: Mapping[str, object]) -> bool:
    return result_file(operation) is not None or next(inlined_rows(operation), None) is not None
