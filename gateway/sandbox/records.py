"""What a simulator keeps: files, batches, and what became of lines. Frozen; a change is a new record in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file; its bytes lie in the store's folder under its id."""

    id: str
    filename: str
    purpose: str
    size: int
    #: Seconds since 1970, as every time here.
    created: float
    expires: float | None = None
    #: Until then its status says that it is being read.
    pending_until: float = 0.0
    #: Until then a create call cannot find it.
    hidden_until: float = 0.0
    #: The simulator's own notes, for uploads of several steps and the like.
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a batch was refused in validation; `line` counts from 1, None where the provider names none."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was decided about a batch's life when it was created."""

    validating_seconds: float
    running_seconds: float
    finalizing_seconds: float
    cancelling_seconds: float
    window_seconds: float
    #: Hidden from lists and from polls until then.
    listed_from: float = 0.0
    polled_from: float = 0.0
    #: Never ends by itself, not even by expiry.
    endless: bool = False
    #: How it ends by itself.
    ending: Literal["completed", "expired", "cancelled"] = "completed"
    #: The part of its lines that is done when it expires or is cancelled by others.
    fraction: float = 0.5
    #: Refused in validation for this reason, whatever its lines say.
    refusal: Problem | None = None
    #: Every line fails with this status.
    failing_status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one line.

    `status` 200 with the answer as `body`; another status with the provider's error object as `body`; None with a `reason` for
    a line that was never answered: `expired`, `cancelled` or `timeout`.
    """

    status: int | None
    body: Mapping[str, object] | None = None
    reason: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Yield:
    """The result files of an ended batch; an empty id where there is no such file."""

    output_file_id: str = ""
    error_file_id: str = ""
    succeeded: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBatch:
    """One batch; where it stands is a function of this record and the time (`gateway.sandbox.lifecycle`)."""

    id: str
    #: Place in the order of creation.
    number: int
    created: float
    endpoint: str
    file_id: str
    model: str
    #: Estimated input tokens.
    tokens: int
    plan: Plan
    metadata: Mapping[str, str] | None = None
    #: Lifetime of its result files.
    output_seconds: float | None = None
    #: The model of the create call's own body, options and the like, for simulators that need more.
    extra: Mapping[str, str] = field(default_factory=dict)
    #: When cancelling was asked for.
    cancelled: float | None = None
    #: When it was told to finish at once.
    hurried: float | None = None
    #: Whether its lines have been read; then `total` and `problems` hold.
    checked: bool = False
    total: int = 0
    problems: tuple[Problem, ...] = ()
    #: Its result files, once it has ended and somebody has looked.
    results: Yield | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One input line as the simulator understood it; with a `problem`, the rest may be empty."""

    custom_id: str
    model: str = ""
    body: Mapping[str, object] = field(default_factory=dict)
    problem: Problem | None = None
