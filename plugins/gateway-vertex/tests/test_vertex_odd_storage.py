"""What is no answer of Cloud Storage's is a call that was lost, and no bug of the plugin's."""

from __future__ import annotations

import pytest
from vertex_lab import chat, provider_at

from gateway import RemoteBatch, RemoteState, Retryable
from gateway.testing import Lab, saying

REMOTE = RemoteBatch(
    remote_id="projects/p/1", state=RemoteState.ENDED, where={"output": "gs://acme-batches/in/here/out"}
)


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, ""), (200, "[]"), (200, "null"), (400, '"no"'), (400, '{"error": {"errors": 5, "details": 5}}')],
)
async def test_an_odd_answer_of_the_bucket_is_asked_for_again(lab: Lab, status: int, body: str) -> None:
    """Google's client stumbles over it; the results are fetched, and the objects deleted, later."""
    batch = lab.seal(chat("x"))
    async with saying(body, status=status) as url, provider_at(lab, url) as provider:
        with pytest.raises(Retryable):
            await provider.fetch(REMOTE, lab.directory / "fetched")
        with pytest.raises(Retryable):
            await provider.discard(batch, REMOTE)
