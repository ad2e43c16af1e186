"""`/v1/batch/jobs` of the simulator."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
from aiohttp import web

from gateway.sandbox import Life, NewBatch, Operation, Route, Simulator, Stage, StoredBatch, StoredFile, reply, send
from gateway_mistral.simulated.asked import Asked, read_asked
from gateway_mistral.simulated.objects import HIDDEN, job_object
from gateway_mistral.simulated.schema import detail

#: Query parameters of a list; every other one filters by metadata.
_PARAMETERS = frozenset(
    {"page", "page_size", "model", "agent_id", "created_after", "created_by_me", "status", "order_by"}
)
_HOUR = 3_600.0
_MAX_PAGE = 1_000


class Jobs:
    """The job endpoints over a simulator's store. `in_files` says whether results of inline jobs are in files, too."""

    def __init__(self, simulator: Simulator, in_files: Callable[[], bool]) -> None:
        self._simulator = simulator
        self._in_files = in_files
        #: Deleted jobs; forgotten with the process.
        self._deleted: set[str] = set()

    def routes(self) -> Iterator[Route]:
        """Every path of jobs."""
        all_jobs, one = "/v1/batch/jobs", "/v1/batch/jobs/{job_id}"
        yield Route(method="POST", path=all_jobs, answer=self.create, operation=Operation.CREATE)
        yield Route(method="GET", path=all_jobs, answer=self.list, operation=Operation.LIST)
        yield Route(method="GET", path=one, answer=self.retrieve, operation=Operation.POLL)
        yield Route(method="POST", path=f"{one}/cancel", answer=self.cancel, operation=Operation.CANCEL)
        yield Route(method="DELETE", path=one, answer=self.delete, operation=Operation.DISCARD)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Make a job of files, or of the requests in the call."""
        asked = await asyncio.to_thread(read_asked, await request.read())
        if isinstance(asked, list):
            return reply({"detail": asked}, 422)
        lost = [file_id for file_id in asked.files if not self._usable(file_id)]
        if lost:
            return self._simulator.refuse(404, f"File {lost[0][:64]} not found.")
        file = self._input(asked)
        model = asked.model or self._first_model(file)
        if not model:
            return reply({"detail": [detail("missing", ["model"], "A model is required")]}, 422)
        made = await self._simulator.create(
            NewBatch(
                file_id=file.id,
                endpoint=asked.endpoint,
                model=model,
                size=file.size,
                metadata=asked.metadata,
                window_seconds=asked.timeout_hours * _HOUR,
            )
        )
        if isinstance(made, web.Response):
            return made
        return reply(self._object(made, Life(stage=Stage.VALIDATING)))

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """One job as it is now, with `inline=true` its results inside."""
        job_id = request.match_info["job_id"]
        if not self._known(job_id):
            return self._lost(job_id)
        batch, where = await self._simulator.current(job_id)
        shown = self._object(batch, where)
        if request.query.get("inline", "").lower() != "true":
            return reply(shown)
        answer = orjson.dumps(shown | {"outputs": list(self._outputs(batch))})
        return await send(self._simulator, request, answer, content_type="application/json")

    async def list(self, request: web.Request) -> web.StreamResponse:
        """The workspace's jobs, newest first unless asked otherwise, a page of them."""
        query = request.query
        number, size = query.get("page", "0"), query.get("page_size", "100")
        if not (number.isdecimal() and size.isdecimal() and 1 <= int(size) <= _MAX_PAGE):
            return self._simulator.refuse(422, "page and page_size must be numbers.")
        if query.get("order_by", "-created") not in ("created", "-created"):
            return self._simulator.refuse(422, "order_by must be created or -created.")
        try:
            shown = self._listed(request)
        except ValueError:
            return self._simulator.refuse(422, "created_after must be a date and time.")
        if query.get("order_by") == "created":
            shown = shown[::-1]
        start = int(number) * int(size)
        return reply({"object": "list", "data": shown[start : start + int(size)], "total": len(shown)})

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Ask for a job's end."""
        job_id = request.match_info["job_id"]
        if not self._known(job_id):
            return self._lost(job_id)
        _, where = await self._simulator.current(job_id)
        if where.stage.ended:
            return self._simulator.refuse(400, "The job has ended and cannot be cancelled.")
        await self._simulator.cancel(job_id)
        return reply(self._object(*await self._simulator.current(job_id)))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Forget a job; one that runs is cancelled first."""
        job_id = request.match_info["job_id"]
        if not self._known(job_id):
            return self._lost(job_id)
        await self._simulator.cancel(job_id)
        self._deleted.add(job_id)
        return reply({"id": job_id, "object": "batch", "deleted": True})

    def _listed(self, request: web.Request) -> Sequence[dict[str, object]]:
        """The jobs that pass the filters, newest first. ValueError: the time cannot be read."""
        query = request.query
        since = query.get("created_after")
        horizon = None if since is None else _moment(since)
        wanted = {key: query[key] for key in query if key not in _PARAMETERS}
        statuses = query.getall("status", [])
        shown = [
            self._object(batch, self._simulator.glance(batch))
            for batch in self._simulator.listed()
            if batch.id not in self._deleted
            and (horizon is None or batch.created > horizon)
            and query.get("model", batch.model) == batch.model
            and all((batch.metadata or {}).get(key) == text for key, text in wanted.items())
        ]
        return [job for job in shown if not statuses or job["status"] in statuses]

    def _object(self, batch: StoredBatch, where: Life) -> dict[str, object]:
        file = self._simulator.store.files.get(batch.file_id)
        hidden = file is not None and file.purpose == HIDDEN
        inputs = [batch.file_id]
        if file is not None and hidden:
            inputs = [name for name in file.extra.get("input_files", "").split(",") if name]
        return job_object(batch, where, inputs, files=bool(inputs) or self._in_files())

    def _outputs(self, batch: StoredBatch) -> Iterator[object]:
        """The rows that are JSON."""
        results = batch.results
        for file_id in (results.output_file_id, results.error_file_id) if results is not None else ():
            path = self._simulator.store.path(file_id) if file_id else None
            for row in path.read_bytes().split(b"\n") if path is not None and path.exists() else ():
                try:
                    yield orjson.loads(row)
                except orjson.JSONDecodeError:
                    continue

    def _known(self, job_id: str) -> bool:
        return job_id not in self._deleted and self._simulator.known(job_id)

    def _lost(self, job_id: str) -> web.Response:
        return self._simulator.refuse(404, f"Job {job_id[:64]} not found.")

    def _usable(self, file_id: str) -> bool:
        file = self._simulator.store.files.get(file_id)
        now = self._simulator.clock.now()
        return file is not None and file.purpose == "batch" and now >= file.hidden_until

    def _input(self, asked: Asked) -> StoredFile:
        """The one file whose lines are run: the caller's, or one that nobody sees."""
        store = self._simulator.store
        if len(asked.files) == 1:
            return store.files[asked.files[0]]
        file_id = str(uuid.uuid4())
        path = store.path(file_id)
        if asked.files:
            _put_together([store.path(name) for name in asked.files], path)
        else:
            path.write_bytes(b"".join(line + b"\n" for line in asked.lines))
        file = StoredFile(
            id=file_id,
            filename="",
            purpose=HIDDEN,
            size=path.stat().st_size,
            created=self._simulator.clock.now(),
            extra={"input_files": ",".join(asked.files)},
        )
        store.put_file(file)
        return file

    def _first_model(self, file: StoredFile) -> str:
        """The model of the first line, for jobs that name none."""
        with self._simulator.store.path(file.id).open("rb") as lines:
            try:
                model = orjson.loads(lines.readline())["body"]["model"]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                return ""
        return model if isinstance(model, str) else ""


def _put_together(parts: Sequence[Path], whole: Path) -> None:
    with whole.open("wb") as target:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, target)


def _moment(text: str) -> float:
    read = datetime.fromisoformat(text)
    return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()
