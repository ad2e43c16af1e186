"""From the name of a model to the provider that serves it and the name it has there.

Floor 3. A provider's SDK is loaded when its instance is first asked for, and never for a provider that is disabled.
"""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import fnmatch
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog
from pydantic import ValidationError

from gateway.clock import Clock
from gateway.config import CORE_KEYS, Configuration, ProviderTable, Route
from gateway.errors import ConfigurationError, Refusal
from gateway.prices import Prices
from gateway.provider import Provider, ProviderSettings
from gateway.records import Limits

#: Says that an answer out of a batch is wanted, which is all that there is here; not part of the provider's name.
BATCH_SUFFIX = ":batch"

_CATCH_ALL = "*"
_WILDCARDS = re.compile(r"[*?\[]")
_MOST_REMEMBERED = 4096


class ConfiguredProvider:
    """One `[providers.NAME]` table with its kind, its limits and, once needed, its instance."""

    def __init__(
        self,
        *,
        table: ProviderTable,
        kind: type[Provider] | None,
        settings: ProviderSettings | None,
        reason: str | None,
        clock: Clock,
        directory: Path,
        loading: threading.Lock | None = None,
    ) -> None:
        """`reason` says why it is disabled; without one, kind and settings are there. `directory` is all providers'.

        `loading` is held while an instance is made, by one provider at a time: SDKs share modules, and of two threads that
        import them at once Python may give one a module that is half there.
        """
        self.table = table
        self.name = table.name
        self.account = table.account
        #: None: no installed plugin brings it.
        self.kind = kind
        limits, vague = _limits(kind, settings)
        self.limits = _merged(limits, table)
        #: Where its calls go; a simulator's address for a sandboxed one. Empty: where its SDK goes by itself.
        self.base_url = settings.base_url if settings is not None else ""
        self._settings = settings
        self._reason = reason or vague
        self._clock = clock
        self._home = directory / table.name
        self._instance: Provider | None = None
        self._loading = loading or threading.Lock()

    @property
    def disabled_reason(self) -> str | None:
        """Why it cannot be used, and what to do about it; None: it can."""
        return self._reason

    @property
    def batches(self) -> bool:
        """Whether its requests go in batches; False: they are asked one by one. A kind that is gone counts as one that has."""
        return self.kind is None or self.kind.batch

    @property
    def home(self) -> str:
        """Where its batches live: its base URL; for a simulator, whose port changes with every start, that it is one."""
        return f"sandbox:{self.name}" if self.table.sandbox else self.base_url

    @property
    def price_address(self) -> str:
        """For `Prices`: the address of the company's own API, also while a simulator stands in for it."""
        if self.kind is None or not self.table.sandbox:
            return self.base_url
        default = self.kind.Settings.model_fields["base_url"].default
        return default if isinstance(default, str) else ""

    @property
    def instance(self) -> Provider | None:
        """The provider itself, made when first asked for, from any thread; None: disabled.

        The first time loads an SDK, some tenths of a second: see `Router.warm`. A kind that raises when it is made is
        disabled from then on, and `disabled_reason` says what it raised.
        """
        if self._instance is None and self._reason is None:
            with self._loading:
                self._make()
        return self._instance

    async def ready(self) -> Provider | None:
        """As `instance`, but the event loop is not held up while an SDK is loaded."""
        if self._reason is not None:
            return None
        return self._instance or await asyncio.to_thread(lambda: self.instance)

    async def aclose(self) -> None:
        """Close the instance, if there is one."""
        if self._instance is not None:
            await self._instance.aclose()

    def _make(self) -> None:
        if self.kind is None or self._settings is None or self._instance is not None or self._reason is not None:
            return
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._instance = self.kind(self.name, self._settings, self._clock, self._home)
        except Exception as error:
            self._reason = f"the kind {self.table.kind} could not make it: {_raised(error)}{_advice(error)}"
            log = structlog.get_logger()
            log.exception("provider_disabled", provider=self.name, kind=self.table.kind, reason=self._reason)


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
        """Close every instance that was made."""
        for provider in self.providers.values():
            await provider.aclose()

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
        settings = _settings(table, kind, simulator, mistakes) if kind is not None else None
        providers[name] = ConfiguredProvider(
            table=table,
            kind=kind,
            settings=settings,
            reason=absences.get(table.kind) or _why_disabled(table, kind, settings, simulator),
            clock=clock,
            directory=directory,
            loading=loading,
        )
    if mistakes:
        raise ConfigurationError(mistakes)
    return Router(MappingProxyType(providers), configuration.routes, prices)


def _advice(error: Exception) -> str:
    """What to do about an SDK that is not installed."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    package = (missing or "").partition(".")[0]
    return f"; install what its plugin needs, which has the module {package}, and start again" if package else ""


def _limits(kind: type[Provider] | None, settings: ProviderSettings | None) -> tuple[Limits, str | None]:
    """What the kind allows, as far as it is known; and why it cannot say so under these settings, which is a bug in it."""
    if kind is None:
        return Limits(), None
    if settings is None:
        return kind.limits, None
    try:
        limits: object = kind.limits_of(settings)
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        return kind.limits, f"the kind {kind.kind} could not say its limits: {_raised(error)}"
    if not isinstance(limits, Limits):
        return kind.limits, f"the kind {kind.kind} could not say its limits: limits_of returned {type(limits).__name__}"
    return limits, None


def _raised(error: Exception) -> str:
    """One line of what was raised."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _merged(limits: Limits, table: ProviderTable) -> Limits:
    overrides: dict[str, Any] = dict(table.limits)
    return dataclasses.replace(limits, **overrides)


def _why_disabled(
    table: ProviderTable, kind: type[Provider] | None, settings: ProviderSettings | None, simulator: str | None
) -> str | None:
    if kind is None:
        return f'no installed plugin brings its kind "{table.kind}"'
    if table.sandbox:
        if kind.simulator is None:
            return f'sandbox = true, and the kind "{table.kind}" has no simulator'
        return None if simulator else "sandbox = true, and its simulator is not running"
    if table.missing_variables:
        return f"set the environment variable {' and '.join(table.missing_variables)}"
    if settings is None or not settings.api_key.get_secret_value():
        return f"set api_key in [providers.{table.name}]"
    return None


def _settings(
    table: ProviderTable, kind: type[Provider], simulator: str | None, mistakes: list[str]
) -> ProviderSettings | None:
    """The table's own keys as the kind's model; what it does not accept goes to `mistakes`, without the values."""
    values = dict(table.settings)
    if simulator is not None:
        values = {**kind.sandbox_settings, **values}
        values["base_url"] = simulator
        values["api_key"] = values.get("api_key") or "sandbox"
    model = kind.Settings
    try:
        return model.model_validate(values)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_context=False, include_input=False):
            known = each["type"] == "extra_forbidden"
            if known or not table.missing_variables:
                mistakes.append(_mistake(table, kind, ".".join(map(str, each["loc"])), each["msg"], unknown=known))
    return None


def _mistake(table: ProviderTable, kind: type[Provider], key: str, message: str, *, unknown: bool) -> str:
    where = f"providers.{table.name}.{key}"
    if not unknown:
        return f"{where}: {message}"
    allowed = sorted({*kind.Settings.model_fields, *CORE_KEYS})
    near = difflib.get_close_matches(key, allowed, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"{where}: unknown key; {guess}allowed here: {', '.join(allowed)}"
