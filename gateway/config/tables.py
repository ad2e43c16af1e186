"""The tables a user names or repeats: `[[clients]]`, `[providers.NAME]` and `[[routes]]`."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from gateway.config.reading import EnvironmentText, Mistakes, read_number, read_text, read_value, typed
from gateway.config.sections import Client, ProviderTable, Route, Rule, TokenPrices
from gateway.records import Limits

#: A provider's name is the prefix of `NAME/model`, a header's value and a label of metrics.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")
_SECRET = re.compile(r"key|token|secret|password|credential", re.IGNORECASE)

#: Keys of a provider's table that are not its kind's.
CORE_KEYS = ("kind", "account", "sandbox", "sandbox_url", "limits", "prices")
_LIMITS = tuple(field.name for field in dataclasses.fields(Limits))
_KEY = Rule(meaning="", secret=True)
_PRICE = Rule(meaning="", at_least=0)


def read_clients(tables: object, mistakes: Mistakes) -> tuple[Client, ...]:
    """The clients, with the hashes of their keys; two of one name or one key are a mistake."""
    clients: list[Client] = []
    for place, table in enumerate(_tables(tables, "clients", mistakes)):
        where = f"clients[{place}]"
        _only(table, ("name", "key"), where, mistakes)
        name = read_text("", table.get("name", ""), f"{where}.name", mistakes)
        key = read_text("", table.get("key", ""), f"{where}.key", mistakes, _KEY)
        client = Client(name=name, key_hash=_hash_of(key))
        if table.get("name", "") == "" or not name.isprintable():
            mistakes.add(f"{where}.name", "must be a name without control characters")
        if table.get("key", "") == "":
            mistakes.add(
                f"{where}.key", 'must be the client\'s key, or "sha256:" and its SHA-256 in hexadecimal digits'
            )
        if key.startswith("sha256:") and not _HASHED.fullmatch(key):
            mistakes.add(f"{where}.key", '"sha256:" must be followed by 64 hexadecimal digits')
        if any(name == other.name for other in clients):
            mistakes.add(f"{where}.name", f'"{name}" is taken by another client')
        if key and any(client.key_hash == other.key_hash for other in clients):
            mistakes.add(f"{where}.key", "is the key of another client")
        clients.append(client)
    return tuple(clients)


def _hash_of(key: str) -> bytes:
    hashed = _HASHED.fullmatch(key)
    return bytes.fromhex(hashed[1]) if hashed else hashlib.sha256(key.encode()).digest()


def read_routes(tables: object, providers: Mapping[str, ProviderTable], mistakes: Mistakes) -> tuple[Route, ...]:
    """The routes in their order; one to a provider that is not configured is a mistake."""
    routes: list[Route] = []
    for place, table in enumerate(_tables(tables, "routes", mistakes)):
        where = f"routes[{place}]"
        _only(table, ("model", "provider"), where, mistakes)
        model = read_text("", table.get("model", ""), f"{where}.model", mistakes)
        provider = read_text("", table.get("provider", ""), f"{where}.provider", mistakes)
        if not model:
            mistakes.add(f"{where}.model", 'must be the name of a model, or a pattern like "gpt-*"')
        if provider not in providers:
            known = ", ".join(sorted(providers)) or "none"
            mistakes.add(f"{where}.provider", f"no [providers.{provider}] is configured; there is: {known}")
        routes.append(Route(model=model, provider=provider))
    return tuple(routes)


def read_provider(name: str, table: object, mistakes: Mistakes) -> ProviderTable:
    """One provider's table: what core knows of it, and the rest for the kind's own `Settings`."""
    where = f"providers.{name}"
    empty = ProviderTable(name=name, kind="")
    if not _NAME.fullmatch(name):
        mistakes.add(where, "a provider's name has letters, digits, dots, dashes and underscores, 64 at most")
    if not isinstance(table, Mapping):
        mistakes.add(where, "must be a table")
        return empty
    kind = read_text("", table.get("kind", ""), f"{where}.kind", mistakes)
    if table.get("kind", "") == "":
        mistakes.add(f"{where}.kind", 'missing: say what kind of provider it is, like kind = "openai"')
    return ProviderTable(
        name=name,
        kind=kind,
        account=read_text("", table.get("account", ""), f"{where}.account", mistakes),
        sandbox=read_value(False, table.get("sandbox", False), f"{where}.sandbox", mistakes) is True,  # noqa: FBT003
        sandbox_url=read_text("", table.get("sandbox_url", ""), f"{where}.sandbox_url", mistakes),
        limits=_read_limits(table.get("limits", {}), f"{where}.limits", mistakes),
        prices=_read_prices(table.get("prices", {}), f"{where}.prices", mistakes),
        settings=MappingProxyType({key: _plain(value) for key, value in table.items() if key not in CORE_KEYS}),
    )


def check_addresses(table: ProviderTable, mistakes: Mistakes) -> None:
    """Addresses that no call could ever reach are mistakes; to be asked once all variables in them are set.

    The address itself is not repeated: it may hold a password.
    """
    for key, address in (("base_url", table.settings.get("base_url")), ("sandbox_url", table.sandbox_url)):
        if isinstance(address, str) and address and not _is_address(address):
            mistakes.add(
                f"providers.{table.name}.{key}",
                'must be an address that begins with http:// or https:// and a host, like "https://api.example.com/v1"',
            )


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and not re.search(r"\s", text)


def _read_limits(table: object, where: str, mistakes: Mistakes) -> Mapping[str, object]:
    if not isinstance(table, Mapping):
        mistakes.add(where, "must be a table")
        return MappingProxyType({})
    limits: dict[str, object] = {}
    for name, value in table.items():
        key = f"{where}.{name}"
        if name not in _LIMITS:
            mistakes.unknown(key, _LIMITS)
        elif name == "max_enqueued_tokens" and isinstance(value, Mapping):
            by_model = {model: _read_limit(model, inner, f"{key}.{model}", mistakes) for model, inner in value.items()}
            limits[name] = MappingProxyType(by_model)
        else:
            limits[name] = _read_limit(name, value, key, mistakes)
    return MappingProxyType(limits)


def _read_limit(name: str, value: object, key: str, mistakes: Mistakes) -> float:
    """Counts are whole and at least 1; times may be fractions and are above 0, but a pause between polls may be none."""
    if name == "min_poll_seconds":
        return read_number(0.0, value, key, mistakes, Rule(meaning="", at_least=0))
    if name.endswith(("_seconds", "_days")):
        return read_number(1.0, value, key, mistakes, Rule(meaning="", at_least=0.01))
    return read_number(1, value, key, mistakes, Rule(meaning="", at_least=1))


def _read_prices(table: object, where: str, mistakes: Mistakes) -> Mapping[str, TokenPrices]:
    if not isinstance(table, Mapping):
        mistakes.add(where, 'must be a table of tables: [providers.NAME.prices."gpt-*"]')
        return MappingProxyType({})
    prices: dict[str, TokenPrices] = {}
    for pattern, entry in table.items():
        key = f'{where}."{pattern}"'
        if not isinstance(entry, Mapping):
            mistakes.add(key, "must be a table with input, output and perhaps cached")
            continue
        _only(entry, ("input", "cached", "output"), key, mistakes)
        for name in ("input", "output"):
            if name not in entry:
                mistakes.add(f"{key}.{name}", "missing: USD per million tokens at the batch price")
        rates = {name: read_number(0.0, value, f"{key}.{name}", mistakes, _PRICE) for name, value in entry.items()}
        paid = rates.get("input", 0.0)
        prices[pattern] = TokenPrices(input=paid, cached=rates.get("cached", paid), output=rates.get("output", 0.0))
    return MappingProxyType(prices)


def secrets_of(providers: Iterable[ProviderTable]) -> tuple[str, ...]:
    """Values of settings whose names say that they are secret."""
    return tuple(
        value
        for provider in providers
        for name, value in provider.settings.items()
        if isinstance(value, str) and value and _SECRET.search(name)
    )


def _tables(value: object, where: str, mistakes: Mistakes) -> list[Mapping[str, object]]:
    value = typed(value)
    if isinstance(value, list) and all(isinstance(table, Mapping) for table in value):
        return value
    mistakes.add(where, f"must be an array of tables: [[{where}]]")
    return []


def _only(table: Mapping[str, object], known: tuple[str, ...], where: str, mistakes: Mistakes) -> None:
    for name in table:
        if name not in known:
            mistakes.unknown(f"{where}.{name}", known)


def _plain(value: object) -> object:
    """A setting for a kind: overrides stay text, which its model reads as what it wants, unless they are arrays or tables."""
    if not isinstance(value, EnvironmentText):
        return value
    parsed = typed(value)
    return parsed if isinstance(parsed, list | dict | str) else str(value)
