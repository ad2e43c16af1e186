"""`complete`: the synchronous endpoint, where a provider offers one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import Ambiguous, ProviderError, Rejected, Retryable, TokenLimit, Unauthorised
from gateway.provider import Provider, enveloped_body
from gateway.records import Call, Result
from gateway.sandbox import Fault, FaultKind, Operation
from gateway.testing.contract.base import ContractBase, overrides
from gateway.testing.contract.rows import check_result
from gateway.testing.lab import Lab, text_of

#: What may be raised in place of a result with this status.
_ERRORS: dict[int, tuple[type[ProviderError], ...]] = {
    400: (Rejected,),
    401: (Unauthorised,),
    403: (Unauthorised,),
    404: (Rejected,),
    429: (Retryable, TokenLimit),
    500: (Ambiguous, Retryable),
    503: (Ambiguous, Retryable),
}


class CompletingContract(ContractBase):
    """What `complete` promises."""

    @pytest.mark.asyncio
    async def test_a_call_is_answered_at_once(self, synchronous: Lab) -> None:
        """The synchronous endpoint answers the call it was asked, in OpenAI's shape."""
        result = await synchronous.provider.complete(self.call(self.body("a question at once")))

        check_result(result)
        assert result.status == 200, f"a synchronous answer has status {result.status}: {result.error}"
        assert "a question at once" in text_of(result), f"the answer is another call's: {text_of(result)[:80]!r}"

    @pytest.mark.asyncio
    async def test_a_stored_call_is_answered_too(self, synchronous: Lab) -> None:
        """A request that waited in the ledger is asked with the bytes that `encode` made of it."""
        call = self.call(self.body("a question that waited"))
        payload = synchronous.provider.encode(call)
        if synchronous.provider.batch and not self._stored_calls_can_be_asked(synchronous.provider, payload):
            pytest.skip(
                "queued calls cannot be asked at once: the payload is no envelope, complete_payload not overridden"
            )
        result = await synchronous.provider.complete_payload(call.endpoint, call.model, payload)

        check_result(result)
        assert "a question that waited" in text_of(result), f"complete_payload did not answer: {result}"

    @pytest.mark.parametrize("status", _ERRORS)
    @pytest.mark.asyncio
    async def test_a_failed_call_says_so(self, synchronous: Lab, status: int) -> None:
        """An answer of another status is a result with that status and an error, or raises the error of its class."""
        order = Fault(kind=FaultKind.STATUS, operation=Operation.COMPLETE, status=status, times=None)
        synchronous.simulator.faults.order(order)
        seen = await _seen(synchronous, self.call(self.body("x")))
        if isinstance(seen, Result):
            check_result(seen)
            assert seen.status == status, f"an answer with {status} became a result with {seen.status}"
            assert seen.error is not None, f"an answer with {status} became a result without an error"
            assert seen.retriable is (status == 429 or status >= 500), f"an answer with {status}: wrong retriable"
        else:
            assert isinstance(seen, _ERRORS[status]), f"an answer with {status} raised {type(seen).__name__}: {seen}"
        sent = synchronous.simulator.ledger.calls[Operation.COMPLETE]
        assert sent == 1, f"one call was sent {sent} times: each is paid at full price"

    @pytest.mark.asyncio
    async def test_a_call_without_an_answer_raises(self, synchronous: Lab) -> None:
        """A call that is cut is Ambiguous or Retryable, one that was never connected is Retryable."""
        order = synchronous.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.COMPLETE, times=None))
        cut = await _seen(synchronous, self.call(self.body("x")))
        synchronous.simulator.faults.withdraw(order)
        if synchronous.server is not None:
            await synchronous.server.stop()
        async with synchronous.restarted() as provider:
            refused = await _seen(replace(synchronous, provider=provider), self.call(self.body("x")))

        assert isinstance(cut, Ambiguous | Retryable), f"a call that was cut gave {type(cut).__name__}: {cut}"
        assert isinstance(refused, Retryable), (
            f"with nobody listening, complete gave {type(refused).__name__}: {refused}"
        )

    def _stored_calls_can_be_asked(self, provider: Provider, payload: bytes) -> bool:
        try:
            return overrides(provider, "complete_payload") or bool(enveloped_body(payload))
        except ValueError:
            return False


async def _seen(lab: Lab, call: Call) -> object:
    """The result, or what was raised."""
    try:
        return await lab.provider.complete(call)
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and the test tells what
        return error
