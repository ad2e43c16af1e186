"""The simulator of Anthropic: message batches, the synchronous endpoint and the list of models, in its own wire format."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import orjson
from aiohttp import web

from gateway.clock import Clock
from gateway.sandbox import (
    Directive,
    FaultKind,
    Line,
    Operation,
    Outcome,
    Problem,
    Route,
    SandboxSettings,
    Simulator,
    StoredBatch,
    bearer_key,
    body_hash,
    json_object,
    new_id,
    reply,
)
from gateway.sandbox.directives import directive
from gateway_anthropic.settings import CURRENT_VERSION, SAMPLING_VERSION
from gateway_anthropic.simulated.batches import Batches
from gateway_anthropic.simulated.model import answer
from gateway_anthropic.simulated.objects import error_object, row
from gateway_anthropic.simulated.params import params_problem

VERSIONS = (CURRENT_VERSION, SAMPLING_VERSION)
#: The provider's own limits, in place of the ones that the framework has for another.
_MAX_REQUESTS, _MAX_BYTES = 100_000, 256_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionedLine(Line):
    """A request, and the API version that its batch was created under."""

    version: str = CURRENT_VERSION


class AnthropicSimulator(Simulator):
    """One workspace at Anthropic."""

    kind: ClassVar[str] = "anthropic"
    priced_model: ClassVar[str] = "claude-haiku-4-5"

    def __init__(
        self, *, clock: Clock, name: str = "", settings: SandboxSettings | None = None, directory: Path | None = None
    ) -> None:
        """As any simulator; limits that nobody has set are the provider's."""
        super().__init__(clock=clock, name=name, settings=_with_limits(settings), directory=directory)

    def routes(self) -> Iterator[Route]:
        """Batches, messages, models; each wants a version."""
        routes = [
            *Batches(self, self.poisoned).routes(),
            Route(method="POST", path="/v1/messages", answer=self.complete, operation=Operation.COMPLETE),
            Route(method="GET", path="/v1/models", answer=self.models),
        ]
        for route in routes:
            yield replace(route, answer=self._versioned(route))

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """One Message, at once."""
        raw = await request.read()
        params = json_object(raw)
        if params is None:
            return self.refuse(400, "The request body is not valid JSON.")
        if params.get("stream"):
            return self.refuse(400, "stream: This simulator does not stream.")
        problem = params_problem(params, request.headers.get("anthropic-version", ""), batched=False)
        if problem is not None:
            return self.refuse(400, problem)
        line = await self.take_call(params)
        told = self.told(raw, line)
        if told is not None and told.status is not None:
            return self.refuse(told.status, f"The sandbox was told to fail with {told.status}.")
        if told is not None and told.word in ("timeout", "expired"):
            return self.refuse(504, "The request timed out.")
        outcome = answer(params, line.custom_id, told, batched=False)
        return reply(outcome.body, headers=_numbered())

    async def models(self, _request: web.Request) -> web.StreamResponse:
        """The models that are listed; every name is served."""
        shown = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"}
            for name in self.settings.models
        ]
        ends = {"first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None}
        return reply({"data": shown, "has_more": False, **ends}, headers=_numbered())

    def refuse(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> web.Response:
        """Anthropic's error object. No room for tokens is told with 429 here."""
        status = 429 if code == "token_limit_exceeded" else status
        shown = error_object(status, message, code if code is not None and code.endswith("_error") else None)
        return reply(shown, status, {"request-id": str(shown["request_id"])})

    def authorised(self, request: web.Request) -> bool:
        """A bearer token, or a key in `x-api-key`."""
        return self.accepts(bearer_key(request) or request.headers.get("X-Api-Key", ""))

    def new_batch_id(self) -> str:
        """As the provider's look."""
        return new_id("msgbatch_")

    def read_line(self, line: bytes, batch: StoredBatch) -> Line:
        """A request of a batch; what could be wrong around its params was refused by the create call."""
        content = orjson.loads(line)
        version = batch.extra.get("version", CURRENT_VERSION)
        name, params = content["custom_id"], content["params"]
        # Each request may have a model of its own; the framework compares them with the batch's.
        return VersionedLine(custom_id=name, model=batch.model, body=params, version=version)

    def answer(self, line: Line, told: Directive | None) -> Outcome:
        """A Message, or the error that the params deserve."""
        version = line.version if isinstance(line, VersionedLine) else CURRENT_VERSION
        problem = params_problem(line.body, version, batched=True)
        if problem is not None:
            return Outcome(status=400, body=error_object(400, problem))
        return answer(line.body, line.custom_id, told, batched=True)

    def failure(self, status: int) -> Outcome:
        """A line that fails as it was told to."""
        return Outcome(status=status, body=error_object(status, f"The sandbox was told to fail with {status}."))

    def row(self, line: Line, outcome: Outcome, batch: StoredBatch) -> bytes:
        """One row of the results."""
        return row(line, outcome)

    def distort(self, row: bytes, fault: FaultKind) -> bytes:
        """Anomalies that a reader has to live with."""
        shown = orjson.loads(row)
        if fault is FaultKind.ROW_UNKNOWN_ID:
            shown["custom_id"] = new_id("unknown-")
        elif fault is FaultKind.ROW_STATUS_0:
            shown["result"] = {"type": "mislaid"}
        elif fault is FaultKind.ROW_NO_CHOICES:
            shown["result"] = {"type": "succeeded", "message": None}
        return orjson.dumps(shown)

    def poisoned(self, line: bytes, params: Mapping[str, object]) -> Problem | None:
        """What a line was told to spoil its whole batch with; the create call names it, if at all."""
        told = directive(line) if b"[sandbox:" in line else None
        if told is None or told.word != "poison" or not self._tries.strikes(told, "poison " + body_hash(params)):
            return None
        message = "This line is poisoned: the sandbox was told to refuse it."
        return Problem(code="invalid_request_error", message=message, line=None if told.numbered else 0)

    def _versioned(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The route's answer, for requests that name a version of the API that there is."""

        async def answered(request: web.Request) -> web.StreamResponse:
            version = request.headers.get("anthropic-version")
            if version is None:
                return self.refuse(400, "anthropic-version: header is required")
            if version not in VERSIONS:
                return self.refuse(400, f"anthropic-version: {version[:40]!r} is not a valid version")
            return await route.answer(request)

        return answered


def _with_limits(settings: SandboxSettings | None) -> SandboxSettings:
    """The settings with this provider's limits where they are still the framework's own."""
    chosen, usual = settings or SandboxSettings(), SandboxSettings()
    if chosen.max_requests == usual.max_requests:
        chosen = replace(chosen, max_requests=_MAX_REQUESTS)
    if chosen.max_bytes == usual.max_bytes:
        chosen = replace(chosen, max_bytes=_MAX_BYTES)
    return chosen


def _numbered() -> dict[str, str]:
    """The header that every answer has."""
    return {"request-id": new_id("req_")}
