"""The HTTP client that OpenAI's SDK speaks through here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2


def http_client(without: Sequence[str] = ()) -> httpx2.AsyncClient:
    """The SDK's own client, which follows no redirect, less the headers called `without`.

    Followed, a redirect sends a create call twice, and prompts and keys (those in headers of their own) to any host it names.
    The SDK insists on `Authorization` unless each single call leaves it out, so it goes on the way to the socket.
    """
    import openai

    async def strip(request: httpx2.Request) -> None:
        for name in without:
            request.headers.pop(name, None)

    return openai.DefaultAsyncHttpxClient(follow_redirects=False, event_hooks={"request": [strip]})
