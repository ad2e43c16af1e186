"""What a line comes to: an answer, a failure, or another try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from gateway.config import Retries
from gateway.endings.words import Way, cancelled, exhausted, refused_line, rejected, unsatisfied
from gateway.prices import Price, cost, read_usage
from gateway.records import RequestState, Result
from gateway.rows import write_json
from gateway.store.rows import Ending
from gateway.store.shipping import INVALID_OUTPUT, BatchRow, Member, Settlement, Usage
from gateway.validation import Verdict

#: A returned line waits at most this long before it may be batched again.
LONGEST_BACKOFF_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """What a lane's tokens cost: at the batch price, and at the list price. None: unknown."""

    batch: Price | None
    full: Price | None
    #: False: asked one by one; nothing is saved, whatever it costs.
    discounted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was found of an answer whose request wanted it in a form."""

    verdict: Verdict
    #: An answer to the same request did not satisfy it before.
    again: bool = False


def settle(
    result: Result | None,
    member: Member,
    batch: BatchRow,
    pricing: Pricing,
    retries: Retries,
    *,
    now: float,
    judged: Judged | None = None,
) -> Settlement:
    """What line `member.n` came to; `result` None: the provider has no row for it."""
    way = Way(provider=batch.lane.provider, batch=batch.id)
    return settle_by(way, result, member, pricing, retries, now=now, judged=judged)


def settle_by(
    way: Way,
    result: Result | None,
    member: Member,
    pricing: Pricing,
    retries: Retries,
    *,
    now: float,
    judged: Judged | None = None,
) -> Settlement:
    """What a request came to, whichever way it went; `result` None: there was no answer that could be read."""
    if result is not None and result.status == 200 and result.body is not None:
        answered = _success(whole(result.body, member.seq, now), member, way, pricing)
        return answered if judged is None else _judged(answered, judged, member, way, retries, now=now)
    status = 0 if result is None else result.status
    trouble = _trouble(result)
    if result is None or result.retriable:
        if member.cancel_at is not None:
            return _ended(member, status, cancelled(way.provider, way.batch), trouble)
        if member.attempts + 1 < retries.max_attempts:
            not_before = now + _pause(member, retries)
            return Settlement(n=member.n, status=status, ending=None, trouble=trouble, not_before=not_before)
        return _ended(member, status, exhausted(trouble, result, way, retries), trouble)
    return _ended(member, status, refused_line(result, way), trouble)


def refused(way: Way, n: int, reason: str, *, param: str | None = None) -> Settlement:
    """A request the provider, or its plugin, refused for good when it was sent; `param` is the field in the way."""
    return Settlement(n=n, status=0, ending=rejected(reason, way, param), trouble="refused")


def whole(body: Mapping[str, object], seq: int, now: float) -> Mapping[str, object]:
    """A chat completion with what OpenAI's always has; a provider's own words stay.

    Where they are missing or null: `id` is made of the request's number, so that it is the same however often the answer is
    read; `created` is `now`, when the answer came.
    """
    if "choices" not in body:
        return body
    ours = {"id": f"chatcmpl-bw{seq}", "object": "chat.completion", "created": int(now)}
    missing = {name: word for name, word in ours.items() if body.get(name) is None}
    return {**body, **missing} if missing else body


def _success(body: Mapping[str, object], member: Member, way: Way, pricing: Pricing) -> Settlement:
    usage = read_usage(body.get("usage"))
    paid = cost(pricing.batch, usage)
    full = cost(pricing.full, usage)
    saved = full - paid if full is not None and paid is not None else None
    if not pricing.discounted:
        saved = 0.0
    ending = Ending(
        state=RequestState.SUCCEEDED,
        status=200,
        code=None,
        body=write_json(body),
        provider=way.provider,
        batch=way.batch,
        cost_usd=paid,
        saved_usd=saved,
    )
    counted = None
    if usage is not None:
        counted = Usage(input_tokens=usage.input, cached_tokens=usage.cached, output_tokens=usage.output)
    return Settlement(n=member.n, status=200, ending=ending, usage=counted, cost_usd=paid, saved_usd=saved, billed=True)


def _judged(
    answered: Settlement, judged: Judged, member: Member, way: Way, retries: Retries, *, now: float
) -> Settlement:
    """An answer that was paid, by what was found of it. Whoever wishes it cancelled is not made to pay another one."""
    if judged.verdict is Verdict.UNDECIDED:
        return replace(answered, output="undecided")
    if judged.verdict is Verdict.VALID:
        return replace(answered, output="retry_success" if judged.again else "validated")
    if member.cancel_at is None and member.attempts + 1 < retries.max_attempts:
        not_before = now + _pause(member, retries)
        kept = answered.ending if retries.invalid_output == "retry" else None
        return replace(
            answered,
            ending=None,
            saved_usd=None,
            trouble=INVALID_OUTPUT,
            not_before=not_before,
            output="retried",
            kept=kept,
        )
    if retries.invalid_output != "fail":
        return replace(answered, output="served")
    ending = unsatisfied(member.attempts + 1, way, answered.cost_usd)
    return replace(answered, ending=ending, saved_usd=None, trouble=INVALID_OUTPUT, output="failed")


def _pause(member: Member, retries: Retries) -> float:
    """How long a request that goes back waits before it may be sent again."""
    return min(LONGEST_BACKOFF_SECONDS, retries.backoff_seconds * 2.0 ** min(member.attempts, 20))


def _ended(member: Member, status: int, ending: Ending, trouble: str) -> Settlement:
    return Settlement(n=member.n, status=status, ending=ending, trouble=trouble)


def _trouble(result: Result | None) -> str:
    """One word for what went wrong with a line."""
    if result is None:
        return "missing"
    code = (result.error.code if result.error is not None else None) or ""
    if code in {"batch_expired", "request_timeout", "batch_cancelled"}:
        return {"batch_expired": "expired", "request_timeout": "timeout", "batch_cancelled": "cancelled"}[code]
    if result.status == 429:
        return "rate_limited"
    if result.status == 408:
        return "timeout"
    if result.status >= 500:
        return "server_error"
    return "missing" if result.retriable else "refused"
