"""What the simulator refuses in validation, and what it lets fail line by line."""

from __future__ import annotations

from dataclasses import replace

import openai
import pytest
from openai_lab import Lab, chat, frame, jsonl

GOOD = frame("good", chat("fine"))


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (jsonl(GOOD) + b"{not json}\n", "invalid_json_line", 2),
        (jsonl(GOOD) + b"[]\n", "invalid_json_line", 2),
        (b"\xef\xbb\xbf" + jsonl(GOOD), "invalid_json_line", 1),
        (jsonl(GOOD) + b"\n", "invalid_json_line", 2),
        (jsonl(GOOD, GOOD), "duplicate_custom_id", 2),
        (jsonl(GOOD, frame("b", chat("x"), url="/v1/embeddings")), "url_mismatch", 2),
        (jsonl(GOOD, frame("b", chat("x"), method="GET")), "invalid_request", 2),
        (jsonl(GOOD, frame("b", chat("x"), priority=1)), "invalid_request", 2),
        (jsonl(GOOD, frame("b" * 65, chat("x"))), "invalid_request", 2),
        (jsonl(GOOD, frame("b", None)), "invalid_request", 2),
        (jsonl(GOOD, frame("b", {"messages": []})), "model_not_found", 2),
        (jsonl(GOOD, frame("b", chat("x") | {"model": "sim-large"})), "model_mismatch", 2),
        (jsonl(GOOD, frame("b", chat("x", stream=True))), "invalid_request", 2),
        (jsonl(GOOD, frame("b", chat("x", cache={"no-cache": True}))), "invalid_request", 2),
        (jsonl(GOOD, frame("b", chat("x", custom_id="mine"))), "invalid_request", 2),
        (b"", "empty_file", None),
    ],
)
async def test_bad_frames_fail_the_whole_batch(lab: Lab, content: bytes, code: str, line: int | None) -> None:
    """Whatever is wrong around a body fails the batch, names the line, and runs nothing."""
    batch = await lab.ended(await lab.create(content=content))

    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(problem.code, problem.line) for problem in batch.errors.data][:1] == [(code, line)]
    assert (batch.output_file_id, batch.error_file_id, batch.in_progress_at) == (None, None, None)
    assert (await lab.simulator.submissions()).accepted_lines == 0


@pytest.mark.parametrize(
    "body",
    [
        {"model": "sim-small"},
        {"model": "sim-small", "messages": []},
        {"model": "sim-small", "messages": ["hello"]},
        {"model": "sim-small", "messages": [{"role": "wizard", "content": "x"}]},
        {"model": "sim-small", "messages": [{"role": "user", "content": 5}]},
        chat("x", temperature="hot"),
        chat("x", temperature=3),
        chat("x", n=0),
        chat("x", n=True),
        chat("x", max_tokens=0),
        chat("x", tools={}),
    ],
)
async def test_bad_bodies_fail_their_line_only(lab: Lab, body: dict[str, object]) -> None:
    """A body that the endpoint refuses gets its 400 in the error file, and its neighbour is answered."""
    batch = await lab.ended(await lab.create(frame("bad", body), GOOD))
    [failed] = await lab.rows(batch.error_file_id)
    [answered] = await lab.rows(batch.output_file_id)

    assert (failed["custom_id"], failed["response"]["status_code"], failed["error"]) == ("bad", 400, None)
    assert failed["response"]["body"]["error"]["type"] == "invalid_request_error"
    assert answered["custom_id"] == "good"


async def test_unknown_fields_pass_unless_strict(lab: Lab) -> None:
    """A new parameter is served; only the strict simulator refuses it as an unrecognised argument."""
    line = frame("a", chat("x", brand_new_parameter=1))
    lenient = await lab.ended(await lab.create(line))
    lab.simulator.settings = replace(lab.simulator.settings, strict_fields=True)
    strict = await lab.ended(await lab.create(line))

    assert lenient.error_file_id is None
    [failed] = await lab.rows(strict.error_file_id)
    assert "Unrecognized request argument supplied" in failed["response"]["body"]["error"]["message"]


async def test_counts_and_sizes_are_limited(lab: Lab) -> None:
    """A file with too many lines or bytes fails in validation."""
    lab.simulator.settings = replace(lab.simulator.settings, max_requests=1, max_bytes=10)
    batch = await lab.ended(await lab.create(frame("a", chat("x")), frame("b", chat("y"))))

    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [problem.code for problem in batch.errors.data] == ["too_many_tasks", "file_too_large"]


async def test_creates_per_hour_are_limited(lab: Lab) -> None:
    """Creates over the hourly limit get a 429 with the seconds to wait, until the hour has passed."""
    lab.simulator.settings = replace(lab.simulator.settings, max_creates_per_hour=1)
    await lab.create(GOOD)
    with pytest.raises(openai.RateLimitError) as caught:
        await lab.create(GOOD)
    lab.clock.jump(3600)
    await lab.create(GOOD)

    assert caught.value.response.headers["retry-after"] == "3600"


@pytest.mark.parametrize("at_create", [True, False])
async def test_enqueued_tokens_are_limited(lab: Lab, at_create: bool) -> None:
    """A batch that finds no room for its tokens is refused, in either of the two ways, until others have ended."""
    limits = replace(lab.simulator.settings, max_enqueued_tokens=100, token_limit_at_create=at_create)
    lab.simulator.settings = limits
    first = await lab.create(frame("a", chat("x" * 100)))
    if at_create:
        with pytest.raises(openai.BadRequestError, match="Enqueued token limit"):
            await lab.create(frame("a", chat("x" * 100)))
    else:
        second = await lab.ended(await lab.create(frame("a", chat("x" * 100))))
        assert second.errors is not None
        assert second.errors.data is not None
        assert second.errors.data[0].code == "token_limit_exceeded"
    assert (await lab.ended(first)).status == "completed"

    third = await lab.ended(await lab.create(frame("a", chat("x" * 100))))
    assert third.status == "completed"
