"""What goes wrong, by class: core decides by the class of an error alone what happens next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

import pytest

from gateway.errors import Ambiguous, Missing, ProviderError, Rejected, Retryable, Unauthorised
from gateway.records import Batch, RemoteBatch, RemoteState
from gateway.sandbox import Fault, FaultKind, Operation
from gateway.testing.contract.base import ContractBase, overrides
from gateway.testing.lab import Lab

#: Of a create call.
_CREATE_CLASSES = (
    (400, Rejected),
    (401, Unauthorised),
    (402, Unauthorised),
    (403, Unauthorised),
    (404, Rejected),
    (408, Ambiguous),
    (409, Ambiguous),
    (413, Rejected),
    (422, Rejected),
    (429, Retryable),
    (500, Ambiguous),
    (502, Ambiguous),
    (503, Ambiguous),
    (504, Ambiguous),
)
#: Of every call that can be made again; 0 stands for a connection that is cut.
_OTHER_CLASSES = (
    (0, Retryable),
    (401, Unauthorised),
    (403, Unauthorised),
    (408, Retryable),
    (429, Retryable),
    (500, Retryable),
    (503, Retryable),
)
#: What an API says of a key that it refuses may have the key in it.
_REFUSED_KEY = "sk-of-somebody-0123456789"
#: Whether a call fails before it has acted or after.
When = Literal["before", "after"]
_Verb = Callable[[Lab, Batch, RemoteBatch], Awaitable[object]]
_VERBS: Mapping[Operation, _Verb] = MappingProxyType(
    {
        Operation.UPLOAD: lambda lab, batch, _: lab.provider.upload(batch),
        Operation.LIST: lambda lab, batch, _: lab.provider.find(batch),
        Operation.POLL: lambda lab, _, remote: lab.provider.poll(remote),
        Operation.FETCH: lambda lab, _, remote: lab.provider.fetch(remote, lab.directory / "fetched"),
    }
)
#: Those too that cannot be repeated, or that are optional.
_ALL_VERBS: Mapping[Operation, _Verb] = MappingProxyType(
    {
        **_VERBS,
        Operation.CREATE: lambda lab, batch, _: lab.provider.submit(batch),
        Operation.CANCEL: lambda lab, _, remote: lab.provider.cancel(remote),
        Operation.DISCARD: lambda lab, batch, remote: lab.provider.discard(batch, remote),
    }
)


class FailingContract(ContractBase):
    """What the verbs raise."""

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize(("status", "wanted"), _CREATE_CLASSES)
    @pytest.mark.asyncio
    async def test_a_create_call_fails_by_class(
        self, batches: Lab, status: int, wanted: type[ProviderError], when: When
    ) -> None:
        """Each status of a create call has its class, whether the call had acted or not, and the call is sent once."""
        batch = await batches.upload(self.body("x"))
        order = Fault(kind=FaultKind.STATUS, operation=Operation.CREATE, status=status, when=when)
        batches.simulator.faults.order(order)

        await _check_raises(batches.provider.submit(batch), wanted, f"a create call that is answered with {status}")
        _check_one_create(batches)

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.asyncio
    async def test_a_lost_answer_is_ambiguous(self, batches: Lab, when: When) -> None:
        """A create call whose connection is cut may have acted: it is Ambiguous, and it is sent once."""
        batch = await batches.upload(self.body("x"))
        batches.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when=when))

        await _check_raises(batches.provider.submit(batch), Ambiguous, f"a create call that is cut {when} acting")
        _check_one_create(batches)

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("status", [200, 202, 302, 307])
    @pytest.mark.asyncio
    async def test_an_unreadable_answer_is_ambiguous(self, batches: Lab, status: int, when: When) -> None:
        """A create call that is answered with neither a batch nor a failure may have made one: Ambiguous, and sent once."""
        batch = await batches.upload(self.body("x"))
        order = Fault(kind=FaultKind.STATUS, operation=Operation.CREATE, status=status, when=when)
        batches.simulator.faults.order(order)

        what = f"a create call answered with {status} and no batch"
        await _check_raises(batches.provider.submit(batch), Ambiguous, what)
        _check_one_create(batches)

    @pytest.mark.asyncio
    async def test_a_wish_to_wait_is_handed_on(self, batches: Lab) -> None:
        """The provider's Retry-After reaches core in seconds."""
        batch = await batches.upload(self.body("x"))
        order = Fault(kind=FaultKind.STATUS, operation=Operation.CREATE, status=429, retry_after=17)
        batches.simulator.faults.order(order)
        with pytest.raises(Retryable) as caught:
            await batches.provider.submit(batch)

        assert caught.value.retry_after == 17, f"Retry-After: 17 became retry_after={caught.value.retry_after}"

    @pytest.mark.parametrize("operation", _VERBS)
    @pytest.mark.parametrize(("status", "wanted"), _OTHER_CLASSES)
    @pytest.mark.asyncio
    async def test_other_calls_fail_by_class(
        self, batches: Lab, operation: Operation, status: int, wanted: type[ProviderError]
    ) -> None:
        """Of any other call a key that is refused is Unauthorised, all that may pass is Retryable, and the next try works."""
        batch, remote = await self._ended(batches, operation)
        kind = FaultKind.STATUS if status else FaultKind.CUT
        # Whatever the method calls: some fetch with a poll.
        order = batches.simulator.faults.order(Fault(kind=kind, status=status, times=None))
        what = f"{operation}, answered with {status}" if status else f"{operation}, cut"
        await _check_raises(_VERBS[operation](batches, batch, remote), wanted, what)
        batches.simulator.faults.withdraw(order)

        await _VERBS[operation](batches, batch, remote)

    @pytest.mark.parametrize("operation", _ALL_VERBS)
    @pytest.mark.asyncio
    async def test_a_bad_key_is_unauthorised_everywhere(self, batches: Lab, operation: Operation) -> None:
        """A key that is refused is Unauthorised from every call, and what the provider says of it is not repeated."""
        if operation is Operation.CANCEL and not overrides(batches.provider, "cancel"):
            pytest.skip(f"{batches.provider.kind} cannot cancel")
        batch, remote = await self._ended(batches, operation)
        told = f"Incorrect API key provided: {_REFUSED_KEY}."
        batches.simulator.faults.order(Fault(kind=FaultKind.STATUS, status=401, message=told, times=None))
        asked = batches.simulator.ledger.calls.total()
        raised = await _raised(_ALL_VERBS[operation](batches, batch, remote))
        if operation is Operation.DISCARD and batches.simulator.ledger.calls.total() == asked:
            pytest.skip(f"{batches.provider.kind} has nothing to discard for this batch")

        _check_is(raised, Unauthorised, f"{operation}, with a key that is refused,")
        assert _REFUSED_KEY not in str(raised), f"{operation} repeats the key that was refused"

    @pytest.mark.parametrize("operation", [Operation.LIST, Operation.POLL, Operation.FETCH])
    @pytest.mark.asyncio
    async def test_a_look_refuses_no_batch(self, batches: Lab, operation: Operation) -> None:
        """A 400 for a list, a poll or a download decides nothing: it is Retryable."""
        batch, remote = await self._ended(batches, operation)
        batches.simulator.faults.order(Fault(kind=FaultKind.STATUS, status=400, times=None))

        await _check_raises(_VERBS[operation](batches, batch, remote), Retryable, f"{operation}, answered with 400")

    @pytest.mark.asyncio
    async def test_an_unknown_batch_is_missing(self, batches: Lab) -> None:
        """A poll that is answered with 404 says Missing."""
        remote = await batches.submit(self.body("x"))
        batches.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.POLL, status=404, times=None))

        await _check_raises(batches.provider.poll(remote), Missing, "a poll that is answered with 404")

    @pytest.mark.asyncio
    async def test_an_empty_list_is_a_list_that_was_read(self, batches: Lab) -> None:
        """A list that is answered with 404 is no empty list: it raises."""
        batch = await batches.upload(self.body("x"))
        batches.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.LIST, status=404, times=None))

        await _check_raises(batches.provider.find(batch), Retryable, "a list that is answered with 404")

    @pytest.mark.asyncio
    async def test_nobody_at_home_is_retryable(self, batches: Lab) -> None:
        """When the connection is refused nothing can have happened: every call is Retryable, the create call too."""
        batch = await batches.upload(self.body("x"))
        remote = await batches.later(await batches.provider.submit(batch))
        if batches.server is not None:
            await batches.server.stop()

        # A fresh instance: on a connection that was open before, a create call may well have left.
        async with batches.restarted() as provider:
            lab = replace(batches, provider=provider)
            await _check_raises(provider.submit(batch), Retryable, "submit, with nobody listening")
            for operation, verb in _VERBS.items():
                if operation is not Operation.UPLOAD or _uploads(batches):
                    await _check_raises(verb(lab, batch, remote), Retryable, f"{operation}, with nobody listening")

    @pytest.mark.asyncio
    async def test_a_cancel_that_failed_may_be_repeated(self, batches: Lab) -> None:
        """A cancel call that was cut or answered with 500 is Retryable as long as the batch runs on, and the next one works."""
        if not overrides(batches.provider, "cancel"):
            pytest.skip(f"{batches.provider.kind} cannot cancel")
        remote = await batches.submit(self.body("x"))
        for kind in (FaultKind.STATUS, FaultKind.CUT):
            order = batches.simulator.faults.order(Fault(kind=kind, operation=Operation.CANCEL, times=None))
            await _check_raises(batches.provider.cancel(remote), Retryable, f"cancel ({kind})")
            batches.simulator.faults.withdraw(order)
        await batches.provider.cancel(remote)

        assert (await batches.later(remote)).state is RemoteState.ENDED, "the batch was not cancelled"

    async def _ended(self, lab: Lab, operation: Operation) -> tuple[Batch, RemoteBatch]:
        batch = await lab.upload(self.body("x"))
        if operation is Operation.UPLOAD and not _uploads(lab):
            pytest.skip(f"{lab.provider.kind} uploads no file for this batch")
        return batch, await lab.later(await lab.provider.submit(batch))


def _uploads(lab: Lab) -> bool:
    """Whether the batches that were uploaded in this lab went over the wire."""
    return lab.simulator.ledger.calls[Operation.UPLOAD] > 0


async def _check_raises(call: Awaitable[object], wanted: type[ProviderError], what: str) -> None:
    """`call` raises exactly `wanted`."""
    _check_is(await _raised(call), wanted, what)


async def _raised(call: Awaitable[object]) -> Exception | None:
    try:
        await call
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and this tells what
        return error
    return None


def _check_is(raised: Exception | None, wanted: type[ProviderError], what: str) -> None:
    assert raised is not None, f"{what} must raise {wanted.__name__}; it raised nothing"
    said = f"{type(raised).__name__}: {raised}"
    assert type(raised) is wanted, f"{what} must raise {wanted.__name__}; it raised {said}"


def _check_one_create(lab: Lab) -> None:
    sent = lab.simulator.ledger.calls[Operation.CREATE]
    assert sent == 1, f"submit sent {sent} create calls: each may be a batch that is paid for"
