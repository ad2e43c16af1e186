"""The providers: whether their keys are taken, and what is there of ours that the ledger does not know of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from gateway.accounts import Accounts
from gateway.cli.checkup.findings import Finding, note, ok, problem
from gateway.cli.orphans import LIST_SECONDS, Orphan, lists_ours, orphans
from gateway.clock import as_datetime
from gateway.configured import ConfiguredProvider
from gateway.errors import PluginFault, ProviderError, Unauthorised
from gateway.provider import Provider
from gateway.records import Batch, RemoteBatch, new_marker
from gateway.routing import Router
from gateway.store.checks import BatchName
from gateway.troubles import trouble

#: What the ledger says by now; None: it cannot be read.
Names = Callable[[], Sequence[BatchName] | None]


async def check_providers(router: Router, accounts: Accounts, since: datetime, names: Names) -> list[Finding]:
    """Ask every provider that can be asked. `names` is called after each: a batch is in the ledger before it is sent."""
    findings: list[Finding] = []
    for provider in router.providers.values():
        findings += await _check(provider, accounts, since, names)
    return findings


def disabled(router: Router) -> list[Finding]:
    """Those that cannot be used as they are configured; nobody is asked."""
    return [_disabled(provider) for provider in router.providers.values() if provider.disabled_reason is not None]


def _disabled(provider: ConfiguredProvider) -> Finding:
    return note(f"provider {provider.name}", f"disabled: {provider.disabled_reason}")


async def _check(provider: ConfiguredProvider, accounts: Accounts, since: datetime, names: Names) -> list[Finding]:
    check = f"provider {provider.name}"
    if provider.table.sandbox and not provider.table.sandbox_url:
        return [ok(check, "simulated inside the gateway, nothing to ask")]
    plugin = await provider.ready()
    if plugin is None:
        return [_disabled(provider)]
    if not plugin.batch:
        return [ok(check, "asked one by one; it is not asked now, for that is an answer to be paid")]
    try:
        listed = await accounts.call(provider, "list", _listed(plugin, since), LIST_SECONDS)
    except Unauthorised as error:
        advice = f"put a good key into [providers.{provider.name}]; its batches wait meanwhile"
        return [problem(check, f"the key is refused: {error.reason}", advice)]
    except (ProviderError, PluginFault, TimeoutError) as error:
        return [problem(check, f"it does not answer: {trouble(error)}", "see whether this machine reaches it")]
    if listed is None:
        return [ok(check, f"the key is taken; the kind {plugin.kind} cannot list what a gateway made")]
    known = names()
    if known is None:
        return [ok(check, "the key is taken; what it has cannot be compared with a ledger that cannot be read")]
    return _orphans(check, plugin, listed, orphans(provider.name, listed, known))


async def _listed(plugin: Provider, since: datetime) -> list[RemoteBatch] | None:
    """What a gateway made; None: the kind cannot say, and was only asked for a batch that is not there."""
    if lists_ours(plugin):
        return await plugin.list_ours(since)
    nobody = Batch(
        marker=new_marker(), endpoint="/v1/chat/completions", model="", count=1, size=0, spool=Path("nowhere"),
        first_sent=as_datetime(plugin.clock.now()),
    )  # fmt: skip
    await plugin.find(nobody)
    return None


def _orphans(check: str, plugin: Provider, listed: Sequence[RemoteBatch], found: Sequence[Orphan]) -> list[Finding]:
    running = [orphan for orphan in found if orphan.running and orphan.certain]
    unsure = [orphan for orphan in found if orphan.running and not orphan.certain]
    over = len(found) - len(running) - len(unsure)
    ended = f"; {over} more are over" if over else ""
    findings = []
    for orphan in running:
        whose = "no batch of the ledger" if orphan.copy_of is None else f"a copy of batch {orphan.copy_of}"
        findings.append(
            problem(
                check,
                f"{orphan.remote.remote_id} runs there and is {whose}: its lines are paid for nothing",
                "unless it is another gateway's of this account: stop the gateway, batchway reconcile --all --cancel-orphans",
            )
        )
    if unsure:
        findings.append(
            note(
                check,
                f"{len(unsure)} batches run there that the ledger does not know; {plugin.kind} has no place for a name of ours",
                "give the gateway a key or workspace of its own, so that nothing else is there",
            )
        )
    word = "of a gateway" if plugin.marked else "there"
    known = len(listed) - len(found)
    said = f"the key is taken; {known} of {len(listed)} batches {word} are in the ledger{ended}"
    return [ok(check, said), *findings]
