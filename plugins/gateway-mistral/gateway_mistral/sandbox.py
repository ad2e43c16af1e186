"""The simulator of Mistral: files, jobs, the synchronous endpoint and the list of models, in Mistral's own wire format."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
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
    distorted,
    json_object,
    reply,
)
from gateway_mistral.encode import CHAT
from gateway_mistral.simulated.chat import completion
from gateway_mistral.simulated.files import Files
from gateway_mistral.simulated.jobs import Jobs
from gateway_mistral.simulated.objects import FULL, error_object, row
from gateway_mistral.simulated.schema import chat_problem

_LINE = frozenset({"custom_id", "body"})
_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limited"}


class MistralSimulator(Simulator):
    """One workspace at Mistral; serves chat completions, in jobs and at once."""

    kind: ClassVar[str] = "mistral"
    priced_model: ClassVar[str] = "mistral-small-latest"

    def __init__(
        self, *, clock: Clock, name: str = "", settings: SandboxSettings | None = None, directory: Path | None = None
    ) -> None:
        """As any simulator."""
        super().__init__(clock=clock, name=name, settings=settings, directory=directory)
        #: Whether jobs whose requests came inside the create call have result files, as the SDK's helper expects; else they
        #: give results only when asked for them inline.
        self.inline_files = True

    def routes(self) -> Iterator[Route]:
        """Files, jobs, chat completions, models."""
        yield from Files(self).routes()
        yield from Jobs(self, lambda: self.inline_files).routes()
        yield Route(method="POST", path=CHAT, answer=self.complete, operation=Operation.COMPLETE)
        yield Route(method="GET", path="/v1/models", answer=self.models)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """One chat completion, at once."""
        raw = await request.read()
        body = json_object(raw)
        if body is None or body.get("stream"):
            return self.refuse(422, "The body is no JSON object, or asks for a stream, which this simulator has not.")
        outcome = self.outcome(raw, await self.take_call(body, model=str(body.get("model") or "")))
        return reply(outcome.body, outcome.status or 504)

    async def models(self, _request: web.Request) -> web.StreamResponse:
        """The models that are listed; every other name is served as well."""
        capabilities = {"completion_chat": True, "function_calling": True, "vision": True}
        listed = [
            {
                "id": name,
                "object": "model",
                "created": 1_700_000_000,
                "owned_by": "sandbox",
                "type": "base",
                "capabilities": capabilities,
            }
            for name in self.settings.models
        ]
        return reply({"object": "list", "data": listed})

    def refuse(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> web.Response:
        """Mistral's error object."""
        text = FULL if code == "token_limit_exceeded" else message
        kind = _TYPES.get(status, "internal_server_error" if status >= 500 else "invalid_request_error")
        return reply(error_object(text, kind=kind, code=code), status)

    def new_batch_id(self) -> str:
        """A UUID."""
        return str(uuid.uuid4())

    def new_file_id(self) -> str:
        """A UUID."""
        return str(uuid.uuid4())

    def read_line(self, line: bytes, batch: StoredBatch) -> Line:
        """A line's frame, as validation reads it; the model may be the job's own."""
        try:
            content = orjson.loads(line)
        except orjson.JSONDecodeError:
            return _unreadable("A line of the input is not valid JSON.")
        if not isinstance(content, dict) or not isinstance(content.get("body"), dict):
            return _unreadable("A line of the input has no body.")
        name = content.get("custom_id")
        if strange := content.keys() - _LINE:
            return _unreadable(f"A line of the input has the unknown field '{min(strange)[:64]}'.")
        if not isinstance(name, str) or not name:
            return _unreadable("A line of the input has no custom_id.")
        body = content["body"]
        return Line(custom_id=name, model=str(body.get("model") or batch.model), body=body)

    def answer(self, line: Line, told: Directive | None) -> Outcome:
        """A chat completion, or the error that the body deserves."""
        body = line.body if line.body.get("model") else {**line.body, "model": line.model}
        problem = chat_problem(body)
        if problem is not None:
            return Outcome(status=problem.status, body=problem.body)
        return completion(line.body, line.model, line.custom_id, self.clock.now(), told)

    def failure(self, status: int) -> Outcome:
        """A line that fails as it was told to."""
        return Outcome(status=status, body=error_object(f"The sandbox was told to fail with {status}."))

    def row(self, line: Line, outcome: Outcome, batch: StoredBatch) -> bytes:
        """One row of an output or error file."""
        return row(line, outcome)

    def distort(self, row: bytes, fault: FaultKind) -> bytes:
        """Anomalies that have been seen elsewhere."""
        return distorted(row, fault)


def _unreadable(message: str) -> Line:
    return Line(custom_id="", problem=Problem(code="invalid_line", message=message))
