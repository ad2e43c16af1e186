"""Where a batch stands at a moment: a pure function of its record and the time, so that nothing has to run in between."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from gateway.sandbox.records import StoredBatch


class Stage(enum.StrEnum):
    """The stages every simulated batch goes through; a simulator translates them into its provider's words."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self in (Stage.FAILED, Stage.COMPLETED, Stage.EXPIRED, Stage.CANCELLED)

    @property
    def yields(self) -> bool:
        """Whether there are result files."""
        return self in (Stage.COMPLETED, Stage.EXPIRED, Stage.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A stage, the part of the lines that is done, and when each stage that was reached began."""

    stage: Stage
    #: 0.0 to 1.0.
    done: float = 0.0
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    cancelling_at: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    at: float
    stage: Stage
    done: float


def life(batch: StoredBatch, now: float) -> Life:
    """Where `batch` stands at `now`. Asked after its validation should be over, it must have been checked."""
    plan = batch.plan
    hurried = math.inf if batch.hurried is None else batch.hurried
    validated = min(batch.created + plan.validating_seconds, hurried)
    if batch.problems:
        return Life(stage=Stage.FAILED, ended_at=validated) if now >= validated else Life(stage=Stage.VALIDATING)
    worked = math.inf if plan.endless else validated + plan.running_seconds
    worked = max(min(worked, hurried), validated)
    end = _end(batch, validated, worked)
    if now >= end.at:
        return _ended(batch, end, validated, worked, now)
    if now < validated:
        return Life(stage=Stage.VALIDATING)
    stage = Stage.IN_PROGRESS if now < worked else Stage.FINALIZING
    return Life(
        stage=stage,
        done=_progress(batch, validated, now),
        in_progress_at=validated,
        finalizing_at=worked if stage is Stage.FINALIZING else None,
    )


def validated_at(batch: StoredBatch) -> float:
    """From when on the lines of `batch` must have been checked."""
    validated = batch.created + batch.plan.validating_seconds
    return validated if batch.hurried is None else min(validated, batch.hurried)


def _end(batch: StoredBatch, validated: float, worked: float) -> _End:
    """The first of all the things that can end the batch."""
    plan = batch.plan
    deadline = math.inf if plan.endless else batch.created + plan.window_seconds
    ends = [_End(at=deadline, stage=Stage.EXPIRED, done=_progress(batch, validated, deadline))]
    if plan.ending == "expired":
        ends.append(_End(at=worked, stage=Stage.EXPIRED, done=plan.fraction))
    elif plan.ending == "cancelled":
        at = validated + (worked - validated) * plan.fraction if worked < math.inf else math.inf
        ends.append(_End(at=at, stage=Stage.CANCELLED, done=plan.fraction))
    else:
        finalizing = 0.0 if batch.hurried is not None else plan.finalizing_seconds
        ends.append(_End(at=worked + finalizing, stage=Stage.COMPLETED, done=1.0))
    if batch.cancelled is not None:
        done = _progress(batch, validated, batch.cancelled)
        ends.append(_End(at=batch.cancelled, stage=Stage.CANCELLED, done=done))
    return min(ends, key=lambda end: end.at)


def _ended(batch: StoredBatch, end: _End, validated: float, worked: float, now: float) -> Life:
    """The life of a batch whose end has come."""
    started = validated if end.at >= validated else None
    if end.stage is not Stage.CANCELLED:
        finalizing_at = worked if end.stage is Stage.COMPLETED else None
        return Life(
            stage=end.stage, done=end.done, in_progress_at=started, finalizing_at=finalizing_at, ended_at=end.at
        )
    over = end.at + batch.plan.cancelling_seconds
    return Life(
        stage=Stage.CANCELLED if now >= over else Stage.CANCELLING,
        done=end.done,
        in_progress_at=started,
        cancelling_at=end.at,
        ended_at=over if now >= over else None,
    )


def _progress(batch: StoredBatch, validated: float, at: float) -> float:
    """The part of the lines that is done at the moment `at`."""
    if at <= validated or batch.plan.endless:
        return 0.0
    if batch.plan.running_seconds <= 0:
        return 1.0
    return min(1.0, (at - validated) / batch.plan.running_seconds)
