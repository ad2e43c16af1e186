"""The official SDK against the simulator: it finds everything where the real API has it, and is refused alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anthropic
import pytest
from anthropic_lab import user
from anthropic_sdk_lab import MODEL, TOOL, ended, params, request, rows

from gateway.sandbox import Fault, FaultKind, body_hash
from gateway.testing import Lab


async def test_a_batch_from_create_to_results(lab: Lab, sdk: anthropic.AsyncAnthropic) -> None:
    """Everything is processing until the end; then each request has its own answer, in whatever order."""
    requests = [request(f"line-{n}", f"question {n}") for n in range(30)]
    made = await sdk.messages.batches.create(requests=requests)
    lab.clock.jump(60)
    running = await sdk.messages.batches.retrieve(made.id)
    done = await ended(lab, sdk, made)
    results = await rows(sdk, made)

    assert made.id.startswith("msgbatch_")
    assert (made.processing_status, running.processing_status) == ("in_progress", "in_progress")
    assert (made.request_counts.processing, running.request_counts.processing) == (30, 30)
    assert (running.results_url, running.ended_at) == (None, None)
    assert (made.expires_at - made.created_at).total_seconds() == 86_400
    assert (done.processing_status, done.request_counts.succeeded, done.request_counts.processing) == ("ended", 30, 0)
    assert done.ended_at is not None
    assert list(results) != sorted(results)
    for each in requests:
        said = results[each["custom_id"]].message.content[0].text
        assert said.endswith(f"#{body_hash(each['params'])}")
        assert results[each["custom_id"]].message.usage.service_tier == "batch"


async def test_models_may_be_mixed(lab: Lab, sdk: anthropic.AsyncAnthropic) -> None:
    """Each request is independent of the others."""
    requests = [request("a"), request("b", model="claude-haiku-4-5")]
    batch = await sdk.messages.batches.create(requests=requests)
    await ended(lab, sdk, batch)

    assert {name: result.message.model for name, result in (await rows(sdk, batch)).items()} == {
        "a": MODEL,
        "b": "claude-haiku-4-5",
    }


async def test_lists_are_newest_first_in_pages(lab: Lab, sdk: anthropic.AsyncAnthropic) -> None:
    """Pages follow each other in both directions."""
    made = []
    for n in range(7):
        lab.clock.jump(1)
        made.append((await sdk.messages.batches.create(requests=[request(f"line-{n}")])).id)
    newest_first = made[::-1]
    page = await sdk.messages.batches.list(limit=3)
    second = await sdk.messages.batches.list(limit=3, after_id=newest_first[2])
    back = await sdk.messages.batches.list(limit=3, before_id=newest_first[5])

    assert [batch.id async for batch in sdk.messages.batches.list(limit=3)] == newest_first
    assert ([batch.id for batch in page.data], page.has_more) == (newest_first[:3], True)
    assert (page.first_id, page.last_id) == (newest_first[0], newest_first[2])
    assert [batch.id for batch in second.data] == newest_first[3:6]
    assert [batch.id for batch in back.data] == newest_first[2:5]
    for wrong in ({"limit": 0}, {"limit": 1_001}, {"after_id": "msgbatch_none"}):
        with pytest.raises(anthropic.BadRequestError):
            await sdk.messages.batches.list(**wrong)  # type: ignore[arg-type]


async def test_a_list_knows_of_the_end(lab: Lab, sdk: anthropic.AsyncAnthropic) -> None:
    """A batch that nobody has polled shows in a list that it has ended."""
    await sdk.messages.batches.create(requests=[request("a")])
    lab.clock.jump(1_000)
    [shown] = (await sdk.messages.batches.list()).data

    assert (shown.processing_status, shown.request_counts.succeeded) == ("ended", 1)


async def test_cancelling_takes_its_time(lab: Lab, sdk: anthropic.AsyncAnthropic) -> None:
    """A cancelled batch is canceling, then ended; what was done is there, the rest says canceled."""
    lab.simulator.settings = replace(lab.simulator.settings, cancelling_seconds=20)
    batch = await sdk.messages.batches.create(requests=[request(f"line-{n}", f"q {n}") for n in range(10)])
    lab.clock.jump(60)
    asked = await sdk.messages.batches.cancel(batch.id)
    done = await ended(lab, sdk, batch)
    kinds = [result.type for result in (await rows(sdk, batch)).values()]

    assert (asked.processing_status, asked.request_counts.processing) == ("canceling", 10)
    assert asked.cancel_initiated_at is not None
    assert (done.processing_status, done.request_counts.canceled, done.request_counts.succeeded) == ("ended", 5, 5)
    assert sorted(kinds) == ["canceled"] * 5 + ["succeeded"] * 5
    with pytest.raises(anthropic.BadRequestError):
        await sdk.messages.batches.cancel(batch.id)


async def test_expired_lines_say_so(lab: Lab, sdk: anthropic.AsyncAnthropic) -> None:
    """At the end of its day, a batch has what is done; the counts tell."""
    lab.simulator.faults.order(Fault(kind=FaultKind.EXPIRED, fraction=0.25))
    batch = await sdk.messages.batches.create(requests=[request(f"line-{n}") for n in range(4)])
    done = await ended(lab, sdk, batch)

    assert (done.request_counts.expired, done.request_counts.succeeded) == (3, 1)
    assert sorted(result.type for result in (await rows(sdk, batch)).values()) == ["expired"] * 3 + ["succeeded"]


async def test_results_are_archived(lab: Lab, sdk: anthropic.AsyncAnthropic) -> None:
    """After 29 days a batch is still there, and its results are not."""
    batch = await sdk.messages.batches.create(requests=[request("a")])
    done = await ended(lab, sdk, batch)
    assert (done.archived_at, await rows(sdk, batch)) != (None, {})
    lab.clock.jump(29 * 86_400)
    old = await sdk.messages.batches.retrieve(batch.id)

    assert old.archived_at is not None
    assert old.results_url is None


async def test_only_what_has_ended_is_deleted(lab: Lab, sdk: anthropic.AsyncAnthropic) -> None:
    """A batch goes when it has ended, and is unknown then."""
    batch = await sdk.messages.batches.create(requests=[request("a")])
    with pytest.raises(anthropic.BadRequestError):
        await sdk.messages.batches.delete(batch.id)
    await ended(lab, sdk, batch)
    gone = await sdk.messages.batches.delete(batch.id)

    assert (gone.id, gone.type) == (batch.id, "message_batch_deleted")
    with pytest.raises(anthropic.NotFoundError) as lost:
        await sdk.messages.batches.retrieve(batch.id)
    assert lost.value.type == "not_found_error"


async def test_one_message_at_once(sdk: anthropic.AsyncAnthropic) -> None:
    """The synchronous endpoint answers as a batch does, and refuses with a status."""
    answer = await sdk.messages.create(**params("hello"))
    with pytest.raises(anthropic.BadRequestError, match="Extra inputs"):
        await sdk.messages.create(**params("hello"), extra_body={"top_p": 0.5})
    with pytest.raises(anthropic.OverloadedError):
        await sdk.messages.create(**params("[sandbox: status=529]"))

    assert answer.content[0].text.endswith(f"#{body_hash(params('hello'))}")
    assert answer.usage.service_tier == "standard"


async def test_models_are_listed(sdk: anthropic.AsyncAnthropic) -> None:
    """The names that the settings have."""
    assert "sim-small" in [model.id async for model in sdk.models.list()]


async def test_thoughts_are_signed(lab: Lab, sdk: anthropic.AsyncAnthropic) -> None:
    """A history is taken with its thoughts as they were, and refused when one was altered or, on newer models, moved."""
    asked = params(
        "Use weather", model="claude-fable-5-1", thinking={"type": "adaptive"}, tools=[TOOL], system="Be kind."
    )
    first = await sdk.messages.create(**asked)
    turn = [block.model_dump(exclude_none=True) for block in first.content]
    results = [{"type": "tool_result", "tool_use_id": turn[-1]["id"], "content": "sunny"}]

    def going_on(blocks: list[Any], **changes: object) -> dict[str, Any]:
        said = [*asked["messages"], {"role": "assistant", "content": blocks}, {"role": "user", "content": results}]
        return {**asked, "messages": said, **changes}

    kinds = ["thinking", "text", "thinking", "tool_use"]
    assert [block["type"] for block in turn] == kinds
    assert "sunny" in (await sdk.messages.create(**going_on(turn))).content[-1].text
    altered = [{**turn[0], "thinking": "otherwise"}, *turn[1:]]
    with pytest.raises(anthropic.BadRequestError, match="Invalid `signature`"):
        await sdk.messages.create(**going_on(altered))
    moved = [turn[0], turn[2], turn[1], turn[3]]
    with pytest.raises(anthropic.BadRequestError, match="different conversation"):
        await sdk.messages.create(**going_on(moved))
    with pytest.raises(anthropic.BadRequestError, match="different conversation"):
        await sdk.messages.create(**going_on(turn, system="Be unkind."))
    older = going_on(turn, system="Be unkind.", model="claude-opus-4-8")
    assert (await sdk.messages.create(**older)).content


async def test_thoughts_by_budget_must_come_back(sdk: anthropic.AsyncAnthropic) -> None:
    """A model that thinks by budget refuses a history whose last calls lack the thoughts before them."""
    thinking = {"type": "enabled", "budget_tokens": 1_024}
    asked = params("Use weather", model="claude-haiku-4-5", max_tokens=4_000, thinking=thinking, tools=[TOOL])
    turn = [block.model_dump(exclude_none=True) for block in (await sdk.messages.create(**asked)).content]
    results = [{"type": "tool_result", "tool_use_id": turn[-1]["id"]}]
    said = [*asked["messages"], {"role": "assistant", "content": turn[-1:]}, {"role": "user", "content": results}]
    with pytest.raises(anthropic.BadRequestError, match="Expected `thinking`"):
        await sdk.messages.create(**{**asked, "messages": said})


async def test_thoughts_can_be_hidden(sdk: anthropic.AsyncAnthropic) -> None:
    """The provider's own word for redacted thoughts works here too."""
    words = "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING_46C9"
    answer = await sdk.messages.create(**params(words, thinking={"type": "adaptive"}))
    again = [block.model_dump() for block in answer.content]

    assert again[0]["type"] == "redacted_thinking"
    said = [user(words), {"role": "assistant", "content": again}, user("and?")]
    assert (await sdk.messages.create(**{**params(""), "messages": said})).content
