"""One `[providers.NAME]` table with its kind: its settings, its limits, why it is disabled, and the instance made of it.

Floor 3. A provider's SDK is loaded when its instance is first asked for, and never for a provider that is disabled.
"""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import threading
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from gateway.clock import Clock
from gateway.config import CORE_KEYS, ProviderTable
from gateway.config.tables import secrets_of
from gateway.logs import Redactor, traced
from gateway.places import place_of
from gateway.provider import Provider, ProviderSettings
from gateway.records import Limits
from gateway.store.rows import SIMULATED, LaneKey


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
        limits, vague = _limits(table, kind, settings)
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
    def rehearsal(self) -> bool:
        """Whether a simulator answers in its place (`sandbox = true`): what is said there is never given for the provider's."""
        return self.table.sandbox

    @property
    def lane_kind(self) -> str:
        """For `LaneKey`: in whose words requests are written for it now, and whether a simulator answers them."""
        return f"{SIMULATED}{self.table.kind}" if self.rehearsal else self.table.kind

    def estranged(self, lane: LaneKey) -> str | None:
        """Why what was made for this table when `lane` was is not for it as it is now, and what to do; None: it is."""
        kind, cancel = lane.kind.removeprefix(SIMULATED), "or cancel it (batchway cancel)"
        if lane.rehearsal and not self.rehearsal:
            return f"made for a rehearsal, and provider {self.name!r} is real now: set sandbox = true again, {cancel}"
        if self.rehearsal and not lane.rehearsal:
            return f"made for the real provider {self.name!r}, which is only rehearsed now: remove sandbox = true, {cancel}"
        if kind and kind != self.table.kind:
            return f"made for provider {self.name!r} when its kind was {kind!r}: set that kind again, {cancel}"
        return None

    @property
    def home(self) -> str:
        """Where its batches live: its base URL; for a simulator, whose port changes with every start, that it is one.

        Stored with every batch, so without a user and a password, and however the address is written.
        """
        return f"sandbox:{self.name}" if self.table.sandbox else place_of(self.base_url)

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
        """Close the instance, if there is one; what it raises is logged under its name, and keeps nothing else from closing."""
        try:
            if self._instance is not None:
                await self._instance.aclose()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
            log_fault(self.name, self.table.kind, "aclose", error)

    def _make(self) -> None:
        if self.kind is None or self._settings is None or self._instance is not None or self._reason is not None:
            return
        try:
            self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._instance = self.kind(self.name, self._settings, self._clock, self._home)
        except (Exception, SystemExit) as error:
            self._reason = f"the kind {self.table.kind} could not make it: {_raised(error, self.table)}{_advice(error)}"
            log = structlog.get_logger()
            log.exception("provider_disabled", provider=self.name, kind=self.table.kind, reason=self._reason)


def log_fault(provider: str, kind: str, verb: str, error: BaseException) -> None:
    """Write down, under the plugin's name, what it must not raise and where: without the words, which may quote anything."""
    structlog.get_logger().error(
        "plugin_fault",
        provider=provider,
        kind=kind,
        verb=verb,
        raised=type(error).__name__,
        exception=traced(error),
    )


def _advice(error: BaseException) -> str:
    """What to do about an SDK that is not installed."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    package = (missing or "").partition(".")[0]
    return f"; install what its plugin needs, which has the module {package}, and start again" if package else ""


def _limits(
    table: ProviderTable, kind: type[Provider] | None, settings: ProviderSettings | None
) -> tuple[Limits, str | None]:
    """What the kind allows, as far as it is known; and why it cannot say so under these settings, which is a bug in it."""
    if kind is None:
        return Limits(), None
    if settings is None:
        return kind.limits, None
    try:
        limits: object = kind.limits_of(settings)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        return kind.limits, f"the kind {kind.kind} could not say its limits: {_raised(error, table)}"
    if not isinstance(limits, Limits):
        return kind.limits, f"the kind {kind.kind} could not say its limits: limits_of returned {type(limits).__name__}"
    return limits, None


def _raised(error: BaseException, table: ProviderTable) -> str:
    """One line of what was raised, without the table's keys, which it may quote: callers are told of it."""
    return Redactor(secrets_of([table])).text(" ".join(f"{type(error).__name__}: {error}".split()))


def _merged(limits: Limits, table: ProviderTable) -> Limits:
    overrides: dict[str, Any] = dict(table.limits)
    return dataclasses.replace(limits, **overrides)


def why_disabled(
    table: ProviderTable, kind: type[Provider] | None, settings: ProviderSettings | None, simulator: str | None
) -> str | None:
    """Why a table cannot be used as it stands, and what to do about it; None: it can."""
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


def settings_of(
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
