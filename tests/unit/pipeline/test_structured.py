"""Answers that do not satisfy the schema of their own request: served, asked again or failed, as the operator wishes."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import orjson
import pytest
from msgspec.structs import replace

from gateway.config import ProviderTable, Retries
from gateway.endings import cancelled
from gateway.provider import envelope
from gateway.records import BatchState, RequestState, Result
from gateway.store.rows import Arrival, Ending, LaneKey
from gateway.testing import FakeProvider
from tests.unit.pipeline.rig import CHAT, Rig, arrival
from tests.unit.pipeline.single import Server, SingleProvider
from tests.unit.pipeline.works import Works, open_works

SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "mood", "strict": True, "schema": SCHEMA}}
GOOD, BAD = '{"mood": "good"}', '{"mood": "so so"}'
DAY = 86_400.0
ONCE_MORE = Retries(invalid_output="retry", max_attempts=2)


class TalkativeProvider(FakeProvider):
    """Says what it is told to, to each prompt in turn; of a row that is read again, the same."""

    script: ClassVar[defaultdict[str, deque[str]]]
    said: ClassVar[dict[bytes, str]]
    asked: ClassVar[list[bytes]]

    def decode(self, row: bytes) -> Result:
        """With the next words for its prompt in the place of the echo."""
        result = super().decode(row)
        if result.body is None:
            return result
        [choice] = result.body["choices"]  # type: ignore[misc]
        prompt = choice["message"]["content"].removeprefix("echo: ")
        if row not in self.said:
            self.said[row] = self.script[prompt].popleft() if self.script[prompt] else GOOD
        return Result(line_id=result.line_id, status=200, body=completion(self.said[row]))

    def output_schema(self, payload: bytes) -> Mapping[str, object] | None:
        """As every kind's of OpenAI's shape; it is noted that somebody asks."""
        self.asked.append(payload)
        return super().output_schema(payload)


def completion(text: str) -> dict[str, object]:
    """One answer, at a price."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {"choices": [choice], "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0}}


def wanting(text: str, wanted: object = FORMAT, provider: str = "fake") -> Arrival:
    """An unnamed call for an answer in a form."""
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "response_format": wanted}
    lane = LaneKey(provider=provider, endpoint=CHAT, model="m")
    return replace(arrival(text), payload=envelope(CHAT, orjson.dumps(body)), lane=lane)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> defaultdict[str, deque[str]]:
    """What is said to each prompt."""
    said: defaultdict[str, deque[str]] = defaultdict(deque)
    monkeypatch.setattr(TalkativeProvider, "script", said, raising=False)
    monkeypatch.setattr(TalkativeProvider, "said", {}, raising=False)
    monkeypatch.setattr(TalkativeProvider, "asked", [], raising=False)
    return said


async def asked(works: Works, *arrivals: Arrival) -> list[Ending]:
    """The endings of these, however often they had to be asked."""
    admissions = await works.rig.ledger.requests.admit(arrivals)
    await works.until_over(step_seconds=120, at_most_seconds=DAY)
    endings = [await works.rig.ledger.requests.ending(admission.seq) for admission in admissions]
    assert None not in endings
    return [ending for ending in endings if ending is not None]


def text_of(ending: Ending) -> str:
    """What the answer says."""
    text: str = orjson.loads(ending.body)["choices"][0]["message"]["content"]
    return text


def counted(rig: Rig) -> dict[str, float]:
    """How often each outcome was counted."""
    family = rig.metrics.structured_outputs.metric.collect()
    samples = [sample for each in family for sample in each.samples if sample.name.endswith("_total")]
    return {sample.labels["outcome"]: sample.value for sample in samples}


async def test_nobody_looks_unless_asked_to(tmp_path: Path, script: defaultdict[str, deque[str]]) -> None:
    """By default an answer that was paid for is served as it is: not even its schema is read."""
    script["a"].append(BAD)
    async with open_works(tmp_path, plugin=TalkativeProvider) as works:
        [ending] = await asked(works, wanting("a"))
        assert (text_of(ending), TalkativeProvider.asked) == (BAD, [])
        assert counted(works.rig) == {}


async def test_a_bad_answer_is_asked_for_again(tmp_path: Path, script: defaultdict[str, deque[str]]) -> None:
    """With retry, the line goes into the next batch as after an error, booked as wasted; the others are not touched."""
    script["a"].extend([BAD, GOOD])
    async with open_works(tmp_path, retries=ONCE_MORE, plugin=TalkativeProvider) as works:
        endings = await asked(works, wanting("a"), wanting("b"), arrival("c"))
        assert [text_of(ending) for ending in endings] == [GOOD, GOOD, GOOD]
        assert [batch.count for batch in await works.rig.batches()] == [3, 1]
        assert counted(works.rig) == {"retried": 1, "validated": 1, "retry_success": 1}
        [bill] = await works.rig.ledger.bills.totals()
        assert (bill.requests, bill.lines, bill.wasted_lines, bill.unpriced_lines) == (3, 4, 1, 4)
        assert [request.attempts for request in await works.rig.ledger.requests.listed(None)] == [2, 1, 1]


@pytest.mark.parametrize(
    ("wish", "outcomes", "wasted"),
    [("retry", {"retried": 1, "served": 1}, 1), ("fail", {"retried": 1, "failed": 1}, 2)],
)
async def test_after_the_last_attempt_it_is_served_or_fails(
    wish: str,
    outcomes: dict[str, int],
    wasted: int,
    tmp_path: Path,
    script: defaultdict[str, deque[str]],
) -> None:
    """When no attempt is left the last answer is served as it came, or the request fails with `invalid_output`, as configured."""
    script["a"].extend(["{}", BAD])
    async with open_works(
        tmp_path, retries=Retries(invalid_output=wish, max_attempts=2), plugin=TalkativeProvider
    ) as works:
        [ending] = await asked(works, wanting("a"))
        if wish == "retry":
            assert text_of(ending) == BAD
        else:
            assert (ending.state, ending.status, ending.code) == (RequestState.FAILED, 502, "invalid_output")
        assert counted(works.rig) == outcomes
        [bill] = await works.rig.ledger.bills.totals()
        assert (bill.lines, bill.wasted_lines) == (2, wasted)


async def test_what_was_cancelled_is_not_asked_again(tmp_path: Path, script: defaultdict[str, deque[str]]) -> None:
    """A billed answer beats a late cancel, and whoever cancelled is not made to pay another one."""
    script["a"].append(BAD)
    async with open_works(tmp_path, retries=ONCE_MORE, plugin=TalkativeProvider) as works:
        [a, _] = await works.rig.ledger.requests.admit([wanting("a"), wanting("b")])
        while not await works.rig.batches(BatchState.SUBMITTED):
            await works.look()
            await works.rig.clock.advance(5)
        await works.rig.ledger.requests.cancel(a.seq, works.rig.clock.now(), cancelled())
        await works.until_over(step_seconds=120, at_most_seconds=DAY)
        ending = await works.rig.ledger.requests.ending(a.seq)
        assert ending is not None
        assert text_of(ending) == BAD
        assert counted(works.rig) == {"served": 1, "validated": 1}


async def test_a_child_is_judged_by_itself(tmp_path: Path, script: defaultdict[str, deque[str]]) -> None:
    """Of three answers to one call one is bad: it alone is asked for again, and the caller gets three good ones."""
    script["a"].extend([GOOD, BAD, GOOD, GOOD])
    async with open_works(tmp_path, retries=ONCE_MORE, plugin=TalkativeProvider) as works:
        [ending] = await asked(works, replace(wanting("a"), times=3))
        assert [choice["message"]["content"] for choice in orjson.loads(ending.body)["choices"]] == [GOOD] * 3
        assert [batch.count for batch in await works.rig.batches()] == [3, 1]


async def test_a_schema_the_plugin_cannot_read_is_said_once(
    tmp_path: Path, script: defaultdict[str, deque[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in a plugin's `output_schema` costs nobody an answer; it is counted and logged once for a batch."""

    def broken(*_: object) -> None:
        raise KeyError("response_format")

    monkeypatch.setattr(TalkativeProvider, "output_schema", broken)
    script["a"].append(BAD)
    async with open_works(tmp_path, retries=ONCE_MORE, plugin=TalkativeProvider) as works:
        endings = await asked(works, wanting("a"), wanting("b"))
        assert [text_of(ending) for ending in endings] == [BAD, GOOD]
        assert works.rig.metrics.plugin_faults.of("fake")._value.get() == 1


async def test_asked_one_by_one_it_is_the_same(tmp_path: Path) -> None:
    """A server without batches is judged likewise: asked again at once paid twice, and the bill says so."""
    server = Server()
    server.open.set()
    server.script["a"].extend(Result(line_id=None, status=200, body=completion(text)) for text in (BAD, GOOD))
    server.script["b"].extend(Result(line_id=None, status=200, body=completion(text)) for text in (BAD, BAD))
    table = ProviderTable(name="single", kind="single", settings={"api_key": "fake-key", "server": server})
    retries = Retries(invalid_output="fail", max_attempts=2)
    async with open_works(
        tmp_path, retries=retries, kinds={"single": SingleProvider}, tables={"single": table}
    ) as works:
        endings = await asked(works, wanting("a", provider="single"), wanting("b", provider="single"))
        assert text_of(endings[0]) == GOOD
        assert endings[1].code == "invalid_output"
        assert sorted(server.asked) == ["a", "a", "b", "b"]
        assert counted(works.rig) == {"retried": 2, "retry_success": 1, "failed": 1}
        [bill] = await works.rig.ledger.bills.totals()
        assert (bill.requests, bill.unpriced_lines, bill.wasted_lines) == (2, 4, 3)


async def test_settling_again_after_a_crash_judges_nothing_twice(
    tmp_path: Path, script: defaultdict[str, deque[str]]
) -> None:
    """A batch that is read again from its start finds its bad line settled: it goes back once, and is counted once."""
    script["a"].extend([BAD, GOOD])
    async with open_works(tmp_path, retries=ONCE_MORE, plugin=TalkativeProvider) as works:
        collected = works.rig.ledger.batches.collected

        async def lost(*_: object) -> None:
            works.rig.ledger.batches.collected = collected  # type: ignore[method-assign]
            raise OSError("as if the process had died here")

        works.rig.ledger.batches.collected = lost  # type: ignore[assignment,method-assign]
        [ending] = await asked(works, wanting("a"))
        assert text_of(ending) == GOOD
        assert counted(works.rig) == {"retried": 1, "retry_success": 1}
        [request] = await works.rig.ledger.requests.listed(None)
        assert request.attempts == 2
