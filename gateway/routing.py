"""From the name of a model to the provider that serves it and the name it has there.

Floor 3. What a provider is, is in `configured`.
"""

from __future__ import annotations

import asyncio
import fnmatch
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from gateway.clock import Clock
from gateway.config import Configuration, Route
from gateway.configured import ConfiguredProvider, settings_of, why_disabled
from gateway.errors import ConfigurationError, Refusal
from gateway.prices import Prices
from gateway.provider import Provider

#: Says that an answer out of a batch is wanted, which is all that there is here; not part of the provider's name.
BATCH_SUFFIX = ":batch"

_CATCH_ALL = "*"
_WILDCARDS = re.compile(r"[*?\[]")
_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """Where a request goes, and the model's name there."""

    provider: ConfiguredProvider
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model that can be asked for by `id`."""

    id: str
    provider: str

    def as_openai(self) -> dict[str, object]:
        """OpenAI's model object. When a model came into being is not known here."""
        return {"id": self.id, "object": "model", "created": 0, "owned_by": self.provider}


class Router:
    """Finds the provider of a model. Made by `build_router`."""

    def __init__(
        self, providers: Mapping[str, ConfiguredProvider], routes: Iterable[Route], prices: Prices | None
    ) -> None:
        self.providers = providers
        self.prices = prices
        self._routes = [(re.compile(fnmatch.translate(route.model)), route) for route in routes]
        self._found: dict[str, Routed] = {}

    def resolve(self, model: str) -> Routed:
        """Where `model`, as a client wrote it, goes.

        Tried in this order: routes on the whole name, the first match wins; `PROVIDER/model`; the name without `:batch`.
        A bare `*` is the last resort of all these. Raises `Refusal`: `model_not_found`, or `provider_unavailable` for a
        disabled provider.
        """
        routed = self._found.get(model)
        if routed is None:
            routed = self._find(model)
            if routed is None:
                raise Refusal("model_not_found", self._not_found(model), param="model")
            if len(self._found) >= _MOST_REMEMBERED:
                self._found.clear()
            self._found[model] = routed
        reason = routed.provider.disabled_reason
        if reason is not None:
            raise Refusal(
                "provider_unavailable", f"Provider {routed.provider.name} is disabled: {reason}.", param="model"
            )
        return routed

    def models(self, seen: Iterable[str] = ()) -> list[ModelEntry]:
        """Concrete names that lead to a provider in use, for people to choose from, in order of name.

        They come from routes and price tables without wildcards, from `seen`, and from the price list of batches.
        """
        names = {route.model for _, route in self._routes} | set(seen)
        for provider in self._enabled():
            names |= {self._name_of(model, provider) for model in self._priced(provider)}
        entries: list[ModelEntry] = []
        for name in sorted(names):
            routed = None if _WILDCARDS.search(name) else self._find(name)
            if routed is not None and routed.provider.disabled_reason is None:
                entries.append(ModelEntry(id=name, provider=routed.provider.name))
        return entries

    def warm(self) -> list[str]:
        """Make every instance and load the price list, in a thread at start: it takes a second or so.

        Returns one line for each provider that could not be made.
        """
        for provider in self._enabled():
            self._priced(provider)
        return [
            f"providers.{provider.name}: {provider.disabled_reason}"
            for provider in self._enabled()
            if provider.instance is None
        ]

    async def aclose(self) -> None:
        """Close every instance that was made, beside each other: one that hangs keeps no other open."""
        await asyncio.gather(*(provider.aclose() for provider in self.providers.values()))

    def _priced(self, provider: ConfiguredProvider) -> set[str]:
        listed = [] if self.prices is None else self.prices.models(provider.table, address=provider.price_address)
        return {*provider.table.prices, *listed}

    def _enabled(self) -> list[ConfiguredProvider]:
        return [provider for provider in self.providers.values() if provider.disabled_reason is None]

    def _find(self, model: str) -> Routed | None:
        last_resort: Route | None = None
        for pattern, route in self._routes:
            if route.model == _CATCH_ALL:
                last_resort = route
                break
            if pattern.match(model):
                return self._routed(route.provider, model, keep_suffix=route.model.endswith(BATCH_SUFFIX))
        prefix, slash, rest = model.partition("/")
        if slash and prefix in self.providers and rest:
            return self._routed(prefix, rest)
        stripped = model.removesuffix(BATCH_SUFFIX)
        if stripped != model:
            return self._find(stripped)
        return self._routed(last_resort.provider, model) if last_resort is not None and model else None

    def _routed(self, provider: str, model: str, *, keep_suffix: bool = False) -> Routed:
        upstream = model if keep_suffix else model.removesuffix(BATCH_SUFFIX)
        return Routed(provider=self.providers[provider], model=upstream)

    def _name_of(self, model: str, provider: ConfiguredProvider) -> str:
        """What to ask for to get `model` at `provider`: its plain name if that leads there."""
        routed = self._find(model)
        return model if routed is not None and routed.provider is provider else f"{provider.name}/{model}"

    def _not_found(self, model: str) -> str:
        routes = ", ".join(route.model for _, route in self._routes) or "none"
        providers = ", ".join(f"{name}/MODEL" for name in sorted(self.providers)) or "none"
        return f"No route for the model {model[:200]!r}. Configured routes: {routes}; by provider: {providers}."


def build_router(
    configuration: Configuration,
    kinds: Mapping[str, type[Provider]],
    *,
    clock: Clock,
    directory: Path,
    simulators: Mapping[str, str] = MappingProxyType({}),
    prices: Prices | None = None,
    absences: Mapping[str, str] = MappingProxyType({}),
) -> Router:
    """The configured providers behind their routes. No instance is made, no SDK loaded.

    `kinds` is `Plugins.classes()`; `directory` is where providers keep their files, one folder each; `simulators` has
    the base URL of the running simulator of each sandboxed provider; `prices` knows the names of models; `absences` is
    `Plugins.absences`, why kinds are not there. Raises
    `ConfigurationError` with all settings that the kinds do not accept.
    """
    mistakes: list[str] = []
    loading = prices.loading if prices is not None else threading.Lock()
    providers: dict[str, ConfiguredProvider] = {}
    for name, table in configuration.providers.items():
        kind = kinds.get(table.kind)
        simulator = simulators.get(name) if table.sandbox else None
        settings = settings_of(table, kind, simulator, mistakes) if kind is not None else None
        providers[name] = ConfiguredProvider(
            table=table,
            kind=kind,
            settings=settings,
            reason=absences.get(table.kind) or why_disabled(table, kind, settings, simulator),
            clock=clock,
            directory=directory,
            loading=loading,
        )
    if mistakes:
        raise ConfigurationError(mistakes)
    return Router(MappingProxyType(providers), configuration.routes, prices)
