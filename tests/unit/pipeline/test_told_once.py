"""Every billed line is on the bill once and in the metrics once, whatever comes in between; and nobody waits for a bug."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.endings import cancelled, failure
from gateway.records import BatchState, RemoteBatch, RemoteState, RequestState, Result, new_marker
from gateway.store.rows import Ending
from gateway.store.shipping import INVALID_OUTPUT, BatchRow, Cut, Settled, Settlement
from tests.unit.pipeline import rig as rigs
from tests.unit.pipeline.rig import Rig, arrival, claimed, open_rig
from tests.unit.pipeline.single import Server, open_shop
from tests.unit.pipeline.test_collector import Case, open_case, rows
from tests.unit.pipeline.test_families import open_home
from tests.unit.pipeline.test_structured import (
    BAD,
    GOOD,
    ONCE_MORE,
    completion,
    wanting,
)


def told(rig: Rig, line: str) -> bool:
    """Whether the metrics have this line."""
    return f"batchway_{line}\n" in rig.metrics.render().decode()


async def test_a_cancel_that_meets_a_bad_answer_is_told_its_cost_once(tmp_path: Path) -> None:
    """Asked by itself, cancelled meanwhile, and answered badly: one call was paid, and one is counted."""
    server = Server(held="a")
    async with open_shop(tmp_path, server, retries=ONCE_MORE) as shop:
        server.open.clear()
        server.script["a"].append(Result(line_id=None, status=200, body=completion(BAD)))
        [admission] = await shop.rig.ledger.requests.admit([wanting("a", provider="single")])
        await shop.round()
        await shop.rig.ledger.requests.cancel(admission.seq, shop.rig.clock.now(), cancelled())
        server.open.set()
        await shop.finish()
        [bill] = await shop.rig.ledger.bills.totals()
        assert (await shop.rig.states(), bill.unpriced_lines) == ([RequestState.CANCELLED], 1)
        assert told(shop.rig, 'unpriced_lines_total{provider="single"} 1.0')


def read_ahead(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each chunk be read before the one in front of it is committed, as it may happen on a slow disk."""
    settle = case.rig.ledger.batches.settle

    async def slow(batch: BatchRow, settlements: Sequence[Settlement], now: float) -> list[Settled]:
        async with asyncio.timeout(10):
            while "collect.read" in case.rig.tasks.names():
                await asyncio.sleep(0.001)
        return await settle(batch, settlements, now)

    monkeypatch.setattr(case.rig.ledger.batches, "settle", slow)


@pytest.mark.parametrize("second", [BAD, "429"])
async def test_a_row_that_is_doubled_far_away_is_told_once(
    second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows for one line, in different commits: the second is nobody's second attempt, and was not paid again."""
    monkeypatch.setattr(rigs, "arrival", lambda text, *_: wanting(text))

    def doubled(case: Case) -> list[bytes | Exception]:
        first, last = (case.row(0, BAD), case.row(0, BAD))
        if second == "429":
            first, last = (case.row(0, status=429), case.row(0, status=429))
        return [first + b"".join(case.row(n, GOOD) for n in range(1, 600)) + last]

    async with open_case(tmp_path, 600, doubled, retries=ONCE_MORE) as case:
        read_ahead(case, monkeypatch)
        assert (await case.collect()).state is BatchState.COLLECTED
        [bill] = await case.rig.ledger.bills.totals()
        assert bill.lines == 600
        assert told(case.rig, f'unpriced_lines_total{{provider="fake"}} {bill.unpriced_lines:.1f}')
        outcome = "rate_limited" if second == "429" else "invalid_output"
        assert told(case.rig, f'batch_lines_total{{outcome="{outcome}",provider="fake"}} 1.0')


async def test_an_answer_that_cannot_be_stored_keeps_nobody_from_a_better_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin that fails on a row of a short file: the file is fetched again all the same, and the others get their answers."""
    async with open_case(tmp_path, 3, lambda case: [rows(case, 0, 1), rows(case, 0, 1, 2)]) as case:
        plugin = case.rig.router.providers["fake"].instance
        assert plugin is not None
        decode = plugin.decode

        def odd(row: bytes) -> Result:
            result = decode(row)
            if b"answer 1" not in row:
                return result
            return Result(line_id=result.line_id, status=200, body={**(result.body or {}), "seen": {1, 2}})

        with monkeypatch.context() as faulty:
            faulty.setattr(plugin, "decode", odd)
            await case.collect()
            await case.rig.clock.advance(300)
            after = await case.collect()
        assert await case.rig.states() == [RequestState.SUCCEEDED, RequestState.BATCHED, RequestState.SUCCEEDED]
        assert "plugin of kind 'fake'" in (after.parked_reason or "")
        await case.rig.clock.advance(300)
        assert (await case.collect()).state is BatchState.COLLECTED
        assert case.files.made == 2


PAID = Ending(state=RequestState.SUCCEEDED, status=200, code=None, body=b"{}", cost_usd=1.0)
BAD_LINE = Settlement(n=0, status=200, ending=None, kept=PAID, trouble=INVALID_OUTPUT, cost_usd=1.0, billed=True)
REFUSED = Settlement(n=1, status=400, ending=failure("provider_rejected", "no"), trouble="refused")
BROKEN = Settlement(n=0, status=500, ending=failure("attempts_exhausted", "no"), trouble="server_error")


async def in_a_batch(rig: Rig) -> None:
    """The first of two children is answered badly and goes back, the second is refused."""
    (window,) = await rig.ledger.lanes.windows()
    batches, now = rig.ledger.batches, rig.clock.now()
    await batches.seal(window.lane_id, Cut(), new_marker(), "", "", now)
    remote = RemoteBatch(remote_id="r", state=RemoteState.ENDED)
    await batches.submitted(await batches.intend(await claimed(rig), now), remote, now, now)
    await batches.ended(await claimed(rig), remote, now)
    await batches.settle(await claimed(rig), [BAD_LINE, REFUSED], now)


async def by_themselves(rig: Rig) -> None:
    """As above, asked one by one."""
    completions, now = rig.ledger.completions, rig.clock.now()
    for settlement in (BAD_LINE, REFUSED):
        claim = await completions.claim(1, now)
        assert claim is not None
        await completions.settle(claim, settlement, now)


async def served_at_last(rig: Rig) -> None:
    """As above, but the first one has ended before, with its bad answer, as its second try brought none."""
    completions, now = rig.ledger.completions, rig.clock.now()
    first, second = await completions.claim(1, now), await completions.claim(1, now)
    assert first is not None
    assert second is not None
    await completions.settle(first, BAD_LINE, now)
    await rig.ledger.requests.ripen(now, 10)
    again = await completions.claim(1, now)
    assert again is not None
    served = await completions.settle(again, BROKEN, now)
    assert served is not None
    assert served.state is RequestState.SUCCEEDED
    await completions.settle(second, REFUSED, now)


@pytest.mark.parametrize("way", [in_a_batch, by_themselves, served_at_last])
async def test_a_bad_answer_of_a_family_that_fails_is_wasted_once(
    way: Callable[[Rig], Awaitable[None]], tmp_path: Path
) -> None:
    """One of two answers was not good enough, and is on the bill as wasted: that the other one fails wastes nothing more."""
    async with open_rig(tmp_path, retries=ONCE_MORE) as rig:
        await rig.ledger.requests.admit([replace(arrival("a"), times=2)])
        await way(rig)
        before = await rig.ledger.bills.wasted()
        [family] = await rig.ledger.families.told(10)
        await rig.ledger.families.end(family.parent, failure("provider_rejected", "no"), rig.clock.now())
        [bill] = await rig.ledger.bills.totals()
        assert (before["fake"], bill.wasted_usd, bill.wasted_lines) == (1.0, 1.0, 1)
        assert await rig.ledger.bills.wasted() == before


async def test_a_call_that_was_paid_in_vain_is_told(tmp_path: Path) -> None:
    """An answer that comes when its claim is lost is on the bill as wasted; the metrics have its cost as well."""
    server = Server(held="a")
    async with open_shop(tmp_path, server) as shop:
        server.open.clear()
        [admission] = await shop.queue("a")
        await shop.round()
        claim = {"seq": admission.seq, "boot": shop.rig.ledger.boots.id}
        await shop.rig.ledger.database.write(lambda session: session.run("drop_claim", claim))
        server.open.set()
        await shop.finish()
        [bill] = await shop.rig.ledger.bills.totals()
        assert (bill.lines, bill.wasted_lines, bill.unpriced_lines) == (2, 1, 2)
        assert told(shop.rig, 'unpriced_lines_total{provider="single"} 2.0')


async def test_strange_rows_beside_a_fault_are_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a plugin fails on a row its file is read again every few minutes: rows of nobody are no more for that."""
    async with open_case(tmp_path, 2, lambda case: [b"{}\n" + rows(case, 0) + b"[]\n" + rows(case, 1)]) as case:
        plugin = case.rig.router.providers["fake"].instance
        assert plugin is not None
        decode = plugin.decode

        def odd(row: bytes) -> Result:
            if b"answer 0" in row:
                raise ZeroDivisionError
            return decode(row)

        with monkeypatch.context() as faulty, capture_logs() as logs:
            faulty.setattr(plugin, "decode", odd)
            for _ in range(3):
                assert (await case.collect()).state is BatchState.ENDED
                await case.rig.clock.advance(300)
        assert (await case.collect()).state is BatchState.COLLECTED
        assert told(case.rig, 'unknown_lines_total{provider="fake"} 2.0')
        assert [log["event"] for log in logs].count("unknown_line") == 2


async def test_a_row_that_was_cut_is_not_strange_when_it_comes_whole(tmp_path: Path) -> None:
    """Half a row at the end of a broken download names nobody; the next download has all of it, and nothing strange."""
    async with open_case(tmp_path, 2, lambda case: [rows(case, 0) + case.row(1)[:30], rows(case, 0, 1)]) as case:
        assert (await case.collect()).state is BatchState.ENDED
        await case.rig.clock.advance(60)
        assert (await case.collect()).state is BatchState.COLLECTED
        assert b"unknown_lines_total{" not in case.rig.metrics.render()


async def test_children_that_are_stopped_are_counted_as_ended(tmp_path: Path) -> None:
    """One of two answers waits for a better one when the other is refused: it ends with its family, and is counted, once."""
    async with open_home(tmp_path) as home:
        await home.rig.ledger.requests.admit([replace(arrival("a"), times=2)])
        await in_a_batch(home.rig)
        assert await home.families.tick() == 1
        assert await home.families.tick() == 0
        assert told(home.rig, 'requests_ended_total{provider="fake",state="failed"} 1.0')
