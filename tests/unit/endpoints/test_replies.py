"""How a caller is kept waiting, seen from the other end of a raw socket."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import orjson
import pytest

from gateway.config import Client, Server, Waiting
from gateway.testing import FakeClock, FakeRemote
from tests.unit.house import CHAT, HURRIED, Caller, House, ending_of, open_house, question, request_bytes


async def committed(house: House, body: bytes = question(), **headers: str) -> tuple[Caller, int, dict[str, str]]:
    """A caller to whom a status has been committed; with the seq of its request, and the response's headers."""
    caller = await house.caller()
    await caller.send(
        request_bytes(body=body, headers={**HURRIED, **{k.replace("_", "-"): v for k, v in headers.items()}})
    )
    seq = (await house.waiting())[-1]
    _, status, answered = await caller.head()
    assert status == 200
    return caller, seq, answered


async def test_blanks_then_json_is_an_ordinary_answer(tmp_path: Path) -> None:
    """After the grace: 200, chunked, a space for every beat, then the JSON in one piece and an orderly end."""
    async with open_house(tmp_path) as house:
        caller, seq, headers = await committed(house)
        assert headers["content-type"] == "application/json"
        assert headers["transfer-encoding"] == "chunked"
        assert headers["x-accel-buffering"] == "no"
        assert "content-length" not in headers
        assert headers["x-request-id"]
        assert headers["x-batchway-custom-id"].startswith("bw_")
        assert headers["x-batchway-provider"] == "fake"
        assert await caller.chunk() == b" "
        for _ in range(3):
            await house.clock.advance(0.5)
            assert await caller.chunk() == b" "
        house.gateway.waiters.wake({seq: ending_of("the answer")})
        body: bytes | None = b" "
        while body == b" ":
            body = await caller.chunk()
        assert body is not None
        assert orjson.loads(body)["choices"][0]["message"]["content"] == "the answer"
        assert await caller.chunk() == b""
        await caller.send(request_bytes("GET", "/healthz"))
        assert (await caller.answer()).status == 200
        await caller.close()


async def test_no_compressor_holds_blanks_back(tmp_path: Path) -> None:
    """A caller that would take gzip gets blanks as they are."""
    async with open_house(tmp_path) as house:
        caller, _, headers = await committed(house, accept_encoding="gzip, br")
        assert "content-encoding" not in headers
        assert await caller.chunk() == b" "
        await caller.close()


@pytest.mark.parametrize("status", [200, 422])
async def test_what_is_known_within_the_grace_has_its_true_status(status: int, tmp_path: Path) -> None:
    """An ending that comes within the grace goes out whole, with its own status and length."""
    async with open_house(tmp_path) as house:
        caller = await house.caller()
        await caller.send(request_bytes(body=question(), headers={"x-stainless-read-timeout": "600"}))
        seq = (await house.waiting())[-1]
        house.gateway.waiters.wake({seq: ending_of("x", status)})
        answer = await caller.answer()
        assert (answer.status, answer.whole) == (status, True)
        assert answer.headers["content-length"] == str(len(answer.body))
        assert answer.headers.get("x-should-retry") == (None if status == 200 else "false")
        await caller.close()


async def test_a_failure_after_the_200_is_a_cut_connection(tmp_path: Path) -> None:
    """No error object in a 200, and no last chunk: nobody can take it for an answer."""
    async with open_house(tmp_path) as house:
        caller, seq, headers = await committed(house)
        house.gateway.waiters.wake({seq: ending_of("no such field", 422)})
        body, whole = await caller.rest(headers)
        assert body.strip() == b""
        assert not whole
        await house.left()


async def test_the_retry_after_a_cut_gets_the_true_status(tmp_path: Path) -> None:
    """The caller's next try gets the stored ending at once, with its status and x-should-retry: false; so does a third."""
    remote = FakeRemote(clock=FakeClock(), turnaround_seconds=5.0, statuses={"boom": 400})
    async with open_house(tmp_path, remote) as house:
        remote.clock = house.clock
        caller, _, headers = await committed(house, question("boom"))
        await house.walk()
        assert (await caller.rest(headers))[1] is False
        for count in ("0", "1"):
            again = await house.exchange(
                request_bytes(body=question("boom"), headers={"x-stainless-retry-count": count})
            )
            assert again.status == 400
            assert again.headers["x-should-retry"] == "false"
            assert again.headers["x-batchway-custom-id"] == headers["x-batchway-custom-id"]
            assert orjson.loads(again.body)["error"]["message"] == "fake failure 400"
        assert remote.duplicates() == {}
        assert sum(remote.submitted.values()) == 1


async def test_a_stream_beats_with_chunks_and_replays_the_answer(tmp_path: Path) -> None:
    """Streaming callers get data chunks while they wait, then the completion, then [DONE] and an orderly end."""
    async with open_house(tmp_path) as house:
        caller, seq, headers = await committed(house, question(stream=True))
        assert headers["content-type"].startswith("text/event-stream")
        first = await caller.chunk()
        await house.clock.advance(0.5)
        second = await caller.chunk()
        house.gateway.waiters.wake({seq: ending_of("the answer")})
        rest, whole = await caller.rest(headers)
        assert whole
        assert first is not None
        assert second is not None
        events = (first + second + rest).split(b"\n\n")
        assert events[-2:] == [b"data: [DONE]", b""]
        chunks = [orjson.loads(event.removeprefix(b"data: ")) for event in events[:-2]]
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "the answer"
        assert len({chunk["id"] for chunk in chunks}) == 1
        await caller.close()


async def test_a_failure_in_a_stream_is_an_event(tmp_path: Path) -> None:
    """A cut stream hides its cause and is never retried: the error comes as data, then [DONE], and the end is orderly."""
    async with open_house(tmp_path) as house:
        caller, seq, headers = await committed(house, question(stream=True))
        house.gateway.waiters.wake({seq: ending_of("no such field", 422)})
        body, whole = await caller.rest(headers)
        assert whole
        events = body.split(b"\n\n")
        assert orjson.loads(events[-3].removeprefix(b"data: "))["error"]["message"] == "no such field"
        assert events[-2] == b"data: [DONE]"
        await caller.close()


@pytest.mark.parametrize("status", [200, 422])
async def test_an_old_caller_waits_in_silence_for_its_true_status(status: int, tmp_path: Path) -> None:
    """HTTP/1.0 knows no chunks: nothing at all until the ending, then its own status, with a length and no chunks."""
    async with open_house(tmp_path) as house:
        caller = await house.caller()
        await caller.send(request_bytes(body=question(), version="HTTP/1.0", headers=HURRIED))
        seq = (await house.waiting())[-1]
        await grace_is_over(house)
        await house.clock.advance(60)
        house.gateway.waiters.wake({seq: ending_of("the answer", status)})
        answer = await caller.answer()
        assert answer.status == status
        assert answer.version == "HTTP/1.0"
        assert "transfer-encoding" not in answer.headers
        assert b"the answer" in answer.body
        await caller.close()


async def grace_is_over(house: House) -> None:
    """Return when the one caller's grace has passed: it beats from then on, or has committed itself to silence."""
    async with asyncio.timeout(20):
        while not house.gateway.heartbeats._replies:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("late", [False, True])
async def test_an_old_caller_that_wants_a_stream_gets_one(late: bool, tmp_path: Path) -> None:
    """Behind a proxy that speaks HTTP/1.0 a streaming client still gets events, whole and at once, not plain JSON."""
    async with open_house(tmp_path) as house:
        caller = await house.caller()
        await caller.send(request_bytes(body=question(stream=True), version="HTTP/1.0", headers=HURRIED))
        seq = (await house.waiting())[-1]
        if late:
            await grace_is_over(house)
        house.gateway.waiters.wake({seq: ending_of("the answer")})
        answer = await caller.answer()
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "transfer-encoding" not in answer.headers
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert b"the answer" in answer.body
        await caller.close()


async def test_who_hangs_up_and_comes_again_finds_its_request(tmp_path: Path) -> None:
    """A caller that is gone leaves its request running; the same call again takes it up, and nothing is paid twice."""
    async with open_house(tmp_path) as house:
        first, _, headers = await committed(house)
        await first.close()
        await house.left()
        second, _, again = await committed(house)
        assert again["x-batchway-custom-id"] == headers["x-batchway-custom-id"]
        await second.close()
        assert len(await house.gateway.ledger.requests.listed(None)) == 1


async def test_a_caller_that_is_gone_before_the_commit_leaves_no_hold(tmp_path: Path) -> None:
    """Whoever hangs up while its request is being recorded can take it up again, in a run too."""
    async with open_house(tmp_path) as house:
        for run in ("", "/run/r1"):
            body = question(run or "none")
            await asyncio.gather(*(hasty(house, run, body) for _ in range(5)))
            await settled(house)
            held = len(await house.gateway.ledger.requests.listed(None))
            patient = await house.caller()
            await patient.send(request_bytes(target=run + CHAT, body=body, headers=HURRIED))
            await house.waiting()
            assert len(await house.gateway.ledger.requests.listed(None)) == max(held, 1)
            await patient.close()
            await house.left()
            await settled(house)


async def hasty(house: House, run: str, body: bytes) -> None:
    """Send a whole request and hang up without waiting for anything."""
    caller = await house.caller()
    await caller.send(request_bytes(target=run + CHAT, body=body, headers=HURRIED))
    caller.writer.transport.abort()


async def settled(house: House) -> None:
    """Return when every caller's mark is in the ledger."""
    await house.left()
    for _ in range(20):
        await asyncio.sleep(0.01)
        await house.clock.advance(0.1)


async def test_callers_in_grace_are_sent_away_and_others_cut(tmp_path: Path) -> None:
    """At the stop callers in grace get 503 with Retry-After 5, committed ones a cut connection; their requests stay."""
    async with open_house(tmp_path) as house:
        waiting, _, headers = await committed(house, question("one"))
        streaming, _, stream_headers = await committed(house, question("two", stream=True))
        fresh = await house.caller()
        await fresh.send(request_bytes(body=question("three"), headers={"x-stainless-read-timeout": "600"}))
        await house.waiting(3)
        house.gateway.waiters.stop()
        answer = await fresh.answer()
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "stopping", "5")
        assert "x-should-retry" not in answer.headers
        assert (await waiting.rest(headers))[1] is False
        assert (await streaming.rest(stream_headers))[1] is False
        assert len(await house.gateway.ledger.requests.listed(None)) == 3


async def test_too_many_callers_are_sent_away_unrecorded(tmp_path: Path) -> None:
    """Above `max_waiters`: 503, Retry-After 30, nothing recorded; whoever does not wait is not counted."""
    async with open_house(tmp_path, server=Server(port=0, max_waiters=1)) as house:
        caller, _, _ = await committed(house)
        answer = await house.exchange(request_bytes(body=question("another")))
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "too_many_waiters", "30")
        assert len(await house.gateway.ledger.requests.listed(None)) == 1
        detached = await house.exchange(request_bytes(body=question("third"), headers={"Prefer": "respond-async"}))
        assert detached.status == 202
        await caller.close()


@pytest.mark.parametrize("name", [None, "row-7", "a/b", "a b", "100%", "what?", "a#b", "naïve-☃", "a%2Fb"])
async def test_who_does_not_wait_is_told_where_to_ask(name: str | None, tmp_path: Path) -> None:
    """202 with a Location that leads to the request, whatever its name, and a Retry-After clients heed."""
    async with open_house(tmp_path) as house:
        headers = {"Prefer": "respond-async"} | ({} if name is None else {"x-batchway-custom-id": name})
        answer = await house.exchange(request_bytes(body=question(), headers=headers))
        assert answer.status == 202
        assert 0 < int(answer.headers["retry-after"]) <= 60
        custom_id = orjson.loads(answer.body)["custom_id"]
        assert custom_id == name or name is None
        location = answer.headers["location"]
        assert location.isascii()
        found = await house.exchange(request_bytes("GET", location))
        assert found.status == 202
        assert orjson.loads(found.body)["custom_id"] == custom_id
        assert orjson.loads(found.body)["state"] == "queued"
        assert (await house.exchange(request_bytes("DELETE", location))).status == 200
        ended = await house.exchange(request_bytes("GET", location))
        assert (ended.status, ended.code) == (410, "cancelled")


async def test_nobody_else_ever_gets_a_202(tmp_path: Path) -> None:
    """A caller that did not ask for it waits, whatever it prefers else."""
    async with open_house(tmp_path) as house:
        caller, _, _ = await committed(house, Prefer="wait=1, return=minimal")
        await caller.close()


async def test_a_long_poll_ends_with_the_request(tmp_path: Path) -> None:
    """GET under `Prefer: wait=N` returns as soon as the request has ended."""
    async with open_house(tmp_path) as house:
        await house.exchange(
            request_bytes(body=question(), headers={"Prefer": "respond-async", "Idempotency-Key": "k"})
        )
        caller = await house.caller()
        await caller.send(request_bytes("GET", "/v1/results/k", headers={"Prefer": "wait=300"}))
        seq = (await house.waiting())[-1]
        house.gateway.waiters.wake({seq: ending_of("polled")})
        answer = await caller.answer()
        assert answer.status == 200
        assert b"polled" in answer.body
        await caller.close()


@pytest.mark.parametrize("wait", ["-1", "0", "x", "1e9", "99999999999999", "nan", ""])
async def test_odd_wishes_to_wait_do_no_harm(wait: str, tmp_path: Path) -> None:
    """A wait that is no whole number of seconds is no wait."""
    async with open_house(tmp_path) as house:
        await house.exchange(
            request_bytes(body=question(), headers={"Prefer": "respond-async", "Idempotency-Key": "k"})
        )
        answer = await house.exchange(request_bytes("GET", "/v1/results/k", headers={"Prefer": f"wait={wait}"}))
        assert answer.status == 202


async def test_one_client_never_sees_anothers_request(tmp_path: Path) -> None:
    """Names and ids of another client are not there: not to read, not to cancel, not in lists."""
    clients = tuple(Client(name=name, key_hash=hashlib.sha256(name.encode()).digest()) for name in ("team-a", "team-b"))
    async with open_house(tmp_path, clients=clients) as house:
        own = {"Authorization": "Bearer team-a", "Prefer": "respond-async"}
        made = await house.exchange(request_bytes(body=question(), headers={**own, "Idempotency-Key": "k"}))
        unnamed = orjson.loads((await house.exchange(request_bytes(body=question("2"), headers=own))).body)["custom_id"]
        assert made.status == 202
        other = {"Authorization": "Bearer team-b"}
        for custom_id in ("k", unnamed):
            for method in ("GET", "DELETE"):
                answer = await house.exchange(request_bytes(method, f"/v1/results/{custom_id}", headers=other))
                assert (answer.status, answer.code) == (404, "not_found")
        listed = await house.exchange(request_bytes("GET", "/v1/results", headers=other))
        assert orjson.loads(listed.body)["data"] == []
        mine = await house.exchange(request_bytes("GET", "/v1/results", headers={"Authorization": "Bearer team-a"}))
        assert {row["custom_id"] for row in orjson.loads(mine.body)["data"]} == {"k", unnamed}


async def test_a_caller_that_reads_nothing_is_not_fed_for_ever(tmp_path: Path) -> None:
    """Beats of a stream stop when the caller does not read: memory does not grow with its patience."""
    async with open_house(tmp_path, waiting=Waiting(heartbeat_seconds=0.25)) as house:
        caller, _, _ = await committed(house, question(stream=True))
        reply = next(iter(house.gateway.heartbeats._replies.values()))
        transport = reply._request.transport  # type: ignore[attr-defined]
        transport.pause_reading()
        caller.reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(60_000):
            reply.beat()
        assert transport.get_write_buffer_size() < 200_000
        await caller.close()
