"""The simulator of Together: files, jobs, the synchronous endpoint and the list of models, in Together's own wire format.

SDK 2 and SDK 3 say the same on the wire; only the base URL that they are given differs (SDK 2: with `/v1`).
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

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
    distorted,
    json_object,
    reply,
)
from gateway_together.simulated.batches import Batches
from gateway_together.simulated.chat import completion
from gateway_together.simulated.files import Files
from gateway_together.simulated.lines import chat_problem, read_frame
from gateway_together.simulated.objects import error_object, row
from gateway_together.simulated.uploads import STORAGE, Uploads

CHAT = "/v1/chat/completions"
_MAX_BYTES = 100_000_000


class TogetherSimulator(Simulator):
    """One account at Together; serves chat completions, in batches and at once. Its storage is at `/storage/`."""

    kind: ClassVar[str] = "together"

    def __init__(
        self, *, clock: Clock, name: str = "", settings: SandboxSettings | None = None, directory: Path | None = None
    ) -> None:
        """As any simulator; without settings, Together's limits hold."""
        settings = settings or SandboxSettings(max_bytes=_MAX_BYTES, max_creates_per_hour=None)
        super().__init__(clock=clock, name=name, settings=settings, directory=directory)

    def routes(self) -> Iterator[Route]:
        """Files, storage, jobs, chat completions, models."""
        yield from Uploads(self).routes()
        yield from Files(self).routes()
        yield from Batches(self, CHAT).routes()
        yield Route(method="POST", path=CHAT, answer=self.complete, operation=Operation.COMPLETE)
        yield Route(method="GET", path="/v1/models", answer=self.models)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """One chat completion, at once."""
        raw = await request.read()
        body = json_object(raw) or {}
        model = body.get("model")
        if not isinstance(model, str):
            return reply(error_object(400, "The body is not JSON, or it names no model"), 400)
        if body.get("stream"):
            return reply(error_object(400, "This simulator does not stream", param="stream"), 400)
        outcome = self.outcome(raw, await self.take_call(body, model=model))
        return reply(outcome.body, outcome.status or 504)

    async def models(self, _request: web.Request) -> web.StreamResponse:
        """The models that are listed, as a bare array."""
        created = 1_700_000_000
        return reply(
            [
                {"id": name, "object": "model", "created": created, "type": "chat", "display_name": name}
                for name in self.settings.models
            ]
        )

    def refuse(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> web.Response:
        """A sentence, as the batch endpoints refuse."""
        return reply({"error": message if code is None else f"{message} ({code})"}, status)

    def authorised(self, request: web.Request) -> bool:
        """A bearer key; at the storage, the file's own signature."""
        path = request.path.removeprefix(f"/{self.name}")
        if path.startswith(STORAGE):
            file = self.store.files.get(path.removeprefix(STORAGE))
            wanted = file.extra.get("signature", "") if file is not None else ""
            return bool(wanted) and hmac.compare_digest(request.query.get("signature", "").encode(), wanted.encode())
        return super().authorised(request)

    def new_batch_id(self) -> str:
        """A UUID."""
        return str(uuid.uuid4())

    def read_line(self, line: bytes, batch: StoredBatch) -> Line:
        """A line's frame, as validation reads it."""
        return read_frame(line)

    def answer(self, line: Line, told: Directive | None) -> Outcome:
        """A chat completion, or the 400 that the body deserves."""
        problem = chat_problem(line.body, strict=self.settings.strict_fields)
        if problem is not None:
            return Outcome(status=400, body=error_object(400, problem.message, "invalid_request", problem.param))
        return completion(line.body, line.custom_id, self.clock.now(), told)

    def failure(self, status: int) -> Outcome:
        """A line that fails as it was told to."""
        return Outcome(status=status, body=error_object(status, f"The sandbox was told to fail with {status}."))

    def row(self, line: Line, outcome: Outcome, batch: StoredBatch) -> bytes:
        """One row of an output or error file."""
        return row(line, outcome)

    def distort(self, row: bytes, fault: FaultKind) -> bytes:
        """Anomalies that other APIs of this shape have been seen with."""
        return distorted(row, fault)
