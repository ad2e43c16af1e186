"""Admission, within one transaction: recognise each arrival by name or by fingerprint, or have it recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from gateway.errors import LedgerError
from gateway.records import RequestState
from gateway.store.choose import SLOT_LIMIT, Absent, Choice, New, Serve, Take, choose, name_matches
from gateway.store.database import Row, Session
from gateway.store.departures import depart
from gateway.store.endings import read_ending
from gateway.store.naming import new_token, own_id
from gateway.store.recording import Recorder
from gateway.store.rows import SIMULATED, Admission, Arrival, Departure, Ending, LaneKey, Slot
from gateway.store.slots import load_slots, recently_detached, slot_extent, slot_of

#: Another replica may take a slot between the look and the update; then look again, so often.
TAKES = 5


class Admitter:
    """One group of arrivals; `run` may be called again if the transaction had to be undone."""

    def __init__(
        self, arrivals: Sequence[Arrival], departures: Sequence[Departure], *, boot: int, now: float, room: bool = True
    ) -> None:
        """Secrets are drawn here, so that `run` depends on the database alone. Without `room` nothing new is recorded."""
        self._room = room
        self._arrivals = [(arrival, new_token()) for arrival in arrivals]
        self._departures = departures
        self._boot = boot
        self._now = now

    def run(self, session: Session) -> list[Admission]:
        """Fold departures, then admit each arrival in order."""
        depart(session, self._departures, boot=self._boot)
        group = _Group(session, boot=self._boot, now=self._now, room=self._room)
        admissions = [group.admit(arrival, token) for arrival, token in self._arrivals]
        group.recorder.book()
        return admissions


class _Group:
    """The arrivals of one transaction, and what they have been given so far; goes with it if it is undone."""

    def __init__(self, session: Session, *, boot: int, now: float, room: bool) -> None:
        self._session = session
        self._boot = boot
        self._now = now
        self._room = room
        self.recorder = Recorder(session, boot=boot, now=now)
        self._served: dict[int, int] = {}
        self._unrecorded: Counter[tuple[bytes, int]] = Counter()

    def admit(self, arrival: Arrival, token: str) -> Admission:
        if arrival.custom_id is not None:
            return self._admit_named(arrival, token, arrival.custom_id)
        if arrival.ask.slotless:
            return self._admit_detached(arrival, token)
        return self._admit_slot(arrival, token)

    def _admit_named(self, arrival: Arrival, token: str, name: str) -> Admission:
        row = self._session.row("named_request", {"name": name, "job": arrival.job, "client": arrival.client})
        if row is not None and not only_rehearsed(row[12], arrival.lane):
            holder = _named_slot(row)
            if row[10] != arrival.body_hash:
                return Admission(seq=holder.seq, custom_id=name, fresh=False, conflict=True)
            if name_matches(holder, arrival.ask, self._now):
                return self._attach_named(arrival, holder, name)
        if arrival.ask.only_if_cached:
            return Admission(seq=0, custom_id=name, fresh=False, absent=True)
        if not self._room:
            return Admission(seq=0, custom_id=name, fresh=False, full=True)
        if row is not None:
            self._session.run("lose_name", {"seq": row[0]})
        seq = self.recorder.record(arrival, token, held=not arrival.ask.detached)
        return Admission(seq=seq, custom_id=name, fresh=True)

    def _attach_named(self, arrival: Arrival, holder: Slot, name: str) -> Admission:
        if holder.state.ended:
            return Admission(seq=holder.seq, custom_id=name, fresh=False, ending=_ending(self._session, holder.seq))
        if arrival.ask.only_if_cached:
            return Admission(seq=holder.seq, custom_id=name, fresh=False, absent=True)
        if arrival.ask.detached:
            self._session.run("promise_request", {"seq": holder.seq})
        else:
            self._session.run("hold_request", {"seq": holder.seq, "boot": self._boot})
        return Admission(seq=holder.seq, custom_id=name, fresh=False)

    def _admit_detached(self, arrival: Arrival, token: str) -> Admission:
        if arrival.ask.retry:
            found = recently_detached(self._session, arrival.fingerprint, self._now)
            if found is not None:
                seq, known = found
                return Admission(
                    seq=seq, custom_id=own_id(seq, known), fresh=False, ending=read_ending(self._session, seq)
                )
        if not self._room:
            return Admission(seq=0, custom_id="", fresh=False, full=True)
        seq = self.recorder.record(arrival, token, held=False)
        return Admission(seq=seq, custom_id=own_id(seq, token), fresh=True)

    def _admit_slot(self, arrival: Arrival, token: str) -> Admission:
        extent = slot_extent(self._session, arrival.fingerprint)
        if extent == 0 and arrival.samples and not self._room:
            return self._serve_unrecorded(arrival)
        if arrival.samples and self._room:
            extent = max(extent, self.recorder.restore(arrival))
        choice = self._choose(arrival, extent) if extent else choose((), arrival.ask, self._now)
        if isinstance(choice, Absent):
            return Admission(seq=0, custom_id="", fresh=False, absent=True)
        if isinstance(choice, New) and not self._room:
            return Admission(seq=0, custom_id="", fresh=False, full=True)
        if isinstance(choice, New):
            return self._make_slot(arrival, token, extent)
        slot = choice.slot
        self._give(arrival, slot.ordinal)
        ending = None
        if isinstance(choice, Serve):
            ending = _ending(self._session, slot.seq)
            self._served[slot.seq] = self._served.get(slot.seq, 0) + 1
        return Admission(
            seq=slot.seq, custom_id=slot.custom_id, fresh=False, ending=ending, sample=slot.ordinal + 1, of=extent
        )

    def _serve_unrecorded(self, arrival: Arrival) -> Admission:
        """An answer that only the cache has, without a slot in the ledger: there is no room for one.

        Those of one group get different samples; what later ones got before is not known. A run, which must know, has to wait.
        """
        if arrival.ask.run is not None:
            return Admission(seq=0, custom_id="", fresh=False, full=True)
        slots = [slot_of(sample, self._unrecorded[arrival.fingerprint, sample.ordinal]) for sample in arrival.samples]
        choice = choose(slots, arrival.ask, self._now)
        if not isinstance(choice, Serve):
            absent = isinstance(choice, Absent)
            return Admission(seq=0, custom_id="", fresh=False, absent=absent, full=not absent)
        ordinal = choice.slot.ordinal
        self._unrecorded[arrival.fingerprint, ordinal] += 1
        [body] = [sample.body for sample in arrival.samples if sample.ordinal == ordinal]
        ending = Ending(state=RequestState.SUCCEEDED, status=200, code=None, body=body, provider=arrival.lane.provider)
        of = max(sample.ordinal for sample in arrival.samples) + 1
        return Admission(seq=0, custom_id="", fresh=False, ending=ending, sample=ordinal + 1, of=of)

    def _choose(self, arrival: Arrival, extent: int) -> Choice:
        for _ in range(TAKES):
            slots = load_slots(
                self._session,
                arrival.fingerprint,
                arrival.client,
                arrival.ask.run,
                boot=self._boot,
                now=self._now,
                limit=SLOT_LIMIT,
                ask=arrival.ask,
                few=extent <= SLOT_LIMIT,
            )
            choice = choose([self._as_seen(slot, arrival) for slot in slots], arrival.ask, self._now)
            if isinstance(choice, Serve | New | Absent):
                return choice
            query = "take_slot" if isinstance(choice, Take) else "hold_request"
            if self._session.run(query, {"seq": choice.slot.seq, "boot": self._boot, "now": self._now}):
                return choice
        raise LedgerError("the slots of a request changed hands too often while it looked at them: try again")

    def _as_seen(self, slot: Slot, arrival: Arrival) -> Slot:
        waiters = arrival.waiters.get(slot.seq, 0)
        booked = arrival.booked.get(slot.seq, 0) + self._served.get(slot.seq, 0)
        if not (waiters or booked):
            return slot
        return replace(slot, waiters=waiters, deliveries=slot.deliveries + booked)

    def _make_slot(self, arrival: Arrival, token: str, ordinal: int) -> Admission:
        seq = self.recorder.record(arrival, token, held=True, ordinal=ordinal)
        self._give(arrival, ordinal)
        return Admission(seq=seq, custom_id=own_id(seq, token), fresh=True, sample=ordinal + 1, of=ordinal + 1)

    def _give(self, arrival: Arrival, ordinal: int) -> None:
        if arrival.ask.run is None:
            return
        self._session.run(
            "give",
            {
                "client": arrival.client,
                "run": arrival.ask.run,
                "fingerprint": arrival.fingerprint,
                "ordinal": ordinal,
                "boot": self._boot,
                "now": self._now,
            },
        )


def only_rehearsed(kind: str, lane: LaneKey) -> bool:
    """Whether who has a name, in a lane of `kind`, asked a simulator only, and it is meant now: then it has it no more.

    Not the other way round: a rehearsal is given what was meant, which is there.
    """
    return kind.startswith(SIMULATED) and not lane.rehearsal


def _ending(session: Session, seq: int) -> Ending:
    ending = read_ending(session, seq)
    if ending is None:
        raise LedgerError(f"request {seq} has ended, but its result is missing: the ledger is damaged")
    return ending


def _named_slot(row: Row) -> Slot:
    return Slot(
        seq=row[0],
        ordinal=0,
        state=RequestState(row[2]),
        held=False,
        deliveries=row[3],
        first_delivered_at=row[4],
        last_delivered_at=row[5],
        ended_at=row[6],
        permanent=bool(row[7]),
        owed_until=row[8],
        no_store=bool(row[9]),
        cancelling=row[11] is not None and row[6] is None,
    )
