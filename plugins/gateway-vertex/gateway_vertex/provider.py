"""The kind `vertex`: a job reads its lines from Cloud Storage, and writes its answers there."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import orjson

from gateway import (
    Batch,
    Call,
    Limits,
    Provider,
    ProviderError,
    ProviderSettings,
    RemoteBatch,
    RemoteState,
    Result,
)
from gateway.clock import Clock
from gateway.listing import Page, oldest_first, read_list
from gateway.reading import mapping, text
from gateway_gemini.answer import chat_answer, failed
from gateway_gemini.encode import asked_schema, dropped
from gateway_vertex.credentials import CredentialSource
from gateway_vertex.decode import decode_row
from gateway_vertex.encode import encode_line, frame_line, resource_of
from gateway_vertex.failures import creating, repeatable, stopping
from gateway_vertex.jobs import JobsApi
from gateway_vertex.places import Place
from gateway_vertex.remote import (
    CANCELLING,
    OUTPUT,
    PREFIX,
    STATES,
    display_name,
    is_ours,
    job_of,
    listed,
    marker_of,
    remote_batch,
    status_of,
)
from gateway_vertex.settings import VertexSettings
from gateway_vertex.storage import ObjectStore
from gateway_vertex.threads import Leash, leashed

if TYPE_CHECKING:
    from google.genai.errors import APIError


class VertexProvider(Provider):
    """Batch prediction on Vertex AI with Google's models."""

    kind: ClassVar[str] = "vertex"
    Settings: ClassVar[type[ProviderSettings]] = VertexSettings
    #: Sources and dates are in the README. A job may wait for 72 hours, and then run for 24.
    limits: ClassVar[Limits] = Limits(
        max_requests=200_000,
        max_bytes=1_000_000_000,
        min_poll_seconds=5.0,
        window_seconds=96 * 3600.0,
    )
    simulator: ClassVar[str | None] = "gateway_vertex.sandbox:VertexSimulator"

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        """Load the SDKs; nothing is sent, and no credentials are looked for."""
        super().__init__(name, settings, clock, directory)
        self._own = cast("VertexSettings", settings)
        self._place = self._own.place
        credentials = CredentialSource(self._own)
        self._jobs = JobsApi(self._own, credentials)
        self._objects = ObjectStore(self._own, credentials)
        self._dialect = self._own.dialect

    def encode(self, call: Call) -> bytes:
        """`{"request": GenerateContentRequest}`."""
        return encode_line(call, self._dialect)

    def dropped(self, call: Call) -> Sequence[str]:
        """Hints that Gemini has no field for."""
        return dropped(call)

    def output_schema(self, payload: bytes) -> Mapping[str, object] | None:
        """The schema in Gemini's words: `responseJsonSchema`, or any object where only JSON was asked for."""
        return asked_schema(payload)

    def frame(self, line_id: str, payload: bytes) -> bytes:
        """The line's name as a label of its request: the results repeat the request."""
        return frame_line(line_id, payload, self._own.label_key)

    def decode(self, row: bytes) -> Result:
        """One row of a predictions or errors file."""
        return decode_row(row, self._own.label_key)

    async def upload(self, batch: Batch) -> str | None:
        """The spool as `MARKER/input.jsonl`, made once: a second upload finds the first one."""
        place = self._place.of_batch(batch.marker)
        async with repeatable("upload", named=False):
            await leashed(lambda leash: self._objects.upload(place, place.input_name, batch.spool, leash))
        return f"gs://{place.bucket}/{place.input_name}"

    async def submit(self, batch: Batch) -> RemoteBatch:
        """One create call; the marker is the job's display name."""
        job = job_of(batch, resource_of(batch.model), self._place)
        async with creating():
            return self._read(await self._jobs.create(job))

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """Jobs with our display name, by the list's own filter; oldest first."""
        async with repeatable("list", named=False):
            jobs = self._listed(f'display_name="{display_name(batch.marker)}"')
            return oldest_first([self._read(job) async for job in jobs if is_ours(job, batch)])

    async def list_ours(self, since: datetime) -> list[RemoteBatch]:
        """Jobs of the location that carry a marker, by the list's own filter of times."""
        stamp = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        async with repeatable("list", named=False):
            jobs = self._listed(f'create_time>="{stamp}"')
            ours = [replace(self._read(job), marker=marker) async for job in jobs if (marker := marker_of(job))]
        return oldest_first(ours, since=since)

    def _listed(self, wanted: str) -> AsyncIterator[Mapping[str, object]]:
        """The jobs that fit the filter `wanted`. Raises unless all were read."""

        async def page(after: str | None) -> Page:
            content = await self._jobs.page(wanted, after or "")
            return Page(items=listed(content), after=text(content.get("nextPageToken")))

        return read_list(page)

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """The job, by its full name."""
        async with repeatable("poll"):
            return self._read(await self._jobs.get(remote.remote_id))

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """Every result object below the directory that the job names; without one, below the prefix that was this batch's.

        The thread that downloads may outlive a cancelled wait for a moment, so it has a file of its own.
        """
        places = (Place.parse(remote.where.get(field, "")) for field in (OUTPUT, PREFIX))
        place = next((place for place in places if place is not None), None)
        partial = to.with_name(f"{to.name}.{secrets.token_hex(4)}")

        def work(leash: Leash) -> None:
            names = [] if place is None else result_names(self._objects.names(place))
            self._objects.download(place or self._place, names, partial, leash)

        try:
            async with repeatable("fetch"):
                await leashed(work)
            partial.replace(to)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    async def cancel(self, remote: RemoteBatch) -> None:
        """Ask for the job's end; one that has ended, or is on its way there, is left as it is."""
        async with stopping(lambda: self._runs_on(remote)):
            await self._jobs.cancel(remote.remote_id)

    async def discard(self, batch: Batch, remote: RemoteBatch | None) -> None:
        """Delete everything of the batch in the bucket. The job stays: it holds no prompts, and it is what was billed."""
        place = self._place.of_batch(batch.marker)
        async with repeatable("discard", named=False):
            await leashed(lambda leash: self._objects.delete(place, leash))

    async def complete(self, call: Call) -> Result:
        """`generateContent`, once. An answer of any status is a result; no answer raises as a create call does."""
        return await self.complete_payload(call.endpoint, call.model, self.encode(call))

    async def complete_payload(self, endpoint: str, model: str, payload: bytes) -> Result:
        """The same for a request that was encoded earlier."""
        from google.genai.errors import APIError

        try:
            async with creating("complete"):
                response = await self._jobs.generate(
                    resource_of(model), dict(mapping(orjson.loads(payload)["request"]))
                )
        except ProviderError as error:
            if isinstance(error.__cause__, APIError) and error.__cause__.code >= 400:
                return failed(_told(error.__cause__))
            raise
        return chat_answer(response, model=model)

    async def aclose(self) -> None:
        """Close connections."""
        await self._jobs.aclose()
        self._objects.close()

    async def _runs_on(self, remote: RemoteBatch) -> bool:
        """Whether the job has neither ended nor been told to."""
        async with repeatable("poll"):
            word = status_of(await self._jobs.get(remote.remote_id))
        return word != CANCELLING and STATES.get(word) is not RemoteState.ENDED

    def _read(self, job: Mapping[str, object]) -> RemoteBatch:
        """The batch in `job`; a state that is not known is named in the log once."""
        word = status_of(job)
        self.note_state(word, STATES)
        return remote_batch(job)


def result_names(names: Sequence[str]) -> list[str]:
    """Those of the objects below a job's directory that have rows: predictions, then what cannot be told, then errors."""
    ranked = [(_rank(base), name) for name in names if _has_rows(base := name.rpartition("/")[2])]
    return [name for _, name in sorted(ranked)]


def _has_rows(base: str) -> bool:
    """`predictions.jsonl` and its like; shards may be numbered behind the suffix."""
    return base.endswith(".jsonl") or ".jsonl-" in base or base.startswith("prediction.results")


def _rank(base: str) -> int:
    return 0 if base.startswith("prediction") else 2 if base.startswith("error") else 1


def _told(error: APIError) -> Mapping[str, object]:
    """The error object of an HTTP answer."""
    content = mapping(error.details)
    return {"code": error.code, **(mapping(content.get("error")) or content)}
