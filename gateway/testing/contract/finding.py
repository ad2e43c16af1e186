"""`find`: what a create call whose answer was lost has left behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.clock import as_datetime
from gateway.errors import Ambiguous, Unsupported
from gateway.records import Batch
from gateway.sandbox import Fault, FaultKind, Operation
from gateway.testing.contract.base import ContractBase, overrides
from gateway.testing.contract.failing import When
from gateway.testing.lab import MARKER, Lab

_STRANGER = "strangers0strangers0"


class FindingContract(ContractBase):
    """What `find` promises, to providers with a marker and to those without."""

    @pytest.mark.asyncio
    async def test_nothing_is_found_before_it_is_made(self, batches: Lab) -> None:
        """Before any create call the list is empty, and `find` says so."""
        batch = await self._sent(batches)

        assert await batches.provider.find(batch) == [], "find returns a batch that was never made"

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.asyncio
    async def test_a_lost_batch_is_found(self, batches: Lab, when: When) -> None:
        """After a create call whose answer was lost, `find` tells whether it had acted; what it returns can be polled."""
        batch = await self._lost(batches, when)
        found = await batches.provider.find(batch)

        assert len(found) == (when == "after"), f"cut {when} acting, find returns {len(found)} batches"
        for remote in found:
            assert remote.total in (None, batch.count), f"the found batch has total={remote.total}, not {batch.count}"
            ended = await batches.later(remote)
            assert len(await batches.rows(ended)) == batch.count, "the found batch cannot be fetched"

    @pytest.mark.asyncio
    async def test_a_clock_that_is_ahead_hides_no_batch(self, batches: Lab) -> None:
        """A lost batch is found though the gateway's clock is half a day ahead of the provider's."""
        batch = await self._lost(batches, "after")
        ahead = replace(batch, first_sent=as_datetime(batches.clock.now() + 12 * 3600))

        assert len(await batches.provider.find(ahead)) == 1, "find does not read the list back to listed_since"

    @pytest.mark.asyncio
    async def test_a_batch_that_was_made_twice_is_found_twice(self, batches: Lab) -> None:
        """Both batches of one create call are found, the older one first."""
        batch = await self._sent(batches)
        batches.simulator.faults.order(Fault(kind=FaultKind.TWICE))
        await batches.provider.submit(batch)
        found = await batches.provider.find(batch)

        assert len(found) == 2, f"two batches were made, find returns {len(found)}"
        times = [remote.created for remote in found if remote.created is not None]
        assert times == sorted(times), "find does not return the oldest batch first"

    @pytest.mark.asyncio
    async def test_a_list_may_lag(self, batches: Lab) -> None:
        """A batch that the provider's list does not show yet is not found, and is found later."""
        batches.simulator.faults.order(Fault(kind=FaultKind.LIST_LAG, seconds=120))
        batch = await self._lost(batches, "after")
        early = await batches.provider.find(batch)
        batches.clock.jump(121)

        assert early == [], "find returns a batch that the list does not show"
        assert len(await batches.provider.find(batch)) == 1, "find does not return a batch that the list shows"

    @pytest.mark.asyncio
    async def test_others_are_not_ours(self, batches: Lab) -> None:
        """With a marker another batch is never taken for ours; without one, none of another size or of an earlier time."""
        marked = batches.provider.marked
        if not marked:
            await batches.submit(self.body("early 1"), self.body("early 2"), marker=_STRANGER)
            batches.clock.jump(48 * 3600)
        batch = await self._sent(batches)
        strangers = [self.body("1"), self.body("2")] if marked else [self.body("1"), self.body("2"), self.body("3")]
        await batches.submit(*strangers, marker=_STRANGER)

        assert await batches.provider.find(batch) == [], "find returns somebody else's batch"

    @pytest.mark.asyncio
    async def test_a_long_list_is_read_to_its_end(self, batches: Lab) -> None:
        """Ours is found behind so many others that the list has several pages."""
        batch = await self._lost(batches, "after")
        for n in range(120):
            batches.clock.jump(1)
            await batches.submit(self.body(str(n)), marker=f"{n:020d}")

        assert len(await batches.provider.find(batch)) == 1, "find does not return our batch behind 120 others"
        if overrides(batches.provider, "list_ours"):
            listed = await batches.provider.list_ours(as_datetime(batches.clock.now() - 3600))
            assert len(listed) == 121, f"list_ours returns {len(listed)} of 121 batches of several pages"

    @pytest.mark.asyncio
    async def test_ours_are_listed(self, batches: Lab) -> None:
        """`list_ours` shows each batch since a moment, oldest first, with its marker where there is a place for one."""
        provider = batches.provider
        if not overrides(provider, "list_ours"):
            with pytest.raises(Unsupported):
                await provider.list_ours(as_datetime(batches.clock.now()))
            return
        await batches.submit(self.body("too old"), marker=_STRANGER)
        batches.clock.jump(3 * 3600)
        since = as_datetime(batches.clock.now() - 600)
        made = {}
        for marker in (MARKER, "0123456789abcdefghij"):
            batches.clock.jump(2)
            made[marker] = await batches.submit(self.body("1"), self.body("2"), marker=marker)
        if provider.marked:
            await batches.submit(self.body("not of a gateway"), marker="somebody-elses")
        listed = await provider.list_ours(since)

        assert [remote.remote_id for remote in listed] == [remote.remote_id for remote in made.values()], (
            "list_ours does not return just the batches made since then, oldest first"
        )
        if provider.marked:
            assert [remote.marker for remote in listed] == list(made), "list_ours does not say the markers"
        assert all(remote.total in (None, 2) for remote in listed), "list_ours does not know how many lines there are"
        assert (await provider.poll(listed[0])).remote_id == listed[0].remote_id, (
            "what list_ours returns cannot be polled"
        )

    async def _sent(self, lab: Lab) -> Batch:
        """A batch of two lines, as it is when its first create call is about to be sent."""
        batch = await lab.upload(self.body("one"), self.body("two"))
        return replace(batch, first_sent=as_datetime(lab.clock.now()) - timedelta(seconds=1))

    async def _lost(self, lab: Lab, when: When) -> Batch:
        """The same batch after a create call that was cut."""
        batch = await self._sent(lab)
        order = lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when=when))
        with pytest.raises(Ambiguous):
            await lab.provider.submit(batch)
        lab.simulator.faults.withdraw(order)
        return batch
