"""Sameness: which sample an unnamed call gets. Pure; the loop and the writer ask the same function.

A slot *counts* for a call when it may be given to it at all. Then the first rule that finds one decides:

    owed       a failure that could only be shown as a cut connection goes to whoever asks, for a while
    stored     only-if-cached takes what is finished
    run        within a run: what it was given and did not get, then the lowest sample it was never given
    retry      a client that asks again wants what it asked for before
    general    the un-held slot with the fewest deliveries

If none does, the call makes a new slot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gateway.records import RequestState
from gateway.store.rows import Ask, Slot

#: A retry gets again what was delivered to somebody this long ago: the delivery may have broken off.
REDELIVER_SECONDS = 600.0
#: For how long after its first delivery, or its end, a failure is given to others.
FAILURE_SECONDS = 120.0
#: For how long a failure behind an aborted 200 is owed to whoever asks.
OWED_SECONDS = 120.0
#: For how long a call that wants no stored answer finds the slot that it, or its like, left without an answer.
NO_CACHE_SECONDS = 600.0
#: For how long after its first delivery an answer that is not to be stored is given to others.
NO_STORE_SECONDS = 600.0
#: A detached call that comes again within this time gets the same request.
DETACHED_SECONDS = 120.0
#: Slots of one fingerprint that are looked at.
SLOT_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Serve:
    """The slot is finished: give its ending."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for a pending slot beside those who hold it."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Take:
    """Hold a pending slot that nobody waits for."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class New:
    """Make a new slot: it will be asked, and paid."""


@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing is stored, and nothing may be asked."""


Choice = Serve | Join | Take | New | Absent


def choose(slots: Sequence[Slot], ask: Ask, now: float) -> Choice:
    """What a call of the slots' fingerprint gets. The order of `slots` does not matter."""
    rules = [_owed]
    if ask.only_if_cached:
        rules.append(_stored)
    elif ask.run is not None:
        rules += [_run_retry, _run] if ask.retry else [_run]
    else:
        rules += [_retry, _general] if ask.retry else [_general]
    counting = [slot for slot in slots if counts(slot, ask, now)]
    live = [slot for slot in counting if not slot.cancelling]
    for rule in rules:
        # Whoever asked again after a cancel has a live slot of his own: a retry of that call must not end with the other.
        slot = rule(slots, now) if rule is _owed else rule(live, now) or rule(counting, now)
        if slot is not None:
            return _give(slot)
    return Absent() if ask.only_if_cached else New()


def counts(slot: Slot, ask: Ask, now: float) -> bool:
    """Whether `slot` may be given to the call at all."""
    if ask.no_cache and not _left_by_no_cache(slot, now):
        return False
    if not slot.state.ended:
        return is_wanted(slot, ask)
    if slot.state is RequestState.SUCCEEDED:
        return _fresh_enough(slot, ask, now) and not _outlived(slot, now)
    return failure_matches(slot, ask, now)


def failure_matches(slot: Slot, ask: Ask, now: float) -> bool:
    """Whether a failure that is not owed is given: permanent ones to all, others to a retry, each for a while."""
    if slot.permanent:
        return slot.first_delivered_at is None or now <= slot.first_delivered_at + FAILURE_SECONDS
    return ask.retry and slot.ended_at is not None and now <= slot.ended_at + FAILURE_SECONDS


def is_wanted(slot: Slot, ask: Ask) -> bool:
    """Whether a pending slot is given: one that is being cancelled as if it were over, to a retry only."""
    return ask.retry or not slot.cancelling


def is_owed(slot: Slot, now: float) -> bool:
    """Whether a caller was cut off with this failure a moment ago."""
    return slot.state.ended and slot.owed_until is not None and now < slot.owed_until


def name_matches(slot: Slot, ask: Ask, now: float) -> bool:
    """Whether the holder of a name is given to a call of that name: pending and good ones always, failures for a while.

    One that is being cancelled is as good as a failure.
    """
    good = slot.state is RequestState.SUCCEEDED if slot.state.ended else is_wanted(slot, ask)
    return good or is_owed(slot, now) or failure_matches(slot, ask, now)


def _give(slot: Slot) -> Choice:
    if slot.state.ended:
        return Serve(slot)
    return Join(slot) if slot.held else Take(slot)


def _left_by_no_cache(slot: Slot, now: float) -> bool:
    recently = slot.left_at is not None and now <= slot.left_at + NO_CACHE_SECONDS
    return slot.no_cache and slot.deliveries == 0 and not slot.held and recently


def _fresh_enough(slot: Slot, ask: Ask, now: float) -> bool:
    # What a retry's own first try has paid for is never too old for it.
    if ask.max_age is None or (ask.retry and slot.deliveries == 0):
        return True
    return slot.ended_at is not None and now <= slot.ended_at + ask.max_age


def _outlived(slot: Slot, now: float) -> bool:
    delivered_at = slot.first_delivered_at
    return slot.no_store and delivered_at is not None and now > delivered_at + NO_STORE_SECONDS


def _owed(slots: Sequence[Slot], now: float) -> Slot | None:
    return _first((slot for slot in slots if is_owed(slot, now)), _fewest_deliveries)


def _stored(slots: Sequence[Slot], now: float) -> Slot | None:  # noqa: ARG001 - every rule is asked alike
    finished = (slot for slot in slots if slot.state.ended)
    return _first(finished, lambda slot: (slot.held, *_fewest_deliveries(slot)))


def _general(slots: Sequence[Slot], now: float) -> Slot | None:  # noqa: ARG001 - every rule is asked alike
    return _first((slot for slot in slots if not slot.held), _fewest_deliveries)


def _retry(slots: Sequence[Slot], now: float) -> Slot | None:
    waiting = _first((slot for slot in slots if not slot.held and slot.deliveries == 0), _fewest_deliveries)
    # A held one: the retry's own first socket may be half dead.
    return waiting or _first((slot for slot in slots if slot.held), _fewest_waiters) or _delivered_last(slots, now)


def _run(slots: Sequence[Slot], now: float) -> Slot | None:  # noqa: ARG001 - every rule is asked alike
    undelivered = (slot for slot in slots if slot.given and not slot.given_delivered and not slot.given_held)
    return _first(undelivered, _ordinal) or _first((slot for slot in slots if not slot.given), _ordinal)


def _run_retry(slots: Sequence[Slot], now: float) -> Slot | None:
    # As _retry, among what this run was given: it must not cost the run another sample.
    given = [slot for slot in slots if slot.given]
    waiting = _first((slot for slot in given if not slot.given_delivered and not slot.given_held), _ordinal)
    half_dead = (slot for slot in given if slot.given_held)
    return waiting or _first(half_dead, _fewest_waiters) or _delivered_last(given, now)


def _delivered_last(slots: Iterable[Slot], now: float) -> Slot | None:
    recent = (slot for slot in slots if now <= _last_delivery(slot) + REDELIVER_SECONDS)
    return _first(recent, lambda slot: (-_last_delivery(slot), slot.ordinal))


def _last_delivery(slot: Slot) -> float:
    return -math.inf if slot.last_delivered_at is None else slot.last_delivered_at


def _fewest_deliveries(slot: Slot) -> tuple[float, ...]:
    return (slot.deliveries, not slot.state.ended, slot.ordinal)


def _fewest_waiters(slot: Slot) -> tuple[float, ...]:
    return (slot.waiters, slot.ordinal)


def _ordinal(slot: Slot) -> tuple[float, ...]:
    return (slot.ordinal,)


def _first(slots: Iterable[Slot], key: Callable[[Slot], tuple[float, ...]]) -> Slot | None:
    return min(slots, key=key, default=None)
