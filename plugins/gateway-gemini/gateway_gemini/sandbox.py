"""The simulator of the Gemini Developer API: files, batches, models and the synchronous endpoints, under v1 and v1beta."""

from __future__ import annotations

import secrets
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
    Route,
    SandboxSettings,
    Simulator,
    StoredBatch,
    json_object,
    new_id,
    reply,
)
from gateway_gemini.encode import CHAT, EMBEDDINGS
from gateway_gemini.simulated.batches import Batches
from gateway_gemini.simulated.files import Files
from gateway_gemini.simulated.generate import generate, google_error
from gateway_gemini.simulated.lines import body_problem, embed, read_frame
from gateway_gemini.simulated.objects import refusal, row
from gateway_gemini.simulated.uploads import Uploads

_VERSION = "/{version:v1|v1beta}"
_SYNCHRONOUS = {"generateContent": CHAT, "embedContent": EMBEDDINGS}


class GeminiSimulator(Simulator):
    """One project of the Gemini Developer API."""

    kind: ClassVar[str] = "gemini"
    priced_model: ClassVar[str] = "gemini-2.5-flash"

    def __init__(
        self, *, clock: Clock, name: str = "", settings: SandboxSettings | None = None, directory: Path | None = None
    ) -> None:
        """As any simulator."""
        super().__init__(clock=clock, name=name, settings=settings, directory=directory)
        #: Batches from files of at most so many lines are answered inline, as has been seen in the wild.
        self.inline_output_lines = 0
        #: Whether a cancelled batch shows what was done by then; no document says so. An expired one never does.
        self.keeps_cancelled = False

    def routes(self) -> Iterator[Route]:
        """Uploads, files, batches, content at once, models."""
        yield from Uploads(self).routes()
        yield from Files(self).routes()
        yield from Batches(self, self).routes()
        verbs = "|".join(_SYNCHRONOUS)
        path = _VERSION + "/models/{model:[^/:]+}:{verb:" + verbs + "}"
        yield Route(method="POST", path=path, answer=self.complete, operation=Operation.COMPLETE)
        yield Route(method="GET", path=_VERSION + "/models", answer=self.models)
        yield Route(method="GET", path=_VERSION + "/models/{model:[^/:]+}", answer=self.one_model)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """One answer, at once."""
        raw = await request.read()
        model, endpoint = request.match_info["model"], _SYNCHRONOUS[request.match_info["verb"]]
        body = json_object(raw)
        problem = body_problem(body, model, endpoint)
        if body is None or problem is not None:
            return refusal(400, problem or "Invalid JSON payload received.")
        line = await self.take_call(body, model=model)
        told = self.told(raw, line)
        if told is not None and (told.status is not None or told.word in ("timeout", "expired")):
            outcome = self.failure(told.status or 504)
        else:
            outcome = self._answered(line, told, endpoint)
        return reply(outcome.body, outcome.status or 504)

    async def models(self, _request: web.Request) -> web.StreamResponse:
        """The models that are listed."""
        return reply({"models": [_model(name) for name in self.settings.models]})

    async def one_model(self, request: web.Request) -> web.StreamResponse:
        """One model; every name is served."""
        return reply(_model(request.match_info["model"]))

    def refuse(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> web.Response:
        """Google's error object."""
        return refusal(status, message, code)

    def authorised(self, request: web.Request) -> bool:
        """A key in `x-goog-api-key`, or in the query as `key`; the address of an upload's chunks is a key of its own."""
        if "/sessions/" in request.path:
            return True
        return self.accepts(request.headers.get("x-goog-api-key") or request.query.get("key", ""))

    def new_batch_id(self) -> str:
        """Lowercase letters and digits, as the API's own."""
        return secrets.token_hex(14)

    def read_line(self, line: bytes, batch: StoredBatch) -> Line:
        """A line's frame, as it is read before anything runs."""
        return read_frame(line, batch.model)

    def answer(self, line: Line, told: Directive | None) -> Outcome:
        """Content or an embedding, or the error that the request deserves."""
        return self._answered(line, told, EMBEDDINGS if "content" in line.body else CHAT)

    def failure(self, status: int) -> Outcome:
        """A line that fails as it was told to."""
        return Outcome(status=status, body=google_error(status, f"The sandbox was told to fail with {status}."))

    def row(self, line: Line, outcome: Outcome, batch: StoredBatch) -> bytes:
        """One row of a result file."""
        return row(line, outcome)

    def distort(self, row: bytes, fault: FaultKind) -> bytes:
        """Anomalies that have been seen in the wild."""
        shown = orjson.loads(row)
        if fault is FaultKind.ROW_UNKNOWN_ID:
            shown["key"] = new_id("unknown-")
        elif fault is FaultKind.ROW_STATUS_0:
            shown = {"key": shown["key"]}
        elif fault is FaultKind.ROW_NO_CHOICES and "response" in shown:
            shown["response"].pop("candidates", None)
        return orjson.dumps(shown)

    def _answered(self, line: Line, told: Directive | None, endpoint: str) -> Outcome:
        problem = body_problem(line.body, line.model, endpoint)
        if problem is not None:
            return Outcome(status=400, body=google_error(400, problem))
        if endpoint == EMBEDDINGS:
            return embed(line)
        return generate(line.body, model=line.model, line_id=line.custom_id, told=told)


def _model(name: str) -> dict[str, object]:
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name,
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "batchGenerateContent"],
    }
