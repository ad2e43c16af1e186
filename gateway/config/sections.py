"""The sections of the configuration: one small frozen record for each component, every key with its default and meaning.

Nothing heavy is imported here: `serve` reads `[server]` and `[storage]` before anything else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is known of one key beside its type and default."""

    #: For people: the meaning, as `docs/configuration.md` has it.
    meaning: str
    at_least: float | None = None
    at_most: float | None = None
    #: The only words allowed.
    choices: tuple[str, ...] = ()
    #: Never repeated in a message.
    secret: bool = False


def setting(
    default: Value,
    meaning: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Value:
    """A dataclass field that knows its meaning and bounds."""
    rule = Rule(meaning=meaning, at_least=at_least, at_most=at_most, choices=choices, secret=secret)
    return dataclasses.field(default=default, repr=not secret, metadata={"rule": rule})


def _nothing() -> Mapping[str, Value]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """`[server]`: where callers reach the gateway, and what it bears."""

    host: str = setting("127.0.0.1", "address to listen on; any but a loopback address needs [[clients]]")
    port: int = setting(8484, "port to listen on; 0 lets the system choose", at_least=0, at_most=65535)
    allowed_hosts: tuple[str, ...] = setting(
        (),
        "names and addresses by which other machines ask for the gateway (Host, Origin); whoever uses another one gets a 421",
    )
    max_body_bytes: int = setting(33_554_432, "largest request body", at_least=1024)
    max_waiters: int = setting(
        20_000, "callers held at once, unless RLIMIT_NOFILE allows fewer; more get a 503", at_least=1
    )
    header_seconds: float = setting(30.0, "time a caller has to send its headers", at_least=0.1)
    body_seconds: float = setting(60.0, "time a caller has to send its body", at_least=0.1)
    on_disconnect: str = setting(
        "keep",
        "a request whose callers all hung up is kept, or cancelled 120 s later if it is still queued",
        choices=("keep", "cancel"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """`[storage]`: the ledger, and the disk under it."""

    directory: Path = setting(  # noqa: RUF009 - it is `field`, and a path does not change
        Path("data"), "folder for everything on disk; relative to the configuration file, or below `~`"
    )
    ledger: str = setting(
        "", "address of the ledger: empty for SQLite in `directory`; this version takes no other", secret=True
    )
    durability: str = setting(
        "full",
        "full: an accepted request survives power loss; relaxed: it survives a crash of the gateway, not of the machine",
        choices=("full", "relaxed"),
    )
    retention_days: float = setting(30.0, "how long ended requests can be read", at_least=0.01)
    min_free_bytes: int = setting(33_554_432, "with less free disk than this, new work is refused", at_least=0)
    reserve_bytes: int = setting(16_777_216, "disk kept aside to finish work when the disk is full", at_least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """`[cache]`: the long memory of answers."""

    enabled: bool = setting(True, "whether answers outlive the ledger's retention")  # noqa: FBT003 - the default itself
    max_bytes: int = setting(10_737_418_240, "size at which the oldest answers go", at_least=1_048_576)
    ttl_days: float = setting(365.0, "how long an answer is kept", at_least=0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """`[batching]`: when a window of waiting requests is sealed."""

    window_seconds: float = setting(30.0, "age of the oldest request at which a window seals", at_least=0)
    idle_seconds: float = setting(
        2.0,
        "a window with nothing in flight seals after this long without a new request; requests that came back wait for "
        "window_seconds",
        at_least=0,
    )
    max_window_seconds: float = setting(
        900.0, "most that a window is stretched while batches are in flight", at_least=0
    )
    max_requests: int = setting(50_000, "most lines in a batch; the provider's limit caps it", at_least=1)
    max_bytes: int = setting(200_000_000, "most bytes in a batch; the provider's limit caps it", at_least=1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Polling:
    """`[polling]`: how often a provider is asked about a batch."""

    min_seconds: float = setting(5.0, "interval of the first polls of a batch", at_least=0.01)
    max_seconds: float = setting(60.0, "interval that polls grow to", at_least=0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """`[retries]`: what happens to lines and batches that failed."""

    max_attempts: int = setting(3, "how often a line may fail retriably before its request fails", at_least=1)
    quarantine_seconds: float = setting(
        900.0,
        "how long a batch must stay unlisted before a lost create is repeated; twice as long each time, up to 16 times",
        at_least=0,
    )
    invalid_output: str = setting(
        "accept",
        "an answer that does not satisfy the schema its own request asked for is served as it is and not looked at, or "
        "asked for again up to max_attempts, each time at full cost, and then served (retry) or failed (fail)",
        choices=("accept", "retry", "fail"),
    )
    give_up_hours: float = setting(168.0, "a request still queued after this long expires", at_least=0.01)
    ambiguous: str = setting(
        "wait",
        "after a create of unknown outcome, with nothing in the provider's list: wait out the quarantine and send again, "
        "resubmit at once, or wait it out and fail the requests",
        choices=("wait", "resubmit", "fail"),
    )
    backoff_seconds: float = setting(
        60.0, "first pause of a line that goes back after an attempt; doubles up to an hour", at_least=0
    )
    breaker_seconds: float = setting(
        5.0, "first pause of an account after a failed create; doubles up to five minutes", at_least=0
    )
    unauthorised_seconds: float = setting(
        600.0, "how often a key that was refused is tried again; a start tries it at once", at_least=0.1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """`[waiting]`: how a caller is kept waiting."""

    grace_seconds: float = setting(10.0, "longest wait before a caller's status is committed", at_least=0)
    heartbeat_seconds: float = setting(15.0, "longest silence on a connection that waits", at_least=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """`[[clients]]`: one that may use the gateway; its requests are seen by nobody else."""

    name: str
    #: SHA-256 of the key: the key itself is not kept.
    key_hash: bytes = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrices:
    """`[providers.NAME.prices."PATTERN"]`: USD per million tokens."""

    input: float
    #: Input tokens read from the provider's prompt cache; as `input` unless given.
    cached: float
    output: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTable:
    """`[providers.NAME]`, before its kind has looked at it."""

    name: str
    kind: str
    #: Says whose key it is, so that a change of key is no change of account; part of every fingerprint.
    account: str = ""
    #: Use the kind's simulator: no key, no money.
    sandbox: bool = False
    #: Of a simulator that runs already, in the place of one that starts with the gateway; empty: none does.
    sandbox_url: str = ""
    #: Overrides of the kind's limits, by the names of `gateway.records.Limits`.
    limits: Mapping[str, object] = dataclasses.field(default_factory=_nothing)
    #: Model pattern -> what a batch costs.
    prices: Mapping[str, TokenPrices] = dataclasses.field(default_factory=_nothing)
    #: All other keys, for the kind's own `Settings`.
    settings: Mapping[str, object] = dataclasses.field(default_factory=_nothing, repr=False)
    #: Environment variables the table names that are not set: the provider is disabled until they are.
    missing_variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`[[routes]]`: models that match `model`, a glob, go to `provider`."""

    model: str
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All of it, checked."""

    server: Server = Server()
    storage: Storage = Storage()
    cache: Cache = Cache()
    batching: Batching = Batching()
    polling: Polling = Polling()
    retries: Retries = Retries()
    waiting: Waiting = Waiting()
    clients: tuple[Client, ...] = ()
    providers: Mapping[str, ProviderTable] = dataclasses.field(default_factory=_nothing)
    #: First match wins.
    routes: tuple[Route, ...] = ()
    #: Values that must never be shown, for `gateway.logs`.
    secrets: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    #: The file it came from; None: there was none, the defaults hold.
    source: Path | None = None
