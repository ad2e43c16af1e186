"""From an answer to a chat completion's body. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.chat.records import ChatUsage, Choice


def completion(
    choices: Sequence[Choice],
    usage: ChatUsage | None,
    *,
    model: str,
    id: str | None = None,  # noqa: A002 - OpenAI's word
) -> dict[str, object]:
    """OpenAI's `chat.completion` object, without `created` (and without `id` if None): core sets what is missing."""
    raise NotImplementedError
