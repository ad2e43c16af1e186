"""The simulator of Vertex AI with its Cloud Storage: jobs, buckets and the models' own endpoint, on one address."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import orjson
from aiohttp import web

from gateway.clock import Clock, as_datetime
from gateway.reading import mapping
from gateway.sandbox import (
    Directive,
    FaultKind,
    Life,
    Line,
    Operation,
    Outcome,
    Problem,
    Route,
    SandboxSettings,
    Simulator,
    StoredBatch,
    new_id,
    reply,
)
from gateway_gemini.simulated.generate import generate, google_error, grpc_of, request_problem
from gateway_vertex.simulated.asking import labels_problem
from gateway_vertex.simulated.buckets import Buckets
from gateway_vertex.simulated.jobs import PARENT, Jobs
from gateway_vertex.simulated.objects import Objects
from gateway_vertex.simulated.results import publish, published
from gateway_vertex.simulated.uploads import Uploads

#: In a line's body: what its row repeats beside the request's own fields. Not part of what is asked.
_ECHO = "metadata"
_ANONYMOUS = "unlabelled-"


class VertexSimulator(Simulator):
    """One account: any project, any location, any bucket."""

    kind: ClassVar[str] = "vertex"
    priced_model: ClassVar[str] = "gemini-2.5-flash"

    def __init__(
        self, *, clock: Clock, name: str = "", settings: SandboxSettings | None = None, directory: Path | None = None
    ) -> None:
        """As any simulator."""
        super().__init__(clock=clock, name=name, settings=settings, directory=directory)
        self._buckets = Buckets(self)
        self._jobs = Jobs(self, self._buckets)
        self._objects = Objects(self, self._buckets)
        self._uploads = Uploads(self, self._buckets)
        self._numbers = itertools.count(1)
        self._publishing = asyncio.Lock()

    def routes(self) -> Iterator[Route]:
        """Jobs, objects, and `generateContent`."""
        yield from self._jobs.routes()
        yield from self._objects.routes()
        yield from self._uploads.routes()
        path = PARENT + "/{model:.+}:generateContent"
        yield Route(method="POST", path=path, answer=self.complete, operation=Operation.COMPLETE)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """One answer, at once."""
        raw = await request.read()
        try:
            asked = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return self.refuse(400, "Invalid JSON payload received.")
        model = request.match_info["model"]
        line = await self.take_call(_line("", model, {"request": asked}).body, model=model)
        outcome = self.outcome(raw, line)
        return reply(outcome.body, outcome.status or 504)

    async def current(self, batch_id: str) -> tuple[StoredBatch, Life]:
        """As any simulator's; the results of an ended job are in its bucket then."""
        batch, where = await super().current(batch_id)
        if batch.results is None:
            return batch, where
        async with self._publishing:
            batch = self.store.batches[batch_id]
            if published(batch) is None:
                batch = await publish(self, self._buckets, batch, where)
        return batch, where

    def new_batch_id(self) -> str:
        """Jobs are numbered with 19 digits."""
        return str(10**18 + secrets.randbelow(9 * 10**18))

    def refuse(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> web.Response:
        """An error as both APIs write it: the jobs API's `status`, Cloud Storage's `errors`."""
        if code == "token_limit_exceeded":
            status = 429
        content = google_error(status, message)
        error = mapping(content["error"])
        named = {"status": code} if code is not None and code.isupper() else {}
        errors = [{"message": message, "domain": "global", "reason": code or "backendError"}]
        return reply({"error": {**error, **named, "errors": errors}}, status)

    def read_line(self, line: bytes, batch: StoredBatch) -> Line:
        """A line by its label, or by its `key`; one that has neither is nobody's.

        Two lines of one name are refused: the API would not mind, but whoever sent them cannot tell the answers apart.
        """
        try:
            content = orjson.loads(line)
        except orjson.JSONDecodeError:
            content = None
        if not isinstance(content, dict) or not isinstance(content.get("request"), dict):
            message = "Failed to parse the input: every line must be a JSON object with a request."
            return Line(
                custom_id=self._anonymous(), model=batch.model, problem=Problem(code="invalid", message=message)
            )
        labels = content["request"].get("labels")
        named = [label for label in (*mapping(labels).values(), content.get("key")) if isinstance(label, str) and label]
        return _line(named[0] if named else self._anonymous(), batch.model, content)

    def answer(self, line: Line, told: Directive | None) -> Outcome:
        """A `GenerateContentResponse`, or the 400 that the request deserves."""
        model = line.model.rpartition("/")[2]
        asked = {name: field for name, field in line.body.items() if name not in ("model", _ECHO)}
        echo = mapping(line.body.get(_ECHO))
        problem = request_problem(asked, model) or ("labels" in echo and labels_problem(echo["labels"]))
        if problem:
            return Outcome(status=400, body=google_error(400, problem))
        return generate(asked, model=model, line_id=line.custom_id, told=told)

    def failure(self, status: int) -> Outcome:
        """A line that fails as it was told to."""
        return Outcome(status=status, body=google_error(status, f"The sandbox was told to fail with {status}."))

    def row(self, line: Line, outcome: Outcome, batch: StoredBatch) -> bytes:
        """One row with the echo of its request; none for a line that the job never came to.

        What a failed row's `status` looks like is not documented: here a 4xx is an object in a text, others are words.
        """
        if outcome.status is None and outcome.reason != "timeout":
            return b""
        echo = dict(mapping(line.body.get(_ECHO)))
        labels = {"labels": echo.pop("labels")} if "labels" in echo else {}
        asked = {name: field for name, field in line.body.items() if name not in ("model", _ECHO)}
        shown: dict[str, object] = {
            **echo,
            "status": "",
            "processed_time": as_datetime(self.clock.now()).isoformat(),
            "request": {**asked, **labels},
            "response": {},
        }
        if outcome.status == 200:
            shown["response"] = outcome.body
        elif outcome.status is not None and 400 <= outcome.status < 500:
            shown["status"] = f"Bad Request: {orjson.dumps(outcome.body).decode()}"
        else:
            shown["status"] = f"{grpc_of(outcome.status or 504)[1]}: {_message(outcome)}"
        return orjson.dumps(shown)

    def distort(self, row: bytes, fault: FaultKind) -> bytes:
        """Anomalies in this wire format."""
        shown = orjson.loads(row)
        if fault is FaultKind.ROW_UNKNOWN_ID:
            shown["request"]["labels"] = dict.fromkeys(shown["request"].get("labels", ()), new_id("unknown-"))
        elif fault is FaultKind.ROW_STATUS_0:
            del shown["response"], shown["status"]
        elif fault is FaultKind.ROW_NO_CHOICES:
            shown["response"]["candidates"] = []
        return orjson.dumps(shown)

    def _anonymous(self) -> str:
        return f"{_ANONYMOUS}{next(self._numbers)}"


def _line(name: str, model: str, content: Mapping[str, object]) -> Line:
    """A line whose body is the request, less its labels: they do not change what is asked."""
    request = dict(mapping(content["request"]))
    echo = {field: kept for field, kept in content.items() if field != "request"}
    if "labels" in request:
        echo["labels"] = request.pop("labels")
    return Line(custom_id=name, model=model, body={**request, "model": model, _ECHO: echo})


def _message(outcome: Outcome) -> str:
    return str(mapping(mapping(outcome.body).get("error")).get("message") or "The request took too long.")
