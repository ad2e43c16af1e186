"""A key that is good, and not for everything: what it may not create waits, and nobody else does."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.errors import Unauthorised
from gateway.records import Batch, RemoteBatch, RequestState
from gateway.store.rows import LaneKey
from gateway.testing import FakeClock, FakeProvider
from tests.unit.pipeline.rig import CHAT, arrival
from tests.unit.pipeline.works import Works, open_works
from tests.unit.test_accounts import account_of, accounts_of, configured, fails_with, works

SECRET = LaneKey(provider="fake", endpoint=CHAT, model="secret")


class Picky(FakeProvider):
    """A project without access to one model."""

    #: Which call says so.
    verb = "submit"

    async def upload(self, batch: Batch) -> str | None:
        """Not of that model."""
        self._look("upload", batch)
        return await super().upload(batch)

    async def submit(self, batch: Batch) -> RemoteBatch:
        """Not of that model."""
        self._look("submit", batch)
        return await super().submit(batch)

    def _look(self, verb: str, batch: Batch) -> None:
        if verb == self.verb and batch.model == SECRET.model:
            raise Unauthorised(f"{verb}: status 403: no access to the model", of_key=False)


class PickyOfFiles(Picky):
    """It says so at the upload."""

    verb = "upload"


async def looked(stages: Works, times: int) -> None:
    """So many looks of every stage, five seconds apart."""
    for _ in range(times):
        await stages.look()
        await stages.rig.clock.advance(5)


@pytest.mark.parametrize("plugin", [Picky, PickyOfFiles])
async def test_one_model_without_access_stops_no_other(plugin: type[Picky], tmp_path: Path) -> None:
    """Batches of other models are made and answered as soon as ever, while those of the one wait, and are tried now and then."""
    async with open_works(tmp_path, plugin=plugin) as stages:
        rig = stages.rig
        await rig.admit("before")
        await looked(stages, 60)
        await rig.ledger.requests.admit([replace(arrival("secret"), lane=SECRET)])
        await looked(stages, 60)
        await rig.admit("ordinary")
        await looked(stages, 60)

        assert [state is RequestState.SUCCEEDED for state in await rig.states()] == [True, False, True]
        assert rig.accounts.refused(rig.router.providers.values()) == []


@pytest.mark.parametrize(
    ("verb", "of_key", "good_before", "stops"),
    [
        ("submit", False, True, False),
        ("upload", False, True, False),
        ("submit", True, True, True),
        ("submit", False, False, True),
        ("poll", False, True, True),
        ("fetch", False, True, True),
    ],
)
async def test_a_key_that_works_otherwise_is_no_refused_key(
    tmp_path: Path, *, verb: str, of_key: bool, good_before: bool, stops: bool
) -> None:
    """Rights or money that are wanting for a create stop nothing else, if the key was good for a call before; all else does."""
    clock = FakeClock()
    accounts = accounts_of(clock)
    provider = configured("a", "", clock, tmp_path)
    if good_before:
        await accounts.call(provider, "cancel", works(), 60)
    with pytest.raises(Unauthorised):
        await accounts.call(provider, verb, fails_with(Unauthorised("status 403", of_key=of_key)), 60)

    assert accounts.of(provider).may_call() is not stops
    assert accounts.refused([provider]) == ([provider.name] if stops else [])


async def test_what_is_not_allowed_in_a_lane_stops_that_lane() -> None:
    """A lane waits as long as a refused key would, says why, and is then tried again; other lanes do not wait."""
    clock = FakeClock()
    account = account_of(clock)
    lane, other = (LaneKey(provider="p", endpoint="/v1/chat/completions", model=model) for model in ("a", "b"))

    assert account.not_allowed(lane, "status 403") == 600
    assert (account.may_create(lane), account.may_create(other), account.may_create()) == (False, True, True)
    assert (account.reason_in(lane), account.reason_in(other)) == ("unauthorised: status 403", "")
    await clock.advance(600)
    assert account.may_create(lane)
    assert account.not_allowed(other, "status 403") == 600
    assert set(account.stops) == {other}
