"""Telling a batch to end, and deleting what it left: both may come too late, which is no failure."""

from __future__ import annotations

import pytest

from gateway.errors import Missing, ProviderError, Retryable, Unauthorised
from gateway.failures import Answered, Failures, StatusError

PLAIN = Failures()


def answered(status: int) -> StatusError:
    """An answer that is an error, with a wish."""
    return StatusError(Answered(status=status, message="why", retry_after=7.0))


async def stop(error: Exception | None, *, runs_on: bool) -> bool:
    """Tell a batch to end, to which `error` is the answer; whether it was asked for what it does then."""
    asked = False

    async def look() -> bool:
        nonlocal asked
        asked = True
        return runs_on

    async with PLAIN.stopping(look):
        if error is not None:
            raise error
    return asked


async def test_a_batch_that_was_told_to_end_is_not_looked_at() -> None:
    """A call that worked costs no other."""
    assert not await stop(None, runs_on=True)


@pytest.mark.parametrize("status", [400, 409, 422, 429, 503])
async def test_a_refusal_counts_only_while_the_batch_runs_on(status: int) -> None:
    """Each provider refuses with a status of its own to end what has ended; what runs on is told again, later."""
    assert await stop(answered(status), runs_on=False)
    with pytest.raises(Retryable) as caught:
        await stop(answered(status), runs_on=True)

    assert caught.value.retry_after in (7.0, None)
    assert isinstance(caught.value.__cause__, ProviderError)


async def test_a_wish_to_wait_outlives_the_look() -> None:
    """A provider that wants to be told later is told later."""
    with pytest.raises(Retryable) as caught:
        await stop(answered(429), runs_on=True)

    assert caught.value.retry_after == 7.0


@pytest.mark.parametrize(("status", "failure"), [(404, Missing), (401, Unauthorised)])
async def test_what_is_not_about_the_batchs_end_comes_out(status: int, failure: type[ProviderError]) -> None:
    """A batch that is not there, and a key that is none, are told as they are."""
    with pytest.raises(failure):
        await stop(answered(status), runs_on=False)


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_what_is_gone_is_passed_over(status: int) -> None:
    """Deleting what is not there any more, or what the provider keeps, is done."""
    async with PLAIN.deleting():
        raise answered(status)


@pytest.mark.parametrize(("status", "failure"), [(503, Retryable), (429, Retryable), (401, Unauthorised)])
async def test_what_may_still_be_deleted_is_tried_again(status: int, failure: type[ProviderError]) -> None:
    """A failure that passes is no reason to leave a prompt at the provider's."""
    with pytest.raises(failure):
        async with PLAIN.deleting():
            raise answered(status)


async def test_a_bug_is_not_passed_over() -> None:
    """Whatever is no failure of a call comes out as it is."""
    for around in (PLAIN.deleting(), PLAIN.stopping(lambda: stop(None, runs_on=False))):
        with pytest.raises(ZeroDivisionError):
            async with around:
                raise ZeroDivisionError
