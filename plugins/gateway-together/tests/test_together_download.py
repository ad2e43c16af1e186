"""Result files that lie in a storage of their own, to which the API points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web
from together_lab import chat, provider_at

from gateway import RemoteBatch, RemoteState, Retryable
from gateway.testing import Lab, served

REMOTE = RemoteBatch(remote_id="batch_1", state=RemoteState.ENDED, where={"output_file_id": "file-1"})


@dataclass(slots=True)
class Storage:
    """An API that points to a storage for its files, and that storage."""

    #: What the API points to.
    location: str = "/there?sig=1"
    status: int = 200
    #: The headers of what was asked of the storage.
    heard: list[Mapping[str, str]] = field(default_factory=list)

    async def content(self, _request: web.Request) -> web.Response:
        """The API's answer."""
        return web.Response(status=302, headers={"Location": self.location})

    async def there(self, request: web.Request) -> web.Response:
        """The storage's."""
        self.heard.append(request.headers)
        return web.Response(status=self.status, body=b'{"a":1}')

    def both(self) -> web.Application:
        """They share a port."""
        app = web.Application()
        app.router.add_get("/v1/files/file-1/content", self.content)
        app.router.add_get("/there", self.there)
        return app


async def test_a_result_in_storage_is_fetched_without_the_key(lab: Lab, tmp_path: Path) -> None:
    """A redirect of a download is followed once, the key stays behind, and the rows are there as from the API itself."""
    storage = Storage()
    async with served(storage.both()) as url, provider_at(lab, url) as provider:
        await provider.fetch(REMOTE, tmp_path / "fetched")

    assert (tmp_path / "fetched").read_bytes() == b'{"a":1}\n'
    assert ["Authorization" in headers for headers in storage.heard] == [False]


@pytest.mark.parametrize(
    "storage",
    [Storage(status=302), Storage(status=403), Storage(location=""), Storage(location="http://x:port")],
    ids=["moved", "refused", "nowhere", "unreadable"],
)
async def test_storage_that_gives_nothing_is_retryable(storage: Storage, lab: Lab, tmp_path: Path) -> None:
    """A storage that sends on or refuses, and an address that is none, are Retryable, and leave no file."""
    async with served(storage.both()) as url, provider_at(lab, url) as provider:
        with pytest.raises(Retryable):
            await provider.fetch(REMOTE, tmp_path / "fetched")

    assert not (tmp_path / "fetched").exists()


async def test_answers_are_not_lost_with_the_error_file(lab: Lab) -> None:
    """Answers in an output file are fetched though the error file is gone: they are not asked for, and paid, again."""
    remote = await lab.run(chat("a"))
    torn = replace(remote, where={**remote.where, "error_file_id": "file-gone"})

    assert [result.status for result in await lab.results(torn)] == [200]
