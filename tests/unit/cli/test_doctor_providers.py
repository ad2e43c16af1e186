"""What the doctor says of providers: whether a key is taken, and what runs there that no ledger knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from gateway.cli.checkup.findings import Finding, Status
from gateway.cli.checkup.providers import check_providers
from gateway.clock import as_datetime
from gateway.config import ProviderTable
from gateway.errors import Retryable, Unauthorised
from gateway.records import RemoteBatch
from gateway.store.checks import BatchName, batch_names
from gateway.testing import FakeProvider
from tests.unit.pipeline.rig import Rig, open_rig, sealed
from tests.unit.pipeline.single import Server, SingleProvider


async def seen(rig: Rig, names: list[BatchName] | None = None) -> dict[str, list[Finding]]:
    """What is said of each provider, asked by its own kind."""

    def known() -> list[BatchName] | None:
        with rig.ledger.database.reader() as session:
            return batch_names(session) if names is None else names

    found: dict[str, list[Finding]] = {}
    for each in await check_providers(rig.router, rig.accounts, as_datetime(rig.clock.now() - 3600), known):
        found.setdefault(each.check.removeprefix("provider "), []).append(each)
    return found


async def test_a_key_that_is_refused_is_named(tmp_path: Path) -> None:
    """So is a provider that does not answer; one that has no batches is not asked, for that would be paid."""
    async with open_rig(tmp_path) as rig:
        rig.remote.before["list_ours"].append(Unauthorised("revoked"))
        [refused] = (await seen(rig))["fake"]
        rig.accounts.known.clear()
        rig.remote.before["list_ours"].append(Retryable("no route"))
        [silent] = (await seen(rig))["fake"]
        [gone] = (await seen(rig))["gone"]

    assert (refused.status, "revoked" in refused.said) == (Status.PROBLEM, True)
    assert (silent.status, "no route" in silent.said) == (Status.PROBLEM, True)
    assert (gone.status, "disabled" in gone.said) == (Status.NOTE, True)


async def test_a_server_without_batches_is_not_asked(tmp_path: Path) -> None:
    """Each call of it is an answer to be paid."""
    server = Server()
    tables = {"single": ProviderTable(name="single", kind="single", settings={"api_key": "k", "server": server})}
    async with open_rig(tmp_path, kinds={"single": SingleProvider}, tables=tables) as rig:
        [found] = (await seen(rig))["single"]

    assert (found.status, server.asked) == (Status.OK, [])


async def test_a_batch_that_no_ledger_knows_is_named_while_it_runs(tmp_path: Path) -> None:
    """With what to do about it; one that is over is only counted; one in doubt is the gateway's own business."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "one", "two")
        plugin = rig.router.providers["fake"].instance
        assert isinstance(plugin, FakeProvider)
        rig.remote.files["f"] = b'{"custom_id":"x","body":{"messages":[]}}\n'
        view = replace(rig.upstream.view(batch), file_id="f")
        await plugin.submit(view)
        in_doubt = (await seen(rig))["fake"]
        await plugin.submit(replace(view, marker="0123456789abcdefghij"))
        running = (await seen(rig))["fake"]
        rig.clock.jump(3000)
        over = (await seen(rig))["fake"]
        unreadable = await check_providers(rig.router, rig.accounts, as_datetime(rig.clock.now() - 3600), lambda: None)

    assert [each.status for each in in_doubt] == [Status.OK]
    assert [each.status for each in running] == [Status.OK, Status.PROBLEM]
    assert "fake-2 runs there and is no batch of the ledger" in running[1].said
    assert "--cancel-orphans" in running[1].advice
    assert [each.status for each in over] == [Status.OK]
    assert "1 more are over" in over[0].said
    assert "cannot be read" in unreadable[-1].said or "cannot be read" in unreadable[0].said


async def test_a_kind_that_lists_nothing_is_asked_for_its_key(tmp_path: Path) -> None:
    """An older plugin is asked for a batch that is not there, which every kind can."""

    class Older(FakeProvider):
        kind = "fake"
        list_ours = FakeProvider.__mro__[1].list_ours

    async with open_rig(tmp_path, plugin=Older) as rig:
        [found] = (await seen(rig))["fake"]
        rig.remote.before["find"].append(Unauthorised("revoked"))
        [refused] = (await seen(rig))["fake"]

    assert (found.status, "cannot list" in found.said) == (Status.OK, True)
    assert refused.status is Status.PROBLEM


async def test_without_a_place_for_a_marker_nobody_is_accused(tmp_path: Path) -> None:
    """Where the list does not say whose a batch is, it may be anybody's: a note, and no advice to cancel."""

    class Nameless(FakeProvider):
        kind = "fake"
        marked = False

        async def list_ours(self, since: datetime) -> list[RemoteBatch]:
            """As a list without markers."""
            return [replace(each, marker=None) for each in await super().list_ours(since)]

    async with open_rig(tmp_path, plugin=Nameless) as rig:
        plugin = rig.router.providers["fake"].instance
        assert isinstance(plugin, FakeProvider)
        rig.remote.files["f"] = b'{"custom_id":"x","body":{"messages":[]}}\n'
        await plugin.submit(replace(rig.upstream.view(await sealed(rig, "q")), marker="0" * 20, file_id="f"))
        found = (await seen(rig))["fake"]

    assert [each.status for each in found] == [Status.OK, Status.NOTE]
    assert "cancel" not in found[1].advice
