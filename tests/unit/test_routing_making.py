"""How the instances of providers are made."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import structlog

from gateway.clock import Clock
from gateway.config import Configuration, ProviderTable
from gateway.prices import Prices
from gateway.provider import Provider, ProviderSettings
from gateway.routing import Router, build_router
from gateway.testing import FakeClock, FakeProvider


class Plain(FakeProvider):
    """A kind that notes whether its maker has the lock."""

    kind: ClassVar[str] = "plain"
    Settings: ClassVar[type[ProviderSettings]] = ProviderSettings
    prices: ClassVar[Prices] = Prices(FakeClock())
    alone: ClassVar[list[bool]] = []

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        Provider.__init__(self, name, settings, clock, directory)
        self.alone.append(self.prices.loading.locked())


class Broken(Plain):
    """A kind that cannot be made."""

    kind: ClassVar[str] = "broken"

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        raise RuntimeError("no SDK")


class Sticking(Plain):
    """A kind that cannot be closed, and one way of that would end the process."""

    kind: ClassVar[str] = "sticking"
    tried: ClassVar[list[str]] = []

    async def aclose(self) -> None:
        """Raise, whichever it is."""
        self.tried.append(self.name)
        raise SystemExit(1) if self.name == "a" else ValueError("no")


def router(directory: Path, **kinds: str) -> Router:
    """A router over one provider for each name, of the kind that is given."""
    tables = {name: ProviderTable(name=name, kind=kind, settings={"api_key": "k"}) for name, kind in kinds.items()}
    classes = {"plain": Plain, "broken": Broken, "sticking": Sticking}
    configuration = Configuration(providers=tables, routes=())
    return build_router(configuration, classes, clock=FakeClock(), directory=directory, prices=Plain.prices)


def test_one_sdk_is_loaded_at_a_time(tmp_path: Path) -> None:
    """Every provider is made under the lock that the price list is loaded under: SDKs import the same modules."""
    Plain.alone.clear()
    routes = router(tmp_path, a="plain", b="plain")
    made = [provider.instance is not None for provider in routes.providers.values()]

    assert (made, Plain.alone) == ([True, True], [True, True])
    assert not Plain.prices.loading.locked()


def test_a_kind_that_cannot_be_made_is_logged_once(tmp_path: Path) -> None:
    """Whoever asks first, the log says which provider is out of service, and why."""
    routes = router(tmp_path, a="broken")
    with structlog.testing.capture_logs() as logs:
        assert routes.providers["a"].instance is None
        routes.warm()

    [entry] = logs
    assert (entry["event"], entry["provider"], entry["kind"]) == ("provider_disabled", "a", "broken")
    assert "RuntimeError: no SDK" in entry["reason"]


def test_a_folder_that_cannot_be_made_disables_its_provider_only(tmp_path: Path) -> None:
    """A file in the way of a provider's folder puts that provider out of service, by name, and no other."""
    routes = router(tmp_path, a="plain", b="plain")
    place = routes.providers["b"].instance
    assert place is not None
    place.directory.with_name("a").write_text("in the way")

    assert routes.warm() == [f"providers.a: {routes.providers['a'].disabled_reason}"]
    assert "FileExistsError" in (routes.providers["a"].disabled_reason or "")


async def test_one_that_cannot_be_closed_keeps_no_other_open(tmp_path: Path) -> None:
    """Every instance is closed at the stop; what one raises is logged under its name."""
    Sticking.tried.clear()
    routes = router(tmp_path, a="sticking", b="sticking")
    routes.warm()
    with structlog.testing.capture_logs() as logs:
        await routes.aclose()

    assert Sticking.tried == ["a", "b"]
    assert [(log["event"], log["provider"], log["verb"], log["raised"]) for log in logs] == [
        ("plugin_fault", "a", "aclose", "SystemExit"),
        ("plugin_fault", "b", "aclose", "ValueError"),
    ]
