"""From a file and the environment to a checked `Configuration`, or to one list of all that is wrong with it."""

from __future__ import annotations

import copy
import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from gateway.config.environment import apply_overrides, expand
from gateway.config.reading import EnvironmentText, Mistakes, read_section
from gateway.config.sections import (
    Batching,
    Cache,
    Configuration,
    Polling,
    ProviderTable,
    Retries,
    Route,
    Server,
    Storage,
    Waiting,
)
from gateway.config.tables import check_addresses, read_clients, read_provider, read_routes, secrets_of
from gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Section = TypeVar("Section", bound="DataclassInstance")

#: A name or an address as it stands in a Host header, which is what it is compared with; or the star for all.
_HOST = re.compile(r"\*|[a-z0-9._-]*[a-z0-9_-]|[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*|\[[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*\]")

#: Read when no file is named, if it is there.
DEFAULT_FILE = Path("config.toml")

#: What a file that configures no provider gets, and what `config.toml` has.
_DEFAULT_PROVIDERS = {"openai": {"kind": "openai", "api_key": "${OPENAI_API_KEY}"}}

_TOP_LEVEL = tuple(field.name for field in dataclasses.fields(Configuration) if field.name not in ("secrets", "source"))


def load(path: Path | None, environ: Mapping[str, str]) -> Configuration:
    """The whole configuration: defaults, then the file, then the environment.

    Without `path`, `./config.toml` is read if it exists. Raises `ConfigurationError` with all mistakes at once. A variable
    that a provider's table names and that is not set is no mistake: see `ProviderTable.missing_variables`.
    """
    configuration, mistakes = examine(path, environ)
    if mistakes:
        raise ConfigurationError(mistakes)
    return configuration


def examine(path: Path | None, environ: Mapping[str, str]) -> tuple[Configuration, list[str]]:
    """As `load`, with the mistakes beside what could be read all the same, so that a check can go on and find more.

    Raises `ConfigurationError` only for a file that cannot be read at all.
    """
    settings = _read(path, environ)
    mistakes = settings.mistakes
    for name in settings.tree:
        if name not in _TOP_LEVEL:
            mistakes.unknown(name, _TOP_LEVEL)
    configuration = Configuration(
        server=settings.section("server", Server()),
        storage=settings.section("storage", Storage()),
        cache=settings.section("cache", Cache()),
        batching=settings.section("batching", Batching()),
        polling=settings.section("polling", Polling()),
        retries=settings.section("retries", Retries()),
        waiting=settings.section("waiting", Waiting()),
        clients=read_clients(settings.expanded("clients", []), mistakes),
        source=settings.source,
    )
    providers = _read_providers(settings)
    configuration = dataclasses.replace(
        configuration,
        providers=MappingProxyType(providers),
        routes=_read_routes(settings, providers),
        secrets=secrets_of(providers.values()),
    )
    _check_together(configuration, mistakes)
    return dataclasses.replace(configuration, storage=settings.placed(configuration.storage)), mistakes.lines


def early(path: Path | None, environ: Mapping[str, str]) -> tuple[Server, Storage]:
    """`[server]` and `[storage]` alone, as `load` will have them, for binding and locking before heavy imports.

    Raises `ConfigurationError` if these two cannot be used; mistakes elsewhere are left to `load`.
    """
    settings = _read(path, environ)
    server = settings.section("server", Server())
    storage = settings.section("storage", Storage())
    _check_exposure(server, keys_asked=bool(settings.tree.get("clients")), mistakes=settings.mistakes)
    if settings.mistakes.lines:
        raise ConfigurationError(settings.mistakes.lines)
    return server, settings.placed(storage)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """The file with the overrides in it, not yet checked."""

    source: Path | None
    tree: dict[str, object]
    environ: Mapping[str, str]
    mistakes: Mistakes

    def expanded(self, name: str, default: object) -> object:
        """What stands under `name`, with its `${NAME}` replaced; here a missing variable is a mistake."""
        return expand(self.tree.get(name, default), name, self.environ, self._not_set)

    def section(self, name: str, defaults: Section) -> Section:
        """The section called `name`."""
        return read_section(defaults, self.expanded(name, {}), name, self.mistakes)

    def placed(self, storage: Storage) -> Storage:
        """A relative directory lies beside the file, so that every command finds the same ledger.

        One from the environment, or without a file, lies where the command is run.
        """
        table = self.tree.get("storage", {})
        written = table.get("directory") if isinstance(table, Mapping) else None
        if self.source is None or isinstance(written, EnvironmentText):
            return storage
        return dataclasses.replace(storage, directory=self.source.parent / storage.directory)

    def _not_set(self, key: str, variable: str) -> None:
        self.mistakes.add(key, f"the environment variable {variable} is not set")


def source_of(path: Path | None) -> Path | None:
    """The file that is read: the named one, else the default one where it is; None: the defaults hold."""
    return path if path is not None else (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)


def _read(path: Path | None, environ: Mapping[str, str]) -> _Settings:
    """The file, if any, with the defaults it leaves open and the overrides of the environment."""
    source = source_of(path)
    tree: dict[str, object] = {}
    if source is not None:
        try:
            tree = tomllib.loads(source.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise ConfigurationError([f"{source}: cannot be read: {error.strerror}"]) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError([f"{source}: is not TOML: {error}"]) from None
    tree.setdefault("providers", copy.deepcopy(_DEFAULT_PROVIDERS))
    mistakes = Mistakes()
    apply_overrides(tree, environ, mistakes)
    return _Settings(source=source, tree=tree, environ=environ, mistakes=mistakes)


def _read_providers(settings: _Settings) -> dict[str, ProviderTable]:
    tables = settings.tree["providers"]
    if not isinstance(tables, dict):
        settings.mistakes.add("providers", "must be a table of tables: [providers.NAME]")
        return {}
    return {name: _read_provider(name, table, settings) for name, table in tables.items()}


def _read_provider(name: str, table: object, settings: _Settings) -> ProviderTable:
    missing: list[str] = []

    def note(_key: str, variable: str) -> None:
        missing.append(variable)

    expanded = expand(table, f"providers.{name}", settings.environ, note)
    provider = read_provider(name, expanded, settings.mistakes)
    if not missing:
        check_addresses(provider, settings.mistakes)
    return dataclasses.replace(provider, missing_variables=tuple(dict.fromkeys(missing)))


def _read_routes(settings: _Settings, providers: Mapping[str, ProviderTable]) -> tuple[Route, ...]:
    """The routes; where the file has none and there is but one provider, everything goes there."""
    routes = read_routes(settings.expanded("routes", []), providers, settings.mistakes)
    if not settings.tree.get("routes") and len(providers) == 1:
        return (Route(model="*", provider=next(iter(providers))),)
    return routes


def _check_together(configuration: Configuration, mistakes: Mistakes) -> None:
    """What no key is wrong about alone."""
    _check_exposure(configuration.server, keys_asked=bool(configuration.clients), mistakes=mistakes)
    for host in configuration.server.allowed_hosts:
        if not _HOST.fullmatch(host.lower()):
            told = "is no name or address as callers write it before the port: leave out scheme, port, path and pattern"
            mistakes.add("server.allowed_hosts", f"{host!r} {told}")
    batching, polling = configuration.batching, configuration.polling
    if batching.max_window_seconds < batching.window_seconds:
        mistakes.add("batching.max_window_seconds", f"must be at least window_seconds ({batching.window_seconds:g})")
    if polling.max_seconds < polling.min_seconds:
        mistakes.add("polling.max_seconds", f"must be at least min_seconds ({polling.min_seconds:g})")


def _check_exposure(server: Server, *, keys_asked: bool, mistakes: Mistakes) -> None:
    if not keys_asked and not is_loopback(server.host):
        mistakes.add(
            "server.host",
            f'"{server.host}" can be reached from other machines, and without [[clients]] nobody is asked for a key; '
            "configure [[clients]] or listen on 127.0.0.1",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    name = host.strip("[]").lower()
    numbers = name.split(".")
    in_127 = len(numbers) == 4 and numbers[0] == "127" and all(number.isdecimal() for number in numbers)
    return in_127 or name in ("localhost", "::1")
