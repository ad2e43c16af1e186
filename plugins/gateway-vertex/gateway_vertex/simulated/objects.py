"""Cloud Storage's JSON API over the simulated buckets: metadata, media, lists, deletion."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import quote

from aiohttp import web

from gateway.sandbox import Operation, Route, Simulator, StoredFile, reply, send
from gateway_vertex.simulated.buckets import Buckets, generation

_OBJECT = "/storage/v1/b/{bucket}/o/{name:.+}"


class Objects:
    """The endpoints that neither make nor change an object."""

    def __init__(self, simulator: Simulator, buckets: Buckets) -> None:
        self._simulator = simulator
        self._buckets = buckets

    def routes(self) -> Iterator[Route]:
        """Every path; a list of objects is counted as a part of fetching."""
        yield Route(method="GET", path="/storage/v1/b/{bucket}", answer=self.bucket, operation=Operation.POLL)
        yield Route(method="GET", path="/storage/v1/b/{bucket}/o", answer=self.list, operation=Operation.FETCH)
        yield Route(method="GET", path="/download" + _OBJECT, answer=self.media, operation=Operation.FETCH)
        yield Route(method="GET", path=_OBJECT, answer=self.object, operation=Operation.POLL)
        yield Route(method="DELETE", path=_OBJECT, answer=self.delete, operation=Operation.DISCARD)

    async def bucket(self, request: web.Request) -> web.StreamResponse:
        """Any bucket."""
        bucket = request.match_info["bucket"]
        return reply({"kind": "storage#bucket", "id": bucket, "name": bucket, "location": "US"})

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of the objects below a prefix, in the order of names."""
        query = request.query
        size = query.get("maxResults", "1000")
        if not size.isdecimal() or not 1 <= int(size) <= 1_000:
            return self._simulator.refuse(400, "Invalid unsigned integer value for maxResults.", code="invalid")
        bucket, after = request.match_info["bucket"], query.get("pageToken", "")
        found = [file for file in self._buckets.below(bucket, query.get("prefix", "")) if file.filename > after]
        shown = found[: int(size)]
        page: dict[str, object] = {"kind": "storage#objects"}
        if shown:
            page["items"] = [object_resource(file) for file in shown]
        if len(found) > len(shown):
            page["nextPageToken"] = shown[-1].filename
        return reply(page)

    async def object(self, request: web.Request) -> web.StreamResponse:
        """An object's metadata; its bytes with `alt=media`."""
        if request.query.get("alt") == "media":
            return await self.media(request)
        file = self._file(request)
        return self._lost(request) if file is None else reply(object_resource(file))

    async def media(self, request: web.Request) -> web.StreamResponse:
        """An object's bytes, all or a range of them."""
        file = self._file(request)
        if file is None:
            return self._lost(request)
        headers = {
            "X-Goog-Generation": str(generation(file)),
            "X-Goog-Hash": f"crc32c={file.extra['crc32c']},md5={file.extra['md5']}",
            "X-Goog-Stored-Content-Length": str(file.size),
        }
        return await send(self._simulator, request, self._simulator.store.path(file.id), headers=headers)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Forget an object."""
        file = self._file(request)
        if file is None:
            return self._lost(request)
        self._simulator.delete_file(file.id)
        return web.Response(status=204)

    def _file(self, request: web.Request) -> StoredFile | None:
        file = self._buckets.find(request.match_info["bucket"], request.match_info["name"])
        wanted = request.query.get("generation")
        return file if wanted is None or wanted == str(generation(file)) else None

    def _lost(self, request: web.Request) -> web.Response:
        name = f"{request.match_info['bucket']}/{request.match_info['name']}"
        return self._simulator.refuse(404, f"No such object: {name[:200]}", code="notFound")


def object_resource(file: StoredFile) -> dict[str, object]:
    """An object as the API writes it."""
    bucket, version = file.extra["bucket"], str(generation(file))
    made = datetime.fromtimestamp(file.created, UTC).isoformat().replace("+00:00", "Z")
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{file.filename}/{version}",
        "selfLink": f"https://www.googleapis.com/storage/v1/b/{bucket}/o/{quote(file.filename, safe='')}",
        "name": file.filename,
        "bucket": bucket,
        "generation": version,
        "metageneration": "1",
        "contentType": "application/octet-stream",
        "storageClass": "STANDARD",
        "size": str(file.size),
        "md5Hash": file.extra["md5"],
        "crc32c": file.extra["crc32c"],
        "etag": version,
        "timeCreated": made,
        "updated": made,
    }
