"""Breakers and plugin calls: who may ask what, and for how long nobody does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.accounts import Account, Accounts, Breaker
from gateway.config import ProviderTable, Retries
from gateway.configured import ConfiguredProvider
from gateway.errors import Missing, PluginFault, ProviderError, Rejected, Unauthorised
from gateway.metrics import Metrics
from gateway.testing import FakeClock, FakeProvider, FakeRemote, FakeSettings


def account_of(clock: FakeClock) -> Account:
    """An account with the first steps the configuration has by default."""
    return Account(breaker=Breaker(clock=clock, first_break_seconds=5.0), unauthorised_seconds=600.0)


def accounts_of(clock: FakeClock) -> Accounts:
    """All accounts of a process that has asked nobody yet."""
    return Accounts(clock, Retries(), Metrics())


def configured(name: str, account: str, clock: FakeClock, directory: Path) -> ConfiguredProvider:
    """A provider table of kind `fake` under an account."""
    settings = FakeSettings(api_key="fake-key", remote=FakeRemote(clock=clock))
    return ConfiguredProvider(
        table=ProviderTable(name=name, kind="fake", account=account),
        kind=FakeProvider,
        settings=settings,
        reason=None,
        clock=clock,
        directory=directory,
    )


def test_breaker_doubles_from_five_seconds_to_five_minutes() -> None:
    """Failed creates in a row stop creates for 5, 10, 20, ... seconds, never for more than 300."""
    account = account_of(FakeClock())
    assert [account.create_failed("no") for _ in range(9)] == [5, 10, 20, 40, 80, 160, 300, 300, 300]


async def test_breaker_closes_by_itself_when_its_time_is_up() -> None:
    """A create may be tried again when the pause is over, and not before."""
    clock = FakeClock()
    account = account_of(clock)
    account.create_failed("no")
    await clock.advance(4.9)
    assert not account.may_create()
    assert account.seconds_left() == pytest.approx(0.1)
    await clock.advance(0.1)
    assert account.may_create()
    assert account.seconds_left() == 0


def test_failed_create_stops_creates_and_not_polls() -> None:
    """An open breaker lets everything but creates through."""
    account = account_of(FakeClock())
    account.create_failed("no")
    assert not account.may_create()
    assert account.may_call()


def test_a_good_create_closes_the_breaker_and_its_memory() -> None:
    """After a create went well others may be made at once, and the next failure pauses for the first step again."""
    account = account_of(FakeClock())
    for _ in range(6):
        account.create_failed("no")
    account.created()
    assert account.may_create()
    assert account.create_failed("no") == 5


async def test_good_polls_do_not_hide_that_creates_fail() -> None:
    """A good poll ends the pause after one failed create; when creates go on failing their pause grows, however polls go."""
    clock = FakeClock()
    account = account_of(clock)
    pauses = []
    for _ in range(8):
        pauses.append(account.create_failed("status 500"))
        account.works()
        assert account.may_create() == (len(pauses) == 1)
        await clock.advance(account.seconds_left())
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300]


def test_what_the_provider_asked_for_is_waited_for() -> None:
    """A Retry-After stands, whatever poll, listing or create goes well meanwhile."""
    account = account_of(FakeClock())
    account.create_failed("status 429", retry_after=120.0)
    account.works()
    assert account.seconds_left() == 120
    account.created()
    assert account.seconds_left() == 120


def test_longer_wish_of_the_provider_is_kept() -> None:
    """A Retry-After that is longer than the step counts; a shorter one does not."""
    account = account_of(FakeClock())
    assert account.create_failed("no", retry_after=77.0) == 77
    assert account.create_failed("no", retry_after=1.0) == 10


async def test_refused_key_stops_everything_for_ten_minutes() -> None:
    """After a 401 neither creates nor polls are made for 600 s, then everything may be tried."""
    clock = FakeClock()
    account = account_of(clock)
    assert account.unauthorised("status 401") == 600
    assert not account.may_call()
    assert not account.may_create()
    await clock.advance(599)
    assert not account.may_call()
    await clock.advance(1)
    assert account.may_call()
    assert account.may_create()


def test_wall_clock_set_back_does_not_lengthen_a_pause() -> None:
    """Pauses are monotonic: setting the machine's clock changes nothing."""
    clock = FakeClock()
    account = account_of(clock)
    account.create_failed("no")
    clock.jump(-86_400)
    assert account.seconds_left() == 5


@given(st.lists(st.floats(min_value=0, max_value=3000), max_size=40))
def test_breaker_never_stays_open_longer_than_five_minutes(waits: list[float]) -> None:
    """Whatever happens in whatever order, without a wish of the provider no pause is over 300 s or under 5 s."""
    account = account_of(FakeClock())
    for _ in waits:
        assert 5 <= account.create_failed("no") <= 300


def test_tables_of_one_account_share_its_breaker(tmp_path: Path) -> None:
    """A create that failed under one table stops the others of the account, and nobody else."""
    clock = FakeClock()
    accounts = accounts_of(clock)
    first, second = (configured(name, "acme", clock, tmp_path) for name in ("a", "b"))
    other = configured("c", "other", clock, tmp_path)
    accounts.of(first).create_failed("no")
    assert not accounts.of(second).may_create()
    assert accounts.of(other).may_create()


async def test_keys_of_one_account_are_refused_apart(tmp_path: Path) -> None:
    """One of two keys of an account is revoked: the other table goes on, and its good calls do not hide the refusal."""
    clock = FakeClock()
    accounts = accounts_of(clock)
    revoked, good = (configured(name, "acme", clock, tmp_path) for name in ("a", "b"))
    accounts.of(revoked).unauthorised("status 401")
    assert accounts.of(good).may_create()
    accounts.of(good).works()
    accounts.of(good).created()
    assert not accounts.of(revoked).may_call()
    assert accounts.refused([revoked, good]) == ["a"]


def test_tables_without_account_are_accounts_of_their_own(tmp_path: Path) -> None:
    """Without an account in the configuration one provider's trouble is not another's."""
    clock = FakeClock()
    accounts = accounts_of(clock)
    first, second = (configured(name, "", clock, tmp_path) for name in ("a", "b"))
    accounts.of(first).unauthorised("status 401")
    assert accounts.of(second).may_call()


def test_an_account_cannot_take_a_tables_name(tmp_path: Path) -> None:
    """An account that is called like a table without one does not share its breaker."""
    clock = FakeClock()
    accounts = accounts_of(clock)
    accounts.of(configured("a", "", clock, tmp_path)).unauthorised("status 401")
    assert accounts.of(configured("b", "a", clock, tmp_path)).may_call()


async def works() -> str:
    """A plugin's coroutine that goes well."""
    return "well"


async def test_a_refused_key_shows_until_it_is_taken(tmp_path: Path) -> None:
    """A table whose key was refused is named, also while it is tried again, until any call goes well; others are not named."""
    clock = FakeClock()
    accounts = accounts_of(clock)
    refused, other = configured("a", "", clock, tmp_path), configured("b", "", clock, tmp_path)
    with capture_logs() as logs, pytest.raises(Unauthorised):
        await accounts.call(refused, "fetch", fails_with(Unauthorised("status 401")), 60)
    assert [(log["event"], log["provider"], log["reason"]) for log in logs] == [("key_refused", "a", "status 401")]
    # A call that had begun before says nothing of the key.
    await accounts.call(refused, "discard", works(), 60)
    assert accounts.refused([refused, other]) == ["a"]
    await clock.advance(600)
    assert accounts.refused([refused, other]) == ["a"]
    await accounts.call(refused, "fetch", works(), 60)
    assert accounts.refused([refused, other]) == []


async def fails_with(error: Exception) -> None:
    """A plugin's coroutine that raises."""
    raise error


@pytest.mark.parametrize("error", [Missing("gone"), Rejected("bad"), ProviderError("odd")])
async def test_errors_of_the_contract_pass_as_they_are(error: ProviderError, tmp_path: Path) -> None:
    """What the contract names reaches the caller of the plugin unchanged, and is no fault."""
    clock = FakeClock()
    with pytest.raises(type(error)) as raised:
        await accounts_of(clock).call(configured("a", "", clock, tmp_path), "poll", fails_with(error), 60)
    assert raised.value is error


async def test_refused_key_in_any_call_stops_the_account(tmp_path: Path) -> None:
    """A plugin that raises Unauthorised stops its whole account."""
    clock = FakeClock()
    accounts, provider = accounts_of(clock), configured("a", "", clock, tmp_path)
    with pytest.raises(Unauthorised):
        await accounts.call(provider, "poll", fails_with(Unauthorised("status 401")), 60)
    assert not accounts.of(provider).may_call()


@pytest.mark.parametrize(
    "error",
    [
        KeyError("id"),
        ValueError("bad"),
        OSError("pipe"),
        AssertionError(),
        RuntimeError("x"),
        asyncio.CancelledError(),
        SystemExit(1),
    ],
)
async def test_anything_else_is_the_plugins_fault(error: BaseException, tmp_path: Path) -> None:
    """An exception outside the contract, also one that would end the process, becomes a PluginFault, logged and counted."""
    clock = FakeClock()
    accounts, provider = accounts_of(clock), configured("acme", "", clock, tmp_path)
    with capture_logs() as logs, pytest.raises(PluginFault, match=type(error).__name__):
        await accounts.call(provider, "poll", fails_with(error), 60)
    assert [(log["event"], log["provider"], log["verb"]) for log in logs] == [("plugin_fault", "acme", "poll")]
    assert b'plugin_faults_total{provider="acme"} 1.0' in accounts.metrics.render()


async def test_a_plugins_exception_is_logged_without_its_words(tmp_path: Path) -> None:
    """Validators put what they were given into their messages: the log has the exception's type and place, and no prompt."""
    clock = FakeClock()
    accounts, provider = accounts_of(clock), configured("acme", "", clock, tmp_path)
    with capture_logs() as logs, pytest.raises(PluginFault) as fault:
        await accounts.call(provider, "poll", fails_with(ValueError("given: my secret prompt")), 60)

    assert "secret prompt" not in f"{logs} {fault.value}"
    assert [log["raised"] for log in logs] == ["ValueError"]
    assert "in fails_with" in logs[0]["exception"]


@pytest.mark.parametrize("answer", [None, "done"])
@pytest.mark.parametrize("verb", ["submit", "poll", "find", "complete"])
async def test_a_verb_that_returns_something_else_is_the_plugins_fault(
    verb: str, answer: str | None, tmp_path: Path
) -> None:
    """A verb that forgets to return, or returns what the contract does not say, is told where it happens: counted, and named."""
    clock = FakeClock()
    accounts, provider = accounts_of(clock), configured("acme", "", clock, tmp_path)

    async def returns() -> str | None:
        return answer

    said = f"'fake' returned {'str' if answer else 'nothing'} from {verb}"
    with capture_logs() as logs, pytest.raises(PluginFault, match=said):
        await accounts.call(provider, verb, returns(), 60)
    assert [(log["event"], log["provider"], log["verb"]) for log in logs] == [("plugin_fault", "acme", verb)]
    assert b'plugin_faults_total{provider="acme"} 1.0' in accounts.metrics.render()


async def test_a_call_that_hangs_is_cut_off(tmp_path: Path) -> None:
    """A plugin that never returns raises TimeoutError, and its coroutine is cancelled."""
    clock = FakeClock()
    ended = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await accounts_of(clock).call(configured("a", "", clock, tmp_path), "poll", hang(), 0.01)
    assert ended.is_set()
