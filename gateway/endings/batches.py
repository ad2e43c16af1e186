"""What a batch comes to that its provider refused as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.endings.words import Way, rejected
from gateway.errors import Ambiguous, Missing, ProviderError, Rejected, Retryable, TokenLimit, Unauthorised
from gateway.store.rows import Ending
from gateway.store.shipping import BatchRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Dissolution:
    """What a refused batch falls apart into."""

    #: Requests that end, by their place.
    refused: Mapping[int, Ending] = field(default_factory=dict)
    #: Into how many new batches the others go; 0: back to their lane.
    parts: int = 0
    #: The lane's batches must get smaller and wait.
    shrink: bool = False


def dissolution(batch: BatchRow, refusal: ProviderError) -> Dissolution:
    """What to do with a batch the provider refused as a whole; no attempt is counted.

    Named lines fail and the others go back. Unnamed, the batch is halved until the offending line stands alone. What says
    nothing of the lines, as a refused key, sends all of them back.
    """
    if isinstance(refusal, TokenLimit):
        return Dissolution(shrink=True)
    if isinstance(refusal, Unauthorised | Retryable | Missing | Ambiguous):
        return Dissolution()
    lines = refusal.lines if isinstance(refusal, Rejected) else {}
    named = {n: reason for n, reason in lines.items() if 0 <= n < batch.count}
    if not named and batch.count > 1:
        return Dissolution(parts=2)
    reasons = named or {0: refusal.reason}
    way = Way(provider=batch.lane.provider, batch=batch.id)
    return Dissolution(refused={n: rejected(reason or refusal.reason, way) for n, reason in reasons.items()})
