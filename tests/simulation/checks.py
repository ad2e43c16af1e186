"""What must hold when everything has ended: the promises, against the provider's own books."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from tests.simulation.answers import prompt_of, usage_of
from tests.simulation.callers import Stage, Way, contents
from tests.simulation.weather import BAD, FLAKY, HOPELESS, POISON, POISON_LATE, POISON_NAMED

if TYPE_CHECKING:
    from tests.simulation.jobs import Job
    from tests.simulation.wire import Reply
    from tests.simulation.world import World

#: Words in the log that say that something escaped which should not.
ALARMS = frozenset(
    {"worker_died", "errand_failed", "batch_step_failed", "completion_failed", "request_failed", "family_not_merged"}
)
OPEN = "('queued', 'batched')"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """An ending as somebody was shown it."""

    status: int
    #: The texts of an answer, or the code of a failure. The status of a failure that a stream told is 0: not known.
    told: tuple[str, ...]

    def agrees(self, other: Ending) -> bool:
        """Whether both can be the same."""
        unknown = 0 in (self.status, other.status) and 200 not in (self.status, other.status)
        return self.told == other.told and (self.status == other.status or unknown)


def ending_of(reply: Reply) -> Ending:
    """The same for every way of telling it."""
    if reply.status == 200 and b'data: {"error"' not in reply.body:
        return Ending(status=200, told=tuple(contents(reply)))
    if reply.status == 200:
        event = next(event for event in reply.body.split(b"\n\n") if event.startswith(b'data: {"error"'))
        return Ending(status=0, told=(str(orjson.loads(event[6:])["error"]["code"]),))
    return Ending(status=reply.status, told=(str(reply.json()["error"]["code"]),))  # type: ignore[index]


def everything(world: World) -> list[str]:
    """All that is wrong."""
    return [
        *_everybody_ends(world),
        *_answers_are_own(world),
        *_reads_agree(world),
        *(_bill_of_singles(world) if world.options.kind == "single" else _bill(world)),
        *_copies_are_counted(world),
        *_one_sample_for_each_call(world),
        *_nothing_is_left(world),
        *_nothing_escaped(world),
    ]


def _everybody_ends(world: World) -> list[str]:
    wrong = [
        f"P2: request {seq} is {state} since {queued:.0f}, batch {batch}, attempts {attempts}, due {due}"
        for seq, state, queued, batch, attempts, due in world.sql(
            f"SELECT seq, state, queued_at - 1.8e9, batch, attempts, due FROM requests WHERE state IN {OPEN}"
        )
    ]
    wrong += [
        f"P2: batch {id_} is {state}, parked {reason!r} until {retry_at:.0f}, remote {remote_id}, now {world.time:.0f}"
        for id_, state, reason, retry_at, remote_id in world.sql(
            "SELECT id, state, parked_reason, retry_at - 1.8e9, remote_id FROM batches "
            "WHERE state NOT IN ('collected', 'dissolved')"
        )
    ]
    wrong += [f"P2: caller {caller.number} waits for ever: {caller}" for caller in world.callers if not caller.over]
    known = {name for (name,) in world.sql("SELECT name FROM requests WHERE name IS NOT NULL")}
    tokens = {token for (token,) in world.sql("SELECT token FROM requests")}
    for caller in world.callers:
        name = caller.accepted_as
        if name is not None and name not in known and name.rpartition("_")[2] not in tokens:
            wrong.append(f"P1: caller {caller.number} was promised {name}, and it is gone")
    return wrong


def _answers_are_own(world: World) -> list[str]:
    wrong = []
    names = Counter((caller.custom_id, caller.prompt, caller.answers) for caller in world.callers if caller.custom_id)
    for caller in world.callers:
        if caller.stage is not Stage.SERVED or caller.outcome is None:
            continue
        ending = ending_of(caller.outcome)
        if ending.status == 200:
            if len(ending.told) != caller.answers or any(_prompt(text) != caller.prompt for text in ending.told):
                wrong.append(f"P4: caller {caller.number} asked {caller.prompt!r} and got {ending.told}")
        elif ending.told == ("name_taken",):
            others = [key for key in names if key[0] == caller.custom_id]
            if len(others) < 2:
                wrong.append(f"caller {caller.number} was told that its name is taken, by nobody")
        else:
            wrong += _failed_rightly(world, caller.number, caller.prompt, caller.accepted_as, ending)
    return wrong


def _failed_rightly(world: World, number: int, prompt: str, name: str | None, ending: Ending) -> list[str]:
    (code,) = ending.told
    refused = prompt.startswith((BAD, POISON, POISON_NAMED, POISON_LATE))
    if ending.status == 400 and not refused:
        return [f"caller {number}: a good request was refused: {ending}"]
    if (
        code == "cancelled"
        and name not in world.cancelled
        and not world.batches_cancelled
        and world.options.on_disconnect == "keep"
    ):
        return [f"caller {number}: nobody cancelled {name}"]
    calm = not world.remote.met and not prompt.startswith((FLAKY, HOPELESS)) and world.options.weather.faults == 0
    if (
        calm
        and not refused
        and code != "cancelled"
        and world.options.weather == type(world.options.weather)()
        and world.options.most_lines is None
    ):
        return [f"caller {number}: failed on a fine day: {ending}"]
    return []


def _reads_agree(world: World) -> list[str]:
    """Every ending that was ever shown is still the one that is read, and all that were accepted can be read."""
    wrong: list[str] = []
    ids = {caller.accepted_as for caller in world.callers if caller.accepted_as} | set(world.seen)
    for custom_id in sorted(ids):
        reply = world.read(custom_id)
        if reply is None or not reply.final or reply.status == 404:
            wrong.append(f"P4: {custom_id} reads as {None if reply is None else reply.status}")
    return wrong


def _bill(world: World) -> list[str]:
    wrong: list[str] = []
    now = 1.8e9 + world.time
    batches = {
        marker: (remote_id, state)
        for marker, remote_id, state in world.sql("SELECT marker, remote_id, state FROM batches")
    }
    booked = {
        (marker, n): (seq, bool(billed), bool(wasted), cost)
        for marker, n, seq, billed, wasted, cost in world.sql(
            "SELECT b.marker, i.n, i.seq, i.billed, i.wasted, i.cost_usd FROM lines i JOIN batches b ON b.id = i.batch"
        )
    }
    owed: dict[tuple[str, int], str] = {}
    for job in world.remote.jobs.values():
        if job.foreign or batches.get(job.marker, ("", ""))[0] != job.remote_id:
            continue
        if batches[job.marker][1] == "dissolved" and job.visible_from - job.sent_at >= world.options.quarantine_seconds:
            # In a documented window: the provider did not show it for longer than anybody looked for it.
            continue
        for line in job.billed(now):
            owed[job.marker, _n(line.line_id)] = line.prompt
    given = _given(world)
    for key, prompt in owed.items():
        line = booked.get(key)
        if line is None or not line[1]:
            wrong.append(f"P5: {key} was billed by the provider and is not on the bill: {line}, {batches[key[0]]}")
        elif line[3] is None or not math.isclose(line[3], _cost(prompt)):
            wrong.append(f"P5: {key} cost {_cost(prompt)} and is booked with {line[3]}")
    for key, (_, billed, _, _) in booked.items():
        if billed and key not in owed:
            wrong.append(f"P5: {key} is on the bill and was not billed by the provider")
    return wrong + _wasted(world, booked, given)


def _wasted(
    world: World, booked: dict[tuple[str, int], tuple[int | None, bool, bool, float]], given: Counter[str]
) -> list[str]:
    """A line whose answer somebody got is not wasted, every other billed one is."""
    wrong = [f"P4: {source} is the answer of {count} requests" for source, count in given.items() if count > 1]
    lines = {source.rpartition("/")[2] for source in given}
    for (marker, n), (seq, billed, wasted, _) in booked.items():
        used = f"{marker}-{n}" in lines
        if billed and used == wasted:
            wrong.append(
                f"P5: line {marker}-{n} of request {seq} {'was used' if used else 'was used by nobody'}, wasted is {wasted}"
            )
    return wrong


def _given(world: World) -> Counter[str]:
    """Which lines' answers are stored as somebody's."""
    rows = world.sql(
        "SELECT q.body FROM requests r JOIN results q ON q.id = r.result WHERE r.state = 'succeeded' AND r.parent IS NULL"
    )
    return Counter(
        choice["message"]["content"].partition(" | ")[2].rstrip("+")
        for (body,) in rows
        for choice in orjson.loads(body)["choices"]
    )


def _bill_of_singles(world: World) -> list[str]:
    wrong = []
    bills = world.sql("SELECT undiscounted_lines, wasted_lines FROM bills")
    billed, wasted = (sum(each) for each in zip(*bills, strict=True)) if bills else (0, 0)
    given = _given(world)
    wrong += [f"P4: {source} is the answer of {count} requests" for source, count in given.items() if count > 1]
    wrong += [f"P4: {source} was answered by nobody" for source in given if source not in world.remote.singles]
    if not len(given) <= billed <= len(world.remote.singles):
        wrong.append(
            f"P5: {billed} calls on the bill, {len(given)} used, {len(world.remote.singles)} billed by the server"
        )
    if len(given) + wasted < billed:
        wrong.append(f"P5: of {billed} calls on the bill {len(given)} were used and {wasted} are booked as wasted")
    again = sum(event == "asked_again" for event, _ in world.log)
    asked: Counter[str] = Counter()
    for prompt, answers in [(caller.prompt, caller.answers) for caller in world.callers]:
        asked[prompt] += answers * max(1, _tries(world, prompt))
    for prompt, count in world.remote.asked.items():
        if count > asked[prompt] * world.options.max_attempts + again:
            wrong.append(f"P3: {prompt!r} was asked {count} times")
    return wrong


def _tries(world: World, prompt: str) -> int:
    """A failed call whose caller comes again is another request."""
    return max(caller.tries for caller in world.callers if caller.prompt == prompt)


def _copies_are_counted(world: World) -> list[str]:
    """Each remote batch beyond the first of a marker was counted, if it could be seen when copies were looked for."""
    wrong = []
    copies = world.copies()
    for remote_id, job in world.remote.jobs.items():
        if job.foreign or job.refusal is not None:
            continue
        wrong += _of_dissolved(world, job)
        rows = world.sql(
            "SELECT remote_id, collected_at, ambiguous, ended_at FROM batches WHERE marker = ?", job.marker
        )
        if not rows or rows[0][0] in (None, remote_id) or rows[0][1] is None or not rows[0][2]:
            continue
        ended_at = rows[0][3]
        seen = job.visible_from < ended_at and job.created < ended_at
        if world.options.kind == "unmarked":
            # One that still ran may have been a stranger's, and so may one whose results name no line of ours.
            seen = seen and job.ends_at < ended_at and job.pollable_from < ended_at and job.named()
        if seen and remote_id not in copies:
            wrong.append(f"P3: {remote_id} is a copy of {rows[0][0]} and was not counted")
    return wrong


def _of_dissolved(world: World, job: Job) -> list[str]:
    """What a create in doubt made of a batch that was taken apart is counted, if it was shown by the last look for it."""
    given_up = {facts["marker"] for event, facts in world.log if event == "copies_unknown"}
    if world.options.kind != "marked" or job.marker in given_up or job.remote_id in world.copies():
        return []
    rows = world.sql(
        "SELECT id, retry_at FROM batches WHERE marker = ? AND state = 'dissolved' AND ambiguous = 1 "
        "AND (submitted_at IS NULL OR remote_id <> ?)",
        *(job.marker, job.remote_id),
    )
    return [
        f"P3: {job.remote_id} is a copy of batch {number}, which was dissolved, and was not counted"
        for number, looked_at in rows
        if job.visible_from < looked_at
    ]


def _one_sample_for_each_call(world: World) -> list[str]:
    """However often a caller comes again, over crashes and cuts, its call is answered, and paid, once."""
    calls = Counter(
        caller.prompt for caller in world.callers if caller.custom_id is None and caller.way is not Way.ASYNC
    )
    fresh = {caller.prompt for caller in world.callers if caller.no_cache}
    rows = world.sql(
        "SELECT p.body FROM requests r JOIN payloads p ON p.seq = r.seq "
        "WHERE r.ordinal IS NOT NULL AND r.state = 'succeeded' AND length(p.body) > 0"
    )
    samples = Counter(prompt_of(orjson.loads(body)["body"]) for (body,) in rows)
    return [
        f"P3: {count} samples of {prompt!r} were paid for {calls[prompt]} calls"
        for prompt, count in samples.items()
        if count > calls[prompt] and prompt not in fresh
    ]


def _nothing_is_left(world: World) -> list[str]:
    wrong = []
    spool = world.home / "spool"
    left = sorted(path.name for path in spool.iterdir()) if spool.exists() else []
    if left:
        wrong.append(f"files left in the spool: {left}")
    waiting = len(world.life.gateway.waiters)
    if waiting:
        wrong.append(f"{waiting} waiters are left")
    held = world.sql("SELECT seq, held_by FROM requests WHERE held_by IS NOT NULL")
    if held:
        wrong.append(f"slots held by nobody: {held}")
    totals = world.sql(
        "SELECT id, due_count, due_size, due_tokens, due_fresh FROM lanes WHERE due_count OR due_size OR due_tokens OR due_fresh"
    )
    if totals:
        wrong.append(f"totals of empty lanes: {totals}")
    twins = world.sql(
        "SELECT fingerprint, ordinal FROM requests WHERE ordinal IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1"
    )
    if twins:
        wrong.append(f"slots twice: {twins}")
    unused = world.sql("SELECT id FROM results WHERE id NOT IN (SELECT result FROM requests WHERE result IS NOT NULL)")
    if unused:
        wrong.append(f"results of nobody: {unused}")
    wrong += [f"the file is damaged: {row}" for (row,) in world.sql("PRAGMA quick_check") if row != "ok"]
    return wrong


def _nothing_escaped(world: World) -> list[str]:
    return [f"{event}: {facts}" for event, facts in world.log if event in ALARMS]


def _prompt(text: str) -> str:
    return text.partition(" | ")[0]


def _n(line_id: str) -> int:
    return int(line_id.rpartition("-")[2])


def _cost(prompt: str) -> float:
    usage = usage_of(prompt)
    return (usage["prompt_tokens"] * 1.0 + usage["completion_tokens"] * 2.0) / 1e6
