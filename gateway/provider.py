"""The contract of a plugin: one class per kind, one instance per configured table.

Floor 1. A plugin author reads this file, and `plugins/gateway-openai` for an example.

Errors decide what happens next, by class and never by text: see `gateway.errors`. Whatever else escapes from a plugin
is taken for a bug in it: the batch is parked, the traceback is logged under the plugin's name, the gateway goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import orjson
import structlog
from pydantic import BaseModel, ConfigDict, SecretStr

from gateway.clock import Clock
from gateway.errors import Unsupported
from gateway.records import Batch, Call, Limits, RemoteBatch, RemoteState, Result


class ProviderSettings(BaseModel):
    """What every kind's table understands; a kind adds its own fields in a subclass.

    Keys that core reads itself never reach this model: `kind`, `account`, `sandbox`, `limits`, `prices`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: The provider's key. Empty: the provider is listed as disabled.
    api_key: SecretStr = SecretStr("")
    #: What the kind's SDK takes as its base URL.
    base_url: str = ""


class Provider(ABC):
    """One account at one provider's Batch API.

    `encode`, `dropped`, `frame`, `decode` and `output_schema` are pure: no I/O, no clock, no state; `encode`, `dropped` and
    `frame` run in the event loop, the last three in other threads. The coroutines run in the event loop and must not block it.
    No SDK retries on `submit`: a repeated create is a batch paid twice.
    """

    #: The word in the configuration: `kind = "..."`.
    kind: ClassVar[str]
    #: Model of the kind's own keys.
    Settings: ClassVar[type[ProviderSettings]] = ProviderSettings
    #: Defaults, with their source in the plugin's README.
    limits: ClassVar[Limits] = Limits()
    #: Whether the provider echoes the marker in its list, so that `find` can tell our batches from others.
    marked: ClassVar[bool] = True
    #: False: there are no remote batches, core sends requests one by one through `complete`. See `UnbatchedProvider`.
    batch: ClassVar[bool] = True
    #: The kind's simulator as "module:Class", for `sandbox = true`.
    simulator: ClassVar[str | None] = None
    #: Keys of its table that `sandbox = true` fills in where they are missing, beside `base_url` and `api_key`.
    sandbox_settings: ClassVar[Mapping[str, object]] = MappingProxyType({})
    #: How many calls of `complete` core has under way at once in one process; an instance may set its own in `__init__`.
    concurrency: int = 4
    #: How long core waits for one of them, in seconds: then it is cancelled and counts as an attempt. As `concurrency`.
    completion_seconds: float = 600.0

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        """Keep what is given; no I/O. The SDK is imported here, not with the module.

        `name` is the table's name, `directory` a private folder that exists and survives restarts.
        """
        self.name = name
        self.settings = settings
        self.clock = clock
        self.directory = directory
        self._strange_states: set[str] = set()

    @classmethod
    def limits_of(cls, settings: ProviderSettings) -> Limits:
        """The kind's limits under these settings: `limits`, unless a setting changes one, as the window it is asked for."""
        return cls.limits

    @abstractmethod
    def encode(self, call: Call) -> bytes:
        """The bytes that are stored and sent for `call`, without a newline byte. Pure; runs at admission.

        Renames nothing: `call.model` is the upstream name. Raises `Unsupported(field, reason)` for what this provider's batches
        cannot express; the caller gets a 400 that names the field and nothing has been paid.
        """

    def dropped(self, call: Call) -> Sequence[str]:
        """Dotted names of fields that `encode` leaves out of `call` without refusing it. Pure; only after `encode` took it.

        The caller sees them in `x-batchway-dropped`.
        """
        return ()

    def frame(self, line_id: str, payload: bytes) -> bytes:
        """One line of the spool, without its newline: `payload` (from `encode`) under the name `line_id`. Pure.

        The default splices `custom_id` into the object that `envelope` made.
        """
        return b'{"custom_id":%b,%b' % (orjson.dumps(line_id), payload[1:])

    @abstractmethod
    def decode(self, row: bytes) -> Result:
        """What one row of a fetched file says. Pure; never raises on anything a provider can send."""

    def output_schema(self, payload: bytes) -> Mapping[str, object] | None:
        """The JSON Schema that an answer to `payload` (from `encode`) must satisfy; None: any text will do. Pure.

        The default reads OpenAI's `response_format` in the body of an `envelope`; of `json_object` it makes a schema for any
        object. A kind whose payload is no `envelope` overrides it. See `gateway.validation` for what is judged by it.
        """
        if b'"response_format"' not in payload:
            return None
        wanted = enveloped_body(payload).get("response_format")
        kind = wanted.get("type") if isinstance(wanted, dict) else None
        if kind == "json_object":
            return {"type": "object"}
        named = wanted.get("json_schema") if isinstance(wanted, dict) and kind == "json_schema" else None
        schema = named.get("schema") if isinstance(named, dict) else None
        return schema if isinstance(schema, dict) else None

    async def upload(self, batch: Batch) -> str | None:
        """Send the spool where the API has files, and return its id when it is usable; None where it has none.

        Durable when called: the batch and its requests. May be repeated: an orphan upload costs nothing.
        Raises `Retryable`, `Unauthorised`, `Rejected`.
        """
        return None

    @abstractmethod
    async def submit(self, batch: Batch) -> RemoteBatch:
        """One create call, sent once. Durable when called: the intent, the marker and `batch.file_id`.

        Raises `Retryable` when nothing can have been created (connection refused, DNS, TLS, 429); `Rejected`, `TokenLimit`,
        `Unauthorised` when the provider said no; `Ambiguous` for everything that leaves it open: timeout, reset, 408, 409,
        499, 5xx, a 2xx that cannot be read.
        """

    @abstractmethod
    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """Remote batches that are (`marked`) or may be (unmarked) this batch, oldest first.

        Reads the provider's list back to `batch.listed_since`. Returns an empty list only when that whole list was
        read. Raises `Retryable`, `Unauthorised`.
        """

    async def list_ours(self, since: datetime) -> list[RemoteBatch]:
        """Remote batches made since then that a gateway made (`marked`) or may have made (unmarked), oldest first. Optional.

        For an operator who looks for what the ledger does not know: after a restored backup, or a create that acted twice. With a
        marker: every batch whose marker looks like one of ours (`gateway.records.is_marker`), and `RemoteBatch.marker` says it.
        Returns only when the provider's list was read back to `since`. Raises `Retryable`, `Unauthorised`.
        """
        raise Unsupported("list_ours", f"{self.kind} has no list of batches by time")

    @abstractmethod
    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """The remote batch as it is now. Returns REFUSED with its reason, does not raise it.

        Raises `Missing` for a 404, `Retryable` for a poll that was lost, `Unauthorised`.
        """

    @abstractmethod
    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """Write every row of every result file to `to`, one per newline byte, answers before errors; any end state.

        Bytes go to disk as they come. Raises `Retryable` (also for a download that was cut), `Missing`, `Unauthorised`.
        """

    async def cancel(self, remote: RemoteBatch) -> None:
        """Ask the provider to stop; what is finished stays billed and is fetched. Optional."""
        raise Unsupported("cancel", f"{self.kind} has no way to cancel a batch")

    async def discard(self, batch: Batch, remote: RemoteBatch | None) -> None:
        """Delete remote files of a batch whose lines are all settled. Optional; may be repeated."""

    async def complete(self, call: Call) -> Result:
        """Ask the synchronous endpoint once, at full price. Optional; the result's `line_id` is None.

        An answer of any status is a `Result`, judged like a line. Raises `Retryable` when nothing can have happened and nothing
        is wrong with the request (connection refused, "come back later"): it keeps its place and its attempts, and the account
        pauses. `Unauthorised` stops the account. `Ambiguous` (timeout, reset) counts as an attempt: the call may have been
        answered and billed. `Rejected` and `Unsupported` are final. Core may cancel the call: at its time limit, or at stop.
        """
        raise Unsupported("mode", f"{self.kind} has no synchronous endpoint here")

    async def complete_payload(self, endpoint: str, model: str, payload: bytes) -> Result:
        """As `complete`, for a request that waited in the ledger: `payload` is what `encode` made of its call.

        The default asks `complete` with the `body` of the envelope. A kind whose payload is no `envelope` overrides it and
        sends what it stored.
        """
        return await self.complete(Call(endpoint=endpoint, model=model, body=enveloped_body(payload)))

    async def aclose(self) -> None:
        """Close connections. Called once, at stop."""

    def note_state(self, word: str, known: Container[str], *, treated_as: RemoteState = RemoteState.RUNNING) -> None:
        """Name a remote state that the plugin does not know in the log, the first time it is met; for plugins to call."""
        if word not in known and word not in self._strange_states:
            self._strange_states.add(word)
            structlog.get_logger().warning(
                "unknown_remote_state", provider=self.name, state=word[:40], treated_as=str(treated_as)
            )


class UnbatchedProvider(Provider):
    """Base of kinds without batches: `encode` and `complete` are all that they write.

    `encode` returns an `envelope` whose body is what `complete` sends, or the kind overrides `complete_payload`. Core asks one
    durable request at a time, the oldest of each lane first. After a crash it asks again what it was asking: such a server
    has no list in which an answer could be found.
    """

    batch: ClassVar[bool] = False
    marked: ClassVar[bool] = False

    @abstractmethod
    async def complete(self, call: Call) -> Result:
        """See `Provider.complete`."""

    def decode(self, row: bytes) -> Result:
        """There are no result files."""
        return Result(line_id=None, status=0, retriable=True)

    async def submit(self, batch: Batch) -> RemoteBatch:
        """Never called by core."""
        raise Unsupported("batch", f"{self.kind} has no batches")

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """Never called by core."""
        raise Unsupported("batch", f"{self.kind} has no batches")

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """Never called by core."""
        raise Unsupported("batch", f"{self.kind} has no batches")

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """Never called by core."""
        raise Unsupported("batch", f"{self.kind} has no batches")


def enveloped_body(payload: bytes) -> Mapping[str, object]:
    """The body inside an `envelope`. Raises `ValueError` when `payload` is none."""
    content = orjson.loads(payload)
    body = content.get("body") if isinstance(content, dict) else None
    if isinstance(body, dict):
        return body
    raise ValueError("the stored payload is no envelope with a body: the kind has to override complete_payload")


def envelope(endpoint: str, body: bytes) -> bytes:
    """OpenAI's batch input line around `body`, still without its `custom_id`; `Provider.frame` puts that in."""
    return b'{"method":"POST","url":%b,"body":%b}' % (orjson.dumps(endpoint), body)


def dump_body(body: Mapping[str, object]) -> bytes:
    """`body` as JSON. Raises `Unsupported`, naming the field, for what JSON cannot hold, as half an emoji or a huge number."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        pass
    for field, content in body.items():
        try:
            orjson.dumps(content)
        except orjson.JSONEncodeError as error:
            raise Unsupported(field, f"{field} cannot be sent as JSON: {error}") from None
    raise Unsupported("body", "the body cannot be sent as JSON")
