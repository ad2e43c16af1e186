"""The three steps of an upload, what is left of one that broke off, and what the provider makes of the file."""

from __future__ import annotations

import hashlib
import io
import threading
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from together_lab import MARKER, chat, provider_at, sdk, written

from gateway import Batch, Rejected, RemoteState, Retryable, Unauthorised
from gateway.sandbox import Fault, FaultKind, Operation, StoredFile
from gateway.testing import Lab, served
from gateway_together import uploads as uploads_module
from gateway_together.uploads import redirected


def kept(lab: Lab) -> list[StoredFile]:
    """The files that the account has."""
    return list(lab.simulator.store.files.values())


def uploads(lab: Lab) -> int:
    """How many steps of uploads have arrived."""
    return lab.simulator.ledger.calls["upload"]


async def test_the_file_is_named_after_the_marker(lab: Lab) -> None:
    """What arrives is the spool, byte for byte, for batches, under the marker's name; it takes three calls."""
    batch = await lab.upload(chat("x"), chat("\u2028"))
    [file] = kept(lab)

    assert (file.id, file.filename, file.purpose) == (batch.file_id, f"{MARKER}.jsonl", "batch-api")
    assert lab.simulator.store.path(file.id).read_bytes() == batch.spool.read_bytes()
    assert uploads(lab) == 3


async def test_the_same_bytes_are_not_sent_twice(lab: Lab) -> None:
    """A repeated upload is told that the file is there, and gives the id it has."""
    batch = await lab.upload(chat("x"))
    again = await lab.provider.upload(batch)

    assert again == batch.file_id
    assert uploads(lab) == 4
    assert len(kept(lab)) == 1


@pytest.mark.parametrize("path", ["/v1/files", "/storage/", "/preprocess"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.STATUS])
async def test_an_upload_that_broke_off_is_taken_up(lab: Lab, path: str, when: str, kind: FaultKind) -> None:
    """Wherever an upload breaks off it is Retryable, and the next one ends with a usable file that has every byte."""
    batch = lab.seal(chat("x"))
    order = Fault(kind=kind, operation=Operation.UPLOAD, when=when, contains=path, status=500)  # type: ignore[arg-type]
    lab.simulator.faults.order(order)
    with pytest.raises(Retryable):
        await lab.provider.upload(batch)
    batch = replace(batch, file_id=await lab.provider.upload(batch))

    assert [lab.simulator.store.path(file.id).read_bytes() for file in kept(lab)] == [batch.spool.read_bytes()]
    assert (await lab.provider.submit(batch)).state is RemoteState.RUNNING


async def test_a_known_file_without_an_id_is_found_by_its_name(lab: Lab) -> None:
    """A 409 that does not say which file it means is understood by the name, which is ours alone."""
    batch = await lab.upload(chat("x"))
    order = Fault(kind=FaultKind.STATUS, operation=Operation.UPLOAD, status=409, times=None)
    lab.simulator.faults.order(order)

    assert await lab.provider.upload(batch) == batch.file_id
    with pytest.raises(Retryable):
        await lab.provider.upload(lab.seal(chat("y"), marker="z" * 20))


async def test_a_file_that_is_looked_at_is_waited_for(lab: Lab) -> None:
    """A file that the provider is still looking at is waited for; one that never gets ready is Retryable."""
    lab.simulator.settings = replace(lab.simulator.settings, file_pending_seconds=30)
    batch = await lab.upload(chat("x"))
    assert (await lab.provider.submit(batch)).state is RemoteState.RUNNING

    lab.simulator.settings = replace(lab.simulator.settings, file_pending_seconds=1_000_000)
    with pytest.raises(Retryable, match="still RUNNING"):
        await lab.upload(chat("y"), marker="z" * 20)


async def test_a_file_of_a_bad_format_is_rejected(lab: Lab) -> None:
    """A file that the provider cannot read is Rejected, with the reason that it gives."""
    spool = lab.directory / "spool"
    spool.write_bytes(b"no json\n")
    size = spool.stat().st_size
    batch = Batch(marker=MARKER, endpoint="/v1/chat/completions", model="m", count=1, size=size, spool=spool)
    with pytest.raises(Rejected, match=r"INVALID_FORMAT.*first line"):
        await lab.provider.upload(batch)


async def test_a_key_that_is_refused_says_so(lab: Lab) -> None:
    """A 401 for an upload is Unauthorised, in words about the key, not about a free trial."""
    lab.simulator.settings = replace(lab.simulator.settings, api_key="another")
    with pytest.raises(Unauthorised) as caught:
        await lab.upload(chat("x"))

    assert "key" in caught.value.reason
    assert "trial" not in caught.value.reason


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refused_announcement_is_rejected(lab: Lab, status: int) -> None:
    """A 4xx for the announcement refuses the batch, without lines."""
    lab.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.UPLOAD, status=status, message="no"))
    with pytest.raises(Rejected, match="no") as caught:
        await lab.upload(chat("x"))

    assert caught.value.lines == {}


class Elsewhere:
    """A storage that sends its callers on, and an API in front of it that hands out what address it is told to."""

    def __init__(self, location: str | None, file_id: str = "file-1") -> None:
        self.location = location
        self.file_id = file_id
        self.puts: list[tuple[str, str | None, int]] = []

    async def announce(self, _request: web.Request) -> web.Response:
        """Step one."""
        headers = {} if self.location is None else {"Location": self.location, "X-Together-File-Id": self.file_id}
        return web.Response(status=302, headers=headers)

    async def moved(self, request: web.Request) -> web.Response:
        """Not here."""
        return web.Response(status=307, headers={"Location": "/there" if request.path == "/moved" else request.path})

    async def there(self, request: web.Request) -> web.Response:
        """Here."""
        body = await request.read()
        self.puts.append((hashlib.sha256(body).hexdigest(), request.headers.get("Authorization"), len(body)))
        return web.Response()

    async def preprocess(self, _request: web.Request) -> web.Response:
        """Step three, in the words of an API that says nothing of processing."""
        return web.json_response({"id": "file-1"})

    async def serve(self, lab: Lab, batch: Batch) -> str | None:
        """Upload `batch` to it."""
        app = web.Application(client_max_size=0)
        app.router.add_post("/v1/files", self.announce)
        app.router.add_put("/moved", self.moved)
        app.router.add_put("/circle", self.moved)
        app.router.add_put("/there", self.there)
        app.router.add_post("/v1/files/file-1/preprocess", self.preprocess)
        app.router.add_get("/v1/files/file-1", self.preprocess)
        async with served(app) as url, provider_at(lab, f"{url}/v1/") as provider:
            return await provider.upload(batch)


async def test_storage_that_moved_gets_the_bytes_again(lab: Lab) -> None:
    """A redirect of the storage is followed with all bytes and without the key; a file without a state is usable."""
    elsewhere = Elsewhere("/moved")
    batch = lab.seal(chat("x" * 3_000_000))

    assert await elsewhere.serve(lab, batch) == "file-1"
    assert elsewhere.puts == [(hashlib.sha256(batch.spool.read_bytes()).hexdigest(), None, batch.size)]


@pytest.mark.parametrize("location", [None, "/circle", "/nowhere", "http://x:port", "ftp://127.0.0.1/x"])
async def test_storage_that_cannot_be_reached_is_retryable(lab: Lab, location: str | None) -> None:
    """No address, a bad address, one that does not exist and a circle of redirects are all Retryable."""
    with pytest.raises(Retryable):
        await Elsewhere(location).serve(lab, lab.seal(chat("x")))


@pytest.mark.parametrize("file_id", ["", "../batches", "a/b", "-x"])
async def test_an_id_that_is_no_name_is_not_used(lab: Lab, file_id: str) -> None:
    """An id that would lead a path astray is none."""
    with pytest.raises(Retryable, match="names no file"):
        await Elsewhere("/there", file_id).serve(lab, lab.seal(chat("x")))


def test_an_open_line_is_not_followed() -> None:
    """Prompts do not leave the encrypted line because a storage says so; relative addresses are understood."""
    assert redirected("https://a.example/x?sig=1", "/y?sig=2", secure=True) == "https://a.example/y?sig=2"
    assert redirected("http://a.example/x", "http://b.example/y", secure=False) == "http://b.example/y"
    with pytest.raises(Retryable):
        redirected("https://a.example/x", "http://a.example/x", secure=True)


async def test_a_file_sent_by_the_sdk_is_known(lab: Lab, tmp_path: Path) -> None:
    """The SDK's upload and ours are one protocol: bytes that it brought are not sent by us again."""
    batch = lab.seal(chat("x"))
    path = written(tmp_path / f"{MARKER}.jsonl", *map(orjson.loads, batch.spool.read_bytes().splitlines()))
    async with sdk(lab) as client:
        file = await client.files.upload(path, purpose="batch-api", check=False)

    assert await lab.provider.upload(batch) == file.id


class Watched(io.BytesIO):
    """A file that remembers how much was asked of it at once, and in which thread."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.asked: set[int | None] = set()
        self.threads: set[int] = set()

    def read(self, size: int | None = -1) -> bytes:
        """As any file."""
        self.asked.add(size)
        self.threads.add(threading.get_ident())
        return super().read(size)


async def test_a_file_is_read_piece_by_piece_in_other_threads(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither reading nor hashing holds up the loop, and no more than a megabyte is in memory at once."""
    batch = lab.seal(chat("x" * 3_000_000))
    watched: list[Watched] = []
    hashed: list[int] = []

    def opened(path: Path) -> Watched:
        watched.append(Watched(path.read_bytes()))
        return watched[-1]

    def checksum(path: Path) -> str:
        hashed.append(threading.get_ident())
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(uploads_module, "opened", opened)
    monkeypatch.setattr(uploads_module, "_size", lambda _: batch.size)
    monkeypatch.setattr(uploads_module, "_checksum", checksum)
    await lab.provider.upload(batch)
    here = threading.get_ident()

    assert [file.asked for file in watched] == [{1 << 20}]
    assert here not in watched[0].threads | set(hashed)
    assert len(hashed) == 1
