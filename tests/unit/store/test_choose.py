"""The pure rule of sameness, held against a second reading of the design, and against the stories it was made for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.records import RequestState
from gateway.store.choose import Absent, Choice, Join, New, Serve, Take, choose, name_matches
from gateway.store.rows import Ask, Slot

NOW = 10_000.0
#: Moments on both sides of every limit (120 s and 600 s), and on it.
MOMENTS = [None, NOW - 601, NOW - 600, NOW - 300, NOW - 121, NOW - 120, NOW - 10, NOW]
STATES = list(RequestState)


def slot(ordinal: int = 0, **fields: object) -> Slot:
    """A pending slot nobody holds, but for what `fields` say."""
    return replace(Slot(seq=ordinal + 1, ordinal=ordinal, state=RequestState.QUEUED, held=False), **fields)


def answered(ordinal: int = 0, **fields: object) -> Slot:
    """A slot with an answer."""
    return slot(ordinal, state=RequestState.SUCCEEDED, ended_at=NOW - 1000, **fields)


def failed(ordinal: int = 0, **fields: object) -> Slot:
    """A slot that failed a moment ago."""
    return slot(ordinal, **{"state": RequestState.FAILED, "ended_at": NOW - 10, **fields})


@st.composite
def slots(draw: st.DrawFn) -> Slot:
    """Any slot the ledger may hand over, and some it never would."""
    state = draw(st.sampled_from(STATES))
    ended = state.ended
    given_ = draw(st.booleans())
    delivered_at = draw(st.sampled_from(MOMENTS)) if ended else None
    return Slot(
        seq=0,
        ordinal=0,
        state=state,
        held=draw(st.booleans()),
        waiters=draw(st.integers(0, 3)),
        deliveries=draw(st.integers(0 if delivered_at is None else 1, 3)) if ended else 0,
        first_delivered_at=delivered_at,
        last_delivered_at=delivered_at,
        left_at=draw(st.sampled_from(MOMENTS)),
        ended_at=draw(st.sampled_from(MOMENTS[1:])) if ended else None,
        permanent=ended and draw(st.booleans()),
        owed_until=draw(st.sampled_from([None, None, NOW - 1, NOW, NOW + 60])) if ended else None,
        no_cache=draw(st.booleans()),
        no_store=draw(st.booleans()),
        cancelling=not ended and draw(st.booleans()),
        given=given_,
        given_held=given_ and draw(st.booleans()),
        given_delivered=given_ and draw(st.booleans()),
    )


asks = st.builds(
    Ask,
    retry=st.booleans(),
    no_cache=st.booleans(),
    only_if_cached=st.booleans(),
    max_age=st.sampled_from([None, None, 0.0, 200.0]),
    run=st.sampled_from([None, "one"]),
)


def model(all_slots: list[Slot], ask: Ask) -> Choice:  # noqa: C901 - it reads as the design does, in one piece
    """The design's section 6 read once more, as a list of preferences: the first that any slot fits decides."""
    finished = {each.seq: each.state not in (RequestState.QUEUED, RequestState.BATCHED) for each in all_slots}
    good = {each.seq: each.state is RequestState.SUCCEEDED for each in all_slots}

    def within(moment: float | None, seconds: float) -> bool:
        return moment is not None and NOW - moment <= seconds

    def matches(each: Slot) -> bool:
        if ask.no_cache and (each.held or each.deliveries or not each.no_cache or not within(each.left_at, 600)):
            return False
        if good[each.seq]:
            own_try = ask.retry and each.deliveries == 0
            too_old = ask.max_age is not None and not own_try and not within(each.ended_at, ask.max_age)
            burnt = each.no_store and each.first_delivered_at is not None and not within(each.first_delivered_at, 600)
            return not too_old and not burnt
        if finished[each.seq] and each.permanent:
            return each.first_delivered_at is None or within(each.first_delivered_at, 120)
        if finished[each.seq]:
            return ask.retry and within(each.ended_at, 120)
        return ask.retry or not each.cancelling

    def in_turn(each: Slot) -> tuple[float, ...]:
        return each.deliveries, 0 if finished[each.seq] else 1, each.ordinal

    def by_waiters(each: Slot) -> tuple[float, ...]:
        return each.waiters, each.ordinal

    def told_last(some: list[Slot]) -> list[Slot]:
        told = [each for each in some if within(each.last_delivered_at, 600)]
        return sorted(told, key=lambda each: (-(each.last_delivered_at or 0), each.ordinal))

    owed = [each for each in all_slots if finished[each.seq] and each.owed_until is not None and each.owed_until > NOW]
    fit = [each for each in all_slots if matches(each)]
    live = [each for each in fit if finished[each.seq] or not each.cancelling]
    preferences: list[list[Slot]] = [sorted(owed, key=in_turn)]
    if ask.only_if_cached:
        stored = [each for each in fit if finished[each.seq]]
        preferences += [sorted((each for each in stored if not each.held), key=in_turn), sorted(stored, key=in_turn)]
    elif ask.run is None:
        for some in (live, fit) if ask.retry else ():
            preferences.append(sorted((each for each in some if not each.held and not each.deliveries), key=in_turn))
            preferences.append(sorted((each for each in some if each.held), key=by_waiters))
            preferences.append(told_last(some))
        preferences.append(sorted((each for each in fit if not each.held), key=in_turn))
    else:
        for some in (live, fit):
            mine = [each for each in some if each.given]
            preferences.append([each for each in mine if not each.given_delivered and not each.given_held])
            if ask.retry:
                preferences.append(sorted((each for each in mine if each.given_held), key=by_waiters))
                preferences.append(told_last(mine))
        preferences += [[each for each in some if not each.given] for some in (live, fit)]
    for preference in preferences:
        if preference:
            chosen = preference[0]
            return Serve(chosen) if finished[chosen.seq] else (Join if chosen.held else Take)(chosen)
    return Absent() if ask.only_if_cached else New()


@settings(max_examples=600)
@given(st.lists(slots(), max_size=6), asks, st.randoms(use_true_random=False))
def test_choosing_agrees_with_the_design_read_twice(drawn: list[Slot], ask: Ask, random: object) -> None:
    """Whatever the slots and the call, the rules choose what the design's text says, in whatever order slots come."""
    numbered = [replace(each, seq=place + 1, ordinal=place) for place, each in enumerate(drawn)]
    shuffled = list(numbered)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert choose(shuffled, ask, NOW) == model(numbered, ask)


@given(st.lists(slots(), max_size=6), asks)
def test_a_held_slot_is_shared_only_by_retries_and_runs(drawn: list[Slot], ask: Ask) -> None:
    """Two different callers never wait for one sample: only a retry, or another run, joins a held pending slot."""
    numbered = [replace(each, seq=place + 1, ordinal=place) for place, each in enumerate(drawn)]
    chosen = choose(numbered, ask, NOW)

    assert not isinstance(chosen, Join) or ask.retry or ask.run is not None


def test_simultaneous_calls_are_separate_samples() -> None:
    """A call whose sisters are all held makes a sample of its own."""
    sisters = [slot(ordinal, held=True, waiters=1) for ordinal in range(4)]

    assert choose(sisters, Ask(), NOW) == New()


def test_a_caller_that_hung_up_finds_its_slot_again() -> None:
    """An un-held pending slot is taken again, by a retry and by a new script alike."""
    left = slot(1, left_at=NOW - 5)
    others = [slot(0, held=True, waiters=1), left]

    assert choose(others, Ask(), NOW) == choose(others, Ask(retry=True), NOW) == Take(left)


def test_stored_samples_are_given_in_turn() -> None:
    """The sample with the fewest deliveries is next, the lowest of several."""
    stored = [answered(0, deliveries=2), answered(1, deliveries=1), answered(2, deliveries=1)]

    assert choose(stored, Ask(), NOW) == Serve(stored[1])


def test_a_retry_prefers_what_nobody_got() -> None:
    """A retry gets the finished answer that was never delivered before it joins anybody."""
    undelivered = answered(2)
    pool = [slot(0, held=True), answered(1, deliveries=1, last_delivered_at=NOW - 1), undelivered]

    assert choose(pool, Ask(retry=True), NOW) == Serve(undelivered)


def test_a_retry_beside_its_half_dead_socket_joins() -> None:
    """A retry of a call that seems to wait still shares its slot: the one with the fewest waiters."""
    pool = [slot(0, held=True, waiters=2), slot(1, held=True, waiters=1)]

    assert choose(pool, Ask(retry=True), NOW) == Join(pool[1])


def test_a_retry_gets_the_last_delivery_again_for_ten_minutes() -> None:
    """A delivery that broke off is repeated to a retry within 600 s, and afterwards samples go in turn again."""
    recent = [
        answered(0, deliveries=1, last_delivered_at=NOW - 600),
        answered(1, deliveries=2, last_delivered_at=NOW - 599),
    ]
    old = [replace(each, last_delivered_at=(each.last_delivered_at or 0) - 2) for each in recent]

    assert choose(recent, Ask(retry=True), NOW) == Serve(recent[1])
    assert choose(old, Ask(retry=True), NOW) == Serve(old[0])


def test_a_run_takes_each_sample_once_whoever_holds_it() -> None:
    """In a run the lowest sample it was never given is next, held by another or not, then a new one."""
    pool = [answered(0, given=True, given_delivered=True), slot(1, held=True), answered(2)]
    all_given = [replace(each, given=True, given_delivered=True) for each in pool]

    assert choose(pool, Ask(run="two"), NOW) == Join(pool[1])
    assert choose(all_given, Ask(run="two"), NOW) == New()


def test_a_run_gives_again_what_it_did_not_deliver() -> None:
    """A call of a run that hung up finds the sample it was given, before any new one."""
    pool = [answered(0), answered(1, given=True, deliveries=3)]

    assert choose(pool, Ask(run="one"), NOW) == Serve(pool[1])


def test_an_owed_failure_goes_to_whoever_asks() -> None:
    """After an aborted 200 every call of the question gets the failure, as often as it asks, until it is owed no more."""
    owed = failed(0, owed_until=NOW + 1, deliveries=3, ended_at=NOW - 5000)
    pool = [owed, answered(1)]

    assert (
        choose(pool, Ask(), NOW)
        == choose(pool, Ask(run="one"), NOW)
        == choose(pool, Ask(no_cache=True), NOW)
        == Serve(owed)
    )
    assert choose([replace(owed, owed_until=NOW), pool[1]], Ask(), NOW) == Serve(pool[1])


def test_a_permanent_failure_matches_until_two_minutes_after_its_delivery() -> None:
    """What can only fail again is not paid again, for 120 s after somebody was told."""
    untold = failed(permanent=True, ended_at=NOW - 9000)
    told = replace(untold, deliveries=1, first_delivered_at=NOW - 120)

    assert choose([untold], Ask(), NOW) == Serve(untold)
    assert choose([told], Ask(), NOW) == Serve(told)
    assert choose([replace(told, first_delivered_at=NOW - 121)], Ask(), NOW) == New()


def test_another_failure_matches_only_a_quick_retry() -> None:
    """A failure that may not come again is given to retries within 120 s of its end, and to nobody else."""
    assert choose([failed()], Ask(), NOW) == New()
    assert choose([failed()], Ask(retry=True), NOW) == Serve(failed())
    assert choose([failed(ended_at=NOW - 121)], Ask(retry=True), NOW) == New()


def test_what_is_being_cancelled_is_as_good_as_cancelled() -> None:
    """A retry of what is being cancelled shares its end; any other call is asked for anew, in a run and under a name too."""
    unwanted = slot(cancelling=True)
    pool = [unwanted, slot(1)]

    assert choose([unwanted], Ask(), NOW) == choose([unwanted], Ask(run="one"), NOW) == New()
    assert choose(pool, Ask(), NOW) == choose(pool, Ask(run="one"), NOW) == Take(pool[1])
    assert choose([unwanted], Ask(retry=True), NOW) == Take(unwanted)
    assert choose(pool, Ask(retry=True), NOW) == Take(pool[1])
    assert not name_matches(unwanted, Ask(), NOW)
    assert name_matches(unwanted, Ask(retry=True), NOW)


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("run", [None, "one"])
def test_the_retry_of_a_call_after_a_cancel_finds_its_own(run: str | None, *, held: bool) -> None:
    """Who asked anew after a cancel and asks once more, since the socket broke, is not given the end of what was cancelled."""
    marks: dict[str, object] = {"given": True, "given_held": held} if run else {}
    cancelled = slot(0, cancelling=True, given=run is not None)
    own = slot(1, held=held, waiters=int(held), **marks)
    chosen = choose([cancelled, own], Ask(retry=True, run=run), NOW)

    assert chosen == (Join if held else Take)(own)


def test_no_cache_finds_only_what_it_left_itself() -> None:
    """A call that wants no stored answer takes none, but finds the sample it left unread a moment ago."""
    own = answered(1, no_cache=True, left_at=NOW - 600)
    pool = [answered(0, left_at=NOW - 5), own]

    assert choose(pool, Ask(no_cache=True), NOW) == Serve(own)
    assert choose([pool[0], replace(own, left_at=NOW - 601)], Ask(no_cache=True), NOW) == New()
    assert choose([replace(own, deliveries=1)], Ask(no_cache=True), NOW) == New()


def test_no_store_stops_matching_ten_minutes_after_delivery() -> None:
    """An answer that is not to be stored is given again for 600 s, so that a broken delivery can be repeated."""
    burnt = answered(no_store=True, deliveries=1, first_delivered_at=NOW - 600)

    assert choose([burnt], Ask(), NOW) == Serve(burnt)
    assert choose([replace(burnt, first_delivered_at=NOW - 601)], Ask(), NOW) == New()


def test_only_if_cached_never_asks() -> None:
    """Without a finished sample the call is told that there is none, and nothing is made."""
    assert choose([slot()], Ask(only_if_cached=True), NOW) == Absent()
    assert choose([answered(deliveries=9)], Ask(only_if_cached=True), NOW) == Serve(answered(deliveries=9))


def test_max_age_leaves_out_older_answers() -> None:
    """An answer older than the caller allows does not count, unless a retry's own first try has paid for it."""
    old = answered()

    assert choose([old], Ask(max_age=999), NOW) == New()
    assert choose([old], Ask(max_age=1000), NOW) == Serve(old)
    assert choose([old], Ask(max_age=999, retry=True), NOW) == Serve(old)


def test_a_name_keeps_its_answer_and_loses_its_failure() -> None:
    """The holder of a name matches while it is pending or good; a failure does as long as it would without a name."""
    assert name_matches(slot(), Ask(), NOW)
    assert name_matches(answered(deliveries=1), Ask(), NOW)
    assert not name_matches(failed(), Ask(), NOW)
    assert name_matches(failed(), Ask(retry=True), NOW)
    assert name_matches(failed(owed_until=NOW + 1, ended_at=NOW - 5000), Ask(), NOW)
