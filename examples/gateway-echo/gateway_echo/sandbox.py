"""Echo on a local port."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import orjson
from aiohttp import web

from gateway.sandbox import (
    Directive,
    FaultKind,
    Life,
    Line,
    NewBatch,
    Operation,
    Outcome,
    Problem,
    Route,
    Simulator,
    Stage,
    StoredBatch,
    StoredFile,
    answer_text,
    body_hash,
    json_object,
    new_id,
    page,
    reply,
    send,
    tokens_of,
)

_FIELDS = frozenset({"ref", "model", "talk", "most"})


class EchoSimulator(Simulator):
    """One account; lines that come in a create call are kept as a file."""

    kind: ClassVar[str] = "echo"

    def routes(self) -> Iterator[Route]:
        """Every path."""
        batch = "/batches/{batch}"
        yield Route(method="POST", path="/batches", answer=self.begin, operation=Operation.CREATE)
        yield Route(method="GET", path="/batches", answer=self.list, operation=Operation.LIST)
        yield Route(method="GET", path=batch, answer=self.show, operation=Operation.POLL)
        yield Route(method="GET", path=batch + "/rows", answer=self.rows, operation=Operation.FETCH)
        yield Route(method="POST", path=batch + "/stop", answer=self.stop, operation=Operation.CANCEL)

    def authorised(self, request: web.Request) -> bool:
        """Any key, unless one is configured."""
        return self.accepts(request.headers.get("X-Key", ""))

    def refuse(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> web.Response:
        """An error in Echo's words."""
        return reply({"why": message}, status)

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Take every line of a batch."""
        content = await request.read()
        model, count = request.query.get("model", ""), content.count(b"\n")
        if not model or not count:
            return self.refuse(400, "a model, and at least one line")
        now, file_id = self.clock.now(), new_id("lines-")
        self.store.path(file_id).write_bytes(content)
        self.store.put_file(StoredFile(id=file_id, filename="lines", purpose="batch", size=len(content), created=now))
        new = NewBatch(
            file_id=file_id, endpoint="/batches", model=model, size=len(content), metadata={"lines": str(count)}
        )
        made = await self.create(new)
        return made if isinstance(made, web.Response) else reply(_shown(made, Life(stage=Stage.VALIDATING)))

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Batches, newest first."""
        part = page(self.listed(), after=request.query.get("after"), limit=50)
        if part is None:
            return self.refuse(400, "after names no batch")
        return reply({"batches": [_shown(each, self.glance(each)) for each in part.items], "more": part.has_more})

    async def show(self, request: web.Request) -> web.StreamResponse:
        """One batch."""
        name = request.match_info["batch"]
        return reply(_shown(*await self.current(name))) if self.known(name) else self.refuse(404, "no such batch")

    async def stop(self, request: web.Request) -> web.StreamResponse:
        """Cancel one."""
        if self.known(request.match_info["batch"]):
            await self.cancel(request.match_info["batch"])
        return await self.show(request)

    async def rows(self, request: web.Request) -> web.StreamResponse:
        """Every row of a batch that is over."""
        batch = self.store.batches.get(request.match_info["batch"])
        if batch is None or batch.results is None:
            return self.refuse(404, "no rows")
        files = (batch.results.output_file_id, batch.results.error_file_id)
        pieces = [self.store.path(file).read_bytes() for file in files if file]
        content = b"".join(piece if piece.endswith(b"\n") else piece + b"\n" for piece in pieces)
        return await send(self, request, content)

    def read_line(self, line: bytes, batch: StoredBatch) -> Line:
        """A line's names; anything that Echo does not know refuses the batch."""
        content = json_object(line)
        if content is None or not content.keys() >= {"ref", "model", "talk"} or content.keys() - _FIELDS:
            problem = Problem(code="bad_line", message="a line has ref, model, talk and perhaps most")
            return Line(custom_id="", model=batch.model, problem=problem)
        body = {name: value for name, value in content.items() if name != "ref"}
        return Line(custom_id=str(content["ref"]), model=str(content["model"]), body=body)

    def answer(self, line: Line, told: Directive | None) -> Outcome:
        """What was said last, again."""
        talk = line.body.get("talk")
        last = talk[-1] if isinstance(talk, list) and talk else None
        if not isinstance(last, Mapping) or not isinstance(last.get("says"), str):
            return Outcome(status=400, body={"why": "talk says nothing"})
        said = answer_text(last["says"], body_hash(line.body))
        read, written = tokens_of(len(last["says"])), tokens_of(len(said))
        body = {"reply": said, "read": read, "written": written}
        return Outcome(status=200, body=body, input_tokens=read, output_tokens=written)

    def failure(self, status: int) -> Outcome:
        """A line that fails."""
        return Outcome(status=status, body={"why": f"The sandbox was told to fail with {status}."})

    def row(self, line: Line, outcome: Outcome, batch: StoredBatch) -> bytes:
        """One row."""
        said = dict(outcome.body or {"why": outcome.reason})
        return orjson.dumps(
            {"ref": line.custom_id, **({} if outcome.status == 200 else {"failed": outcome.status}), **said}
        )

    def distort(self, row: bytes, fault: FaultKind) -> bytes:
        """Rows nobody expects."""
        shown = orjson.loads(row)
        if fault is FaultKind.ROW_UNKNOWN_ID:
            return orjson.dumps({**shown, "ref": new_id("unknown-")})
        return orjson.dumps({"ref": shown["ref"]})


def _shown(batch: StoredBatch, where: Life) -> dict[str, object]:
    refused = where.stage is Stage.FAILED
    return {
        "id": batch.id,
        "state": "refused" if refused else "over" if where.stage.ended else "working",
        "made": int(batch.created),
        "lines": int((batch.metadata or {}).get("lines", "0")),
        "why": "; ".join(problem.message for problem in batch.problems) if refused else None,
    }
