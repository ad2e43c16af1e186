"""The create call around the lines of a spool."""

from __future__ import annotations

import io
from pathlib import Path

import orjson
from hypothesis import given
from hypothesis import strategies as st
from mistral_lab import CHAT, MARKER, MODEL, chat, jsonl

from gateway import Batch
from gateway_mistral.wire import inline_body, inline_head, inline_length


async def pieces(lines: list[object]) -> tuple[list[bytes], int]:
    """What is sent for these lines, piece by piece, and the length that is announced."""
    spool = jsonl(*lines)
    batch = Batch(marker=MARKER, endpoint=CHAT, model=MODEL, count=len(lines), size=len(spool), spool=Path("unused"))
    head = inline_head(batch, 48)
    sent = [piece async for piece in inline_body(head, io.BytesIO(spool), len(spool))]
    return sent, inline_length(head, len(spool))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=20))
async def test_the_lines_are_the_requests(texts: list[str]) -> None:
    """Whatever the lines hold, the body is one JSON object with all of them, and as long as was announced."""
    lines: list[object] = [{"custom_id": f"{MARKER}-{n}", "body": chat(text)} for n, text in enumerate(texts)]
    sent, length = await pieces(lines)

    assert len(b"".join(sent)) == length
    assert orjson.loads(b"".join(sent)) == {
        "endpoint": CHAT,
        "model": MODEL,
        "metadata": {"batchway": MARKER},
        "timeout_hours": 48,
        "requests": lines,
    }


async def test_a_large_batch_is_sent_in_pieces() -> None:
    """No more than 64 KB of the spool are in memory at once."""
    lines: list[object] = [{"custom_id": str(n), "body": chat("x" * 10_000)} for n in range(100)]
    sent, length = await pieces(lines)

    assert max(len(piece) for piece in sent) <= 65_536
    assert len(b"".join(sent)) == length > 1_000_000
