"""Which provider a model goes to, under which name, and why one cannot be used."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import pytest
from pydantic import SecretStr

from gateway.clock import Clock
from gateway.config import Configuration, ProviderTable, Route, TokenPrices
from gateway.errors import ConfigurationError, Refusal
from gateway.prices import Prices
from gateway.provider import Provider, ProviderSettings
from gateway.records import Limits
from gateway.routing import Router, build_router
from gateway.testing import FakeClock, FakeProvider, FakeRemote


class PlainSettings(ProviderSettings):
    """Settings of a kind with one key more."""

    base_url: str = "https://api.plain.example/v1"
    size: int = 1


class Plain(FakeProvider):
    """A kind that counts its instances and needs no remote."""

    kind: ClassVar[str] = "plain"
    Settings: ClassVar[type[ProviderSettings]] = PlainSettings
    limits: ClassVar[Limits] = Limits(max_requests=100, max_bytes=1000)
    simulator: ClassVar[str | None] = "nowhere:Nothing"
    made: ClassVar[list[str]] = []
    closed: ClassVar[list[str]] = []

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        Provider.__init__(self, name, settings, clock, directory)
        assert directory.is_dir()
        self.made.append(name)

    async def aclose(self) -> None:
        """Note that this one was closed."""
        self.closed.append(self.name)


class Slow(Plain):
    """A kind whose making lasts until a second one is being made, which must not happen, or a moment."""

    kind: ClassVar[str] = "slow"
    both: ClassVar[threading.Barrier] = threading.Barrier(2)

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        super().__init__(name, settings, clock, directory)
        with contextlib.suppress(threading.BrokenBarrierError):
            self.both.wait(timeout=0.1)


class Broken(Plain):
    """A kind that cannot be made."""

    kind: ClassVar[str] = "broken"
    simulator: ClassVar[str | None] = None

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        raise RuntimeError("no\nSDK")


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    Plain.made.clear()
    Plain.closed.clear()


@pytest.fixture(name="directory")
def _directory(tmp_path: Path) -> Path:
    return tmp_path / "providers"


def table(
    name: str, kind: str = "plain", settings: Mapping[str, object] | None = None, **more: object
) -> ProviderTable:
    """A provider's table, with a key unless the settings say otherwise."""
    keyed = {"api_key": "k"} if settings is None else settings
    return ProviderTable(name=name, kind=kind, settings=keyed, **more)  # type: ignore[arg-type]


def router(directory: Path, *tables: ProviderTable, routes: Mapping[str, str] | None = None, **more: object) -> Router:
    """A router over these providers; routes are pattern -> provider, in order."""
    configuration = Configuration(
        providers={each.name: each for each in tables},
        routes=tuple(Route(model=model, provider=provider) for model, provider in (routes or {}).items()),
    )
    kinds = {kind.kind: kind for kind in (Plain, Slow, Broken, FakeProvider)}
    return build_router(configuration, kinds, clock=FakeClock(), directory=directory, **more)  # type: ignore[arg-type]


ROUTES = {"up/*": "b", "gpt-*": "a", "gpt-5*": "b", "exact": "b", "odd:batch": "b", "*": "a"}


@pytest.mark.parametrize(
    ("model", "provider", "upstream"),
    [
        ("gpt-4.1", "a", "gpt-4.1"),
        ("gpt-5", "a", "gpt-5"),
        ("exact", "b", "exact"),
        ("Exact", "a", "Exact"),
        ("anything", "a", "anything"),
        ("up/sim-1", "b", "up/sim-1"),
        ("b/up/sim-1", "b", "up/sim-1"),
        ("b/gpt-4.1", "b", "gpt-4.1"),
        ("c/gpt-4.1", "a", "c/gpt-4.1"),
        ("b/", "a", "b/"),
        ("gpt-4.1:batch", "a", "gpt-4.1"),
        ("b/gpt-4.1:batch", "b", "gpt-4.1"),
        ("exact:batch", "b", "exact"),
        ("odd:batch", "b", "odd:batch"),
        ("gpt-4.1:batch2", "a", "gpt-4.1:batch2"),
        ("gpt-4.1:BATCH", "a", "gpt-4.1:BATCH"),
        ("ft:gpt-4.1:me::1", "a", "ft:gpt-4.1:me::1"),
        ("anything:batch", "a", "anything"),
    ],
)
def test_a_name_finds_its_provider(directory: Path, model: str, provider: str, upstream: str) -> None:
    """Routes on the whole name come first and in order, then the prefix, then the name without :batch, a bare * last."""
    routed = router(directory, table("a"), table("b"), routes=ROUTES).resolve(model)

    assert (routed.provider.name, routed.model) == (provider, upstream)


@pytest.mark.parametrize("model", ["", "unknown", ":batch", "a/", "/x", "A/x", "c/x"])
def test_an_unknown_model_is_told_what_there_is(directory: Path, model: str) -> None:
    """A name that leads nowhere gets a 404 that names the routes and providers."""
    with pytest.raises(Refusal) as refusal:
        router(directory, table("a"), table("b"), routes={"gpt-*": "a"}).resolve(model)

    assert (refusal.value.code, refusal.value.rule.status, refusal.value.param) == ("model_not_found", 404, "model")
    assert "gpt-*" in refusal.value.message
    assert "a/MODEL, b/MODEL" in refusal.value.message


@pytest.mark.parametrize("model", ["", ":batch"])
def test_a_name_must_be_one(directory: Path, model: str) -> None:
    """Not even a route for everything takes a request without a model's name."""
    with pytest.raises(Refusal, match="No route"):
        router(directory, table("a"), routes={"*": "a"}).resolve(model)


def test_routes_after_a_bare_star_are_never_tried(directory: Path) -> None:
    """The first match wins: what stands after a route for everything is dead."""
    found = router(directory, table("a"), table("b"), routes={"*": "a", "gpt-*": "b"}).resolve("gpt-4.1")

    assert found.provider.name == "a"


def test_many_names_do_not_fill_the_memory(directory: Path) -> None:
    """However many names are asked for, answers stay right and few are remembered."""
    routes = router(directory, table("a"), routes={"*": "a"})

    assert all(routes.resolve(f"model-{n}").model == f"model-{n}" for n in range(10_000))
    assert len(routes._found) <= 4096


@pytest.mark.parametrize(
    ("disabled", "said"),
    [
        (table("a", missing_variables=("A_KEY", "ORG")), "set the environment variable A_KEY and ORG"),
        (table("a", settings={}), "set api_key in [providers.a]"),
        (table("a", kind="gone"), 'no installed plugin brings its kind "gone"'),
        (table("a", sandbox=True), "its simulator is not running"),
        (table("a", kind="broken", sandbox=True), 'the kind "broken" has no simulator'),
    ],
)
def test_a_disabled_provider_says_what_to_do(directory: Path, disabled: ProviderTable, said: str) -> None:
    """A request for a provider that cannot be used gets a 502 with the reason, and no instance is ever made."""
    routes = router(directory, disabled, routes={"*": "a"})

    for _ in range(2):
        with pytest.raises(Refusal) as refusal:
            routes.resolve("gpt-4.1")
        assert (refusal.value.code, refusal.value.rule.status) == ("provider_unavailable", 502)
        assert said in refusal.value.message
    assert routes.providers["a"].instance is None
    assert routes.warm() == []
    assert Plain.made == []
    assert not directory.exists()


def test_an_instance_is_made_once_when_it_is_needed(directory: Path) -> None:
    """Building a router makes nothing; many threads that ask at once get one and the same instance."""
    provider = router(directory, table("a", "slow", {"api_key": "k", "size": "7"})).providers["a"]
    assert Plain.made == []

    got: list[Provider | None] = []
    threads = [threading.Thread(target=lambda: got.append(provider.instance)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Plain.made == ["a"]
    [instance] = set(got)
    assert instance is not None
    assert instance.directory == directory / "a"
    assert isinstance(instance.settings, PlainSettings)
    assert instance.settings.size == 7


def test_a_kind_that_cannot_be_made_is_disabled(directory: Path) -> None:
    """An exception out of a kind's constructor disables that provider, with one line of why, and leaves the others."""
    routes = router(directory, table("a", kind="broken"), table("b"), routes={"*": "a"})

    assert routes.warm() == ["providers.a: the kind broken could not make it: RuntimeError: no SDK"]
    assert routes.providers["b"].instance is not None
    with pytest.raises(Refusal, match="RuntimeError: no SDK"):
        routes.resolve("gpt-4.1")


@pytest.mark.parametrize("said", [RuntimeError("no\nlimits"), None])
def test_a_kind_that_cannot_say_its_limits_is_disabled(directory: Path, said: object) -> None:
    """It raises, or says something else: that provider is disabled, with one line of why, and the start goes on."""

    class Vague(Plain):
        kind = "plain"

        @classmethod
        def limits_of(cls, settings: ProviderSettings) -> Limits:
            if isinstance(said, Exception):
                raise said
            return said  # type: ignore[return-value]

    configuration = Configuration(providers={"a": table("a")}, routes=())
    made = build_router(configuration, {"plain": Vague}, clock=FakeClock(), directory=directory)
    reason = made.providers["a"].disabled_reason

    assert (reason or "").startswith("the kind plain could not say its limits: ")
    assert "\n" not in (reason or "")
    assert made.providers["a"].limits == Plain.limits


def test_a_missing_sdk_is_named_with_what_to_do(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind whose SDK is not installed disables its provider, and says which module it wants."""

    def without_sdk(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'acme.sdk'", name="acme.sdk")

    monkeypatch.setattr(Plain, "__init__", without_sdk)
    [line] = router(directory, table("a"), routes={"*": "a"}).warm()

    assert line.startswith(
        "providers.a: the kind plain could not make it: ModuleNotFoundError: No module named 'acme.sdk'"
    )
    assert line.endswith("install what its plugin needs, which has the module acme, and start again")


def test_a_kind_that_is_not_there_says_whose_fault_it_is(directory: Path) -> None:
    """A provider whose plugin is broken is disabled for that reason, and the others work."""
    absences = {"lost": "plugin x (x-dist): cannot be imported"}
    routes = router(directory, table("a", kind="lost"), table("b"), routes={"*": "a"}, absences=absences)

    assert routes.providers["b"].instance is not None
    with pytest.raises(Refusal, match=r"Provider a is disabled: plugin x \(x-dist\): cannot be imported"):
        routes.resolve("gpt-4.1")


def test_settings_a_kind_does_not_accept_are_all_told_at_once(directory: Path) -> None:
    """Unknown keys and wrong values of every provider are listed with their dotted keys and without the values."""
    with pytest.raises(ConfigurationError) as error:
        router(
            directory,
            table("a", settings={"api_key": "k", "sise": 1}),
            table("b", settings={"api_key": 123456789, "size": "s3cret"}),
            table("c", settings={"base_urll": "x"}, missing_variables=("C_KEY",)),
        )
    mistakes = error.value.mistakes

    assert [line.split(": ")[0] for line in mistakes] == [
        "providers.a.sise",
        "providers.b.api_key",
        "providers.b.size",
        "providers.c.base_urll",
    ]
    assert (
        "did you mean size? allowed here: account, api_key, base_url, kind, limits, prices, sandbox, sandbox_url, size"
        in mistakes[0]
    )
    assert not any("s3cret" in line or "123456789" in line for line in mistakes)


def test_settings_with_a_missing_variable_are_not_held_against_it(directory: Path) -> None:
    """A value that is wrong only because its variable is not set disables the provider and stops nothing."""
    routes = router(directory, table("a", settings={"size": ""}, missing_variables=("SIZE",)), routes={"*": "a"})

    assert routes.providers["a"].disabled_reason == "set the environment variable SIZE"


def test_limits_of_the_table_override_those_of_the_kind(directory: Path) -> None:
    """Each limit in the configuration replaces the kind's, and the others stay."""
    limits = router(
        directory,
        table("a", limits={"max_requests": 5, "max_enqueued_tokens": {"gpt-4.1": 1000}}),
        table("b", limits={"max_enqueued_tokens": 7}),
    )
    narrowed = limits.providers["a"].limits

    assert (narrowed.max_requests, narrowed.max_bytes) == (5, 1000)
    assert (narrowed.enqueued_tokens("gpt-4.1"), narrowed.enqueued_tokens("gpt-5")) == (1000, None)
    assert limits.providers["b"].limits.enqueued_tokens("anything") == 7


def test_a_sandboxed_provider_talks_to_its_simulator(directory: Path) -> None:
    """With its simulator running a sandboxed provider needs no key; its prices are still those of the company."""
    sandboxed = table("a", settings={"api_key": ""}, sandbox=True, missing_variables=("A_KEY",))
    provider = router(directory, sandboxed, simulators={"a": "http://127.0.0.1:9/v1"}).providers["a"]
    plain = router(directory, table("b"), simulators={"b": "http://127.0.0.1:9/v1"}).providers["b"]

    assert provider.disabled_reason is None
    assert provider.base_url == "http://127.0.0.1:9/v1"
    assert provider.price_address == "https://api.plain.example/v1"
    assert provider.instance is not None
    assert provider.instance.settings.api_key == SecretStr("sandbox")
    assert plain.base_url == "https://api.plain.example/v1"


async def test_closing_closes_what_was_made(directory: Path) -> None:
    """Only instances that exist are closed."""
    routes = router(directory, table("a"), table("b"))
    assert routes.providers["a"].instance is not None
    await routes.aclose()

    assert Plain.closed == ["a"]
    assert Plain.made == ["a"]


def test_models_are_names_that_lead_somewhere(directory: Path) -> None:
    """The list has concrete names from routes, prices and use, each under the provider it leads to, none twice."""
    priced = {
        "gpt-4.1": TokenPrices(input=1, cached=1, output=1),
        "far": TokenPrices(input=1, cached=1, output=1),
        "o*": TokenPrices(input=1, cached=1, output=1),
    }
    routes = router(
        directory,
        table("a"),
        table("b", prices=priced),
        table("off", settings={}, prices={"lost": TokenPrices(input=1, cached=1, output=1)}),
        routes={"near": "a", "gone": "off", "gpt-*": "a", "far": "b"},
        prices=Prices(FakeClock()),
    )
    entries = {entry.id: entry.provider for entry in routes.models(seen=["gpt-seen", "nowhere"])}

    assert entries == {"b/gpt-4.1": "b", "far": "b", "gpt-seen": "a", "near": "a"}
    assert routes.models()[0].as_openai() == {"id": "b/gpt-4.1", "object": "model", "created": 0, "owned_by": "b"}


def test_a_listed_company_offers_its_batch_models(directory: Path) -> None:
    """Out of the box, the models with a known batch price are offered."""
    configuration = Configuration(
        providers={"openai": table("openai", kind="openai")}, routes=(Route(model="*", provider="openai"),)
    )
    clock = FakeClock()
    routes = build_router(configuration, {"openai": Plain}, clock=clock, directory=directory, prices=Prices(clock))

    assert "gpt-4.1" in {entry.id for entry in routes.models()}


def test_a_fake_provider_is_configured_with_its_remote(directory: Path) -> None:
    """A test hands the remote over in the table's settings, and it arrives as it is."""
    remote = FakeRemote(clock=FakeClock())
    routes = router(directory, table("a", kind="fake", settings={"api_key": "k", "remote": remote}))
    instance = routes.providers["a"].instance

    assert isinstance(instance, FakeProvider)
    assert instance.remote is remote


async def test_the_loop_goes_on_while_a_provider_is_made(tmp_path: Path) -> None:
    """A kind that takes its time to load does not hold up whoever else waits for the event loop."""
    turned = threading.Event()

    class Slow(FakeProvider):
        kind = "slow"

        def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
            super().__init__(name, settings, clock, directory)
            assert turned.wait(timeout=20), "the loop did not turn"

    clock = FakeClock()
    table = ProviderTable(name="slow", kind="slow", settings={"api_key": "k", "remote": FakeRemote(clock=clock)})
    configuration = Configuration(providers=MappingProxyType({"slow": table}))
    router = build_router(configuration, {"slow": Slow}, clock=clock, directory=tmp_path)
    ready, _ = await asyncio.gather(router.providers["slow"].ready(), asyncio.to_thread(turned.set))

    assert ready is router.providers["slow"].instance
