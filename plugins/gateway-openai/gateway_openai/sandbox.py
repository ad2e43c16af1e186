"""The simulator of OpenAI: files, batches, the synchronous endpoint and the list of models, in OpenAI's own wire format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from aiohttp import web

from gateway.sandbox import (
    Directive,
    FaultKind,
    Line,
    Operation,
    Outcome,
    Route,
    Simulator,
    StoredBatch,
    bearer_key,
    distorted,
    json_object,
    new_id,
    reply,
)
from gateway_openai.simulated.batches import Batches
from gateway_openai.simulated.chat import completion
from gateway_openai.simulated.files import Files
from gateway_openai.simulated.lines import chat_problem, read_frame
from gateway_openai.simulated.objects import error_object, row
from gateway_openai.simulated.shape import Shape

CHAT = "/v1/chat/completions"
#: What a `bare_answers` service leaves out of its answers.
_STAMPS = frozenset({"object", "created"})


class OpenAISimulator(Simulator):
    """One OpenAI account; serves chat completions, in batches and at once."""

    kind: ClassVar[str] = "openai"
    base_path: ClassVar[str] = "/v1"
    priced_model: ClassVar[str] = "gpt-4.1-mini"
    #: Where the simulated service differs from OpenAI.
    shape: ClassVar[Shape] = Shape()

    def routes(self) -> Iterator[Route]:
        """Files, batches, chat completions, models; at every address the service has."""
        for prefix in self.shape.prefixes:
            for route in self._routes(self.shape_at(prefix)):
                yield replace(route, path=prefix + route.path.removeprefix("/v1"))

    def shape_at(self, prefix: str) -> Shape:
        """How the service looks at one of its addresses."""
        return self.shape

    def _routes(self, shape: Shape) -> Iterator[Route]:
        yield from Files(self).routes()
        yield from Batches(self, shape).routes()
        yield Route(method="POST", path=CHAT, answer=self.complete, operation=Operation.COMPLETE)
        yield Route(method="GET", path="/v1/models", answer=self.models)
        yield Route(method="GET", path="/v1/models/{model:.+}", answer=self.model)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """One chat completion, at once."""
        raw = await request.read()
        body = json_object(raw) or {}
        model = body.get("model")
        if not isinstance(model, str):
            return self.refuse(400, "We could not parse the JSON body of your request, or it names no model.")
        if body.get("stream"):
            return self.refuse(400, "This simulator does not stream.", param="stream")
        line = await self.take_call(body, model=model)
        outcome = self.outcome(raw, line)
        return reply(outcome.body, outcome.status or 504, {"x-request-id": f"req_{line.custom_id}"})

    async def models(self, _request: web.Request) -> web.StreamResponse:
        """The models that are listed."""
        return reply({"object": "list", "data": [self._model(name) for name in self.settings.models]})

    async def model(self, request: web.Request) -> web.StreamResponse:
        """One model; every name is served."""
        return reply(self._model(request.match_info["model"]))

    def refuse(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> web.Response:
        """OpenAI's error object."""
        return reply(error_object(status, message, code, param), status, {"x-request-id": new_id("req_")})

    def authorised(self, request: web.Request) -> bool:
        """A bearer key; one in `api-key` does as well."""
        return self.accepts(bearer_key(request) or request.headers.get("api-key", ""))

    def read_line(self, line: bytes, batch: StoredBatch) -> Line:
        """A line's frame, as validation reads it."""
        return read_frame(line, batch.endpoint, loose=self.shape.loose_urls)

    def answer(self, line: Line, told: Directive | None) -> Outcome:
        """A chat completion, or the 400 that the body deserves."""
        problem = chat_problem(
            line.body,
            strict=self.settings.strict_fields,
            refused=self.shape.refused_fields,
            names=self.shape.message_names,
        )
        if problem is not None:
            return Outcome(status=400, body=error_object(400, problem.message, problem.code, problem.param))
        outcome = completion(line.body, line.custom_id, self.clock.now(), told)
        if not self.shape.bare_answers or outcome.body is None:
            return outcome
        return replace(outcome, body={name: value for name, value in outcome.body.items() if name not in _STAMPS})

    def failure(self, status: int) -> Outcome:
        """A line that fails as it was told to."""
        return Outcome(status=status, body=error_object(status, f"The sandbox was told to fail with {status}."))

    def row(self, line: Line, outcome: Outcome, batch: StoredBatch) -> bytes:
        """One row of an output or error file."""
        return row(line, outcome)

    def distort(self, row: bytes, fault: FaultKind) -> bytes:
        """Anomalies that have been seen in the wild."""
        return distorted(row, fault)

    def _model(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "sandbox"}
