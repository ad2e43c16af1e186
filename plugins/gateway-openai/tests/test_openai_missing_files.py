"""A create call that does not find the file, in the words of whichever service."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from openai_lab import CHAT, MARKER, provider_at

from gateway import Batch, ProviderError, Rejected, Retryable
from gateway.testing import saying


async def refused(directory: Path, status: int, error: object, *, field: str = "error") -> ProviderError:
    """What a create call raises that is answered so."""
    batch = Batch(marker=MARKER, endpoint=CHAT, model="m", count=1, size=1, spool=directory / "x", file_id="file-01jx2")
    body = orjson.dumps({field: error}).decode()
    async with saying(body, status=status) as url, provider_at(f"{url}/v1", directory) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.submit(batch)
    return caught.value


@pytest.mark.parametrize("status", [400, 404, 422])
@pytest.mark.parametrize(
    "message",
    [
        "Cannot find file file-01jx2, or project proj_1 does not have access to it",
        "No such File object: file-01jx2",
        "File not found",
        "file with id 'file-01jx2' not found",
        "The file `file-01jx2` does not exist.",
        "Input file file-01jx2 was not found.",
    ],
)
async def test_a_file_that_is_not_seen_refuses_nobody(status: int, message: str, tmp_path: Path) -> None:
    """The file was uploaded a moment ago: the call is made again, in the end with the file uploaded anew."""
    raised = await refused(tmp_path, status, {"message": message, "type": "invalid_request_error"})

    assert type(raised) is Retryable
    assert raised.retry_after is not None


@pytest.mark.parametrize(
    "error",
    [
        {"message": "The model `file not found` does not exist", "code": "model_not_found", "param": "model"},
        {"message": "The file has a line whose model does not exist", "code": "model_not_found"},
        {"message": "The file must be JSONL", "code": "invalid_file"},
    ],
)
async def test_what_is_wrong_in_a_file_refuses_it(error: dict[str, object], tmp_path: Path) -> None:
    """A file that was seen, and cannot be used, is not sent for ever."""
    assert type(await refused(tmp_path, 400, error)) is Rejected


@pytest.mark.parametrize("field", ["error", "detail", "message"])
async def test_a_refusal_in_one_sentence_is_told(field: str, tmp_path: Path) -> None:
    """Services that say what is wrong without an error object are understood too."""
    raised = await refused(tmp_path, 404, "File not found", field=field)
    refusal = await refused(tmp_path, 400, "too many lines", field=field)

    assert type(raised) is Retryable
    assert (type(refusal), refusal.reason) == (Rejected, "create: status 400: too many lines")
