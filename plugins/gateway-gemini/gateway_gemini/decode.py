"""From one row of a result to a `Result`. Pure, and never raises on anything a provider can send.

Rows come from a file (`key`) or out of the batch object (`metadata.key`); a failed one has `error`, or `status` as some
documents say.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway import Result
from gateway.reading import count, items, mapping, number, text
from gateway.rows import json_row, unreadable
from gateway_gemini.answer import chat_answer, failed


def decode_row(row: bytes) -> Result:
    """What `row` says; a row that cannot be understood is retriable, and without a line id if it names none."""
    content = json_row(row)
    if isinstance(content, Result):
        return content
    line_id = text(content.get("key")) or text(mapping(content.get("metadata")).get("key"))
    response = mapping(content.get("response"))
    error = content.get("error") or response.get("error") or content.get("status")
    if error and not _answers(response):
        return failed(error, line_id=line_id)
    if not response:
        return unreadable(line_id, "a result row has neither response nor error")
    return decode_response(response, line_id=line_id)


def decode_response(response: Mapping[str, object], *, model: str = "", line_id: str | None = None) -> Result:
    """What a response says, of whichever endpoint."""
    if "embedding" in response or "embeddings" in response:
        return embedding_answer(response, model=model, line_id=line_id)
    return chat_answer(response, model=model, line_id=line_id)


def embedding_answer(response: Mapping[str, object], *, model: str = "", line_id: str | None = None) -> Result:
    """OpenAI's list of embeddings; always floats."""
    found = items(response.get("embeddings")) or [response.get("embedding")]
    vectors = [[number(value) for value in items(mapping(each).get("values"))] for each in found]
    if not all(vectors) or any(value is None for vector in vectors for value in vector):
        return unreadable(line_id, "a result has an embedding without numbers")
    asked = count(mapping(response.get("usageMetadata")).get("promptTokenCount")) or 0
    body: dict[str, object] = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)],
        "model": model,
        "usage": {"prompt_tokens": asked, "total_tokens": asked},
    }
    return Result(line_id=line_id, status=200, body=body)


def _answers(response: Mapping[str, object]) -> bool:
    return bool(response.keys() & {"candidates", "promptFeedback", "embedding", "embeddings"})
