"""What no client sends on purpose: bodies that cannot be unpacked, one header twice, orders that name nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from gateway.endpoints.keys import TOKEN_FILE
from gateway.errors import Refusal
from gateway.fingerprint import parse
from tests.unit.endpoints.test_bodies import body_with, parsed, refused
from tests.unit.house import House, open_house, question, request_bytes

UNREADABLE = [
    ({"Content-Encoding": "gzip"}, b"this is no gzip"),
    ({"Content-Encoding": "deflate"}, b"this is no deflate"),
    ({"Content-Encoding": "gzip"}, gzip.compress(question(), mtime=0)[:20] + b"\0" * 40),
]


@pytest.mark.parametrize(("headers", "body"), UNREADABLE, ids=["no gzip", "no deflate", "broken gzip"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/ops/cancel"])
async def test_a_body_that_is_not_what_its_headers_say_is_a_400(
    path: str, headers: dict[str, str], body: bytes, tmp_path: Path
) -> None:
    """It is the caller's mistake and no bug of ours; the connection ends, for what follows on it cannot be told apart."""
    async with open_house(tmp_path) as house:
        token = (tmp_path / TOKEN_FILE).read_text().strip()
        caller = await house.caller()
        with capture_logs() as logs:
            said = {"Authorization": f"Bearer {token}", **headers}
            await caller.send(request_bytes(target=path, body=body, headers=said))
            answer = await caller.answer()
            after = await caller.gone()

    assert (answer.status, answer.code, answer.headers["x-should-retry"]) == (400, "invalid_request", "false")
    assert (answer.headers["connection"], after) == ("close", b"")
    assert [log["event"] for log in logs if log["log_level"] in ("warning", "error")] == []


async def test_an_unreadable_body_hurts_nobody_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever calls meanwhile is served, and aiohttp has nothing to complain of."""
    headers, body = UNREADABLE[0]
    async with open_house(tmp_path) as house:
        good = request_bytes(body=question(), headers={"Prefer": "respond-async"})
        answers = await asyncio.gather(house.exchange(request_bytes(body=body, headers=headers)), house.exchange(good))

    assert [answer.status for answer in answers] == [400, 202]
    assert caplog.records == []


@pytest.mark.parametrize("header", ["x-batchway-custom-id", "Idempotency-Key"])
def test_a_name_that_is_given_twice_must_be_the_same(header: str) -> None:
    """Of two headers of one name neither may win unseen: the answer would be filed under a name that nobody expects."""
    refusal = refused(body_with(), [(header, "one"), (header, "two")])

    assert refusal.param == header
    assert parsed(body_with(), [(header, "one"), (header, "one")]).custom_id == "one"


def test_a_run_that_is_given_twice_must_be_the_same() -> None:
    """As with names."""
    refusal = refused(body_with(), [("x-batchway-run", "one"), ("x-batchway-run", "two")])

    assert refusal.param == "x-batchway-run"
    assert parsed(body_with(), [("x-batchway-run", "one"), ("x-batchway-run", "one")], run="one").ask.run == "one"


@pytest.mark.parametrize("model", ["x" * 257, "gpt-x\n", "gpt-x\x00", "gpt-\x1b[2Jx"])
def test_a_model_no_provider_can_have_is_refused(model: str) -> None:
    """It would be a lane of its own, in every list and log, for a name that is none."""
    refusal = refused(body_with(model=model))

    assert refusal.param == "model"
    assert len(refusal.message) < 200


def test_a_long_model_passes() -> None:
    """Names of tuned models, with their project and place, are long."""
    model = "projects/p/locations/europe-west4/publishers/google/models/" + "m" * 190

    assert parsed(body_with(model=model)).model == model


@pytest.mark.parametrize(
    ("text", "said"),
    [(rb"cut \ud83d", "surrogate"), (rb"\udfff", "surrogate"), (b"\xff", "byte 13 is not UTF-8")],
)
def test_broken_text_is_named_for_what_it_is(text: bytes, said: str) -> None:
    """A text that was cut in the middle of a character is not a body that was cut, and its place is that in the body."""
    with pytest.raises(Refusal) as refusal:
        parse(b'{"content": "%b"}' % text)

    assert said in refusal.value.message


WISHES: list[tuple[dict[str, object], int, str]] = [
    ({"batch_id": 2**63}, 404, "batch_id"),
    ({"batch_id": 10**30}, 404, "batch_id"),
    ({"batch_id": -(10**30)}, 404, "batch_id"),
    ({"batch_id": 0}, 404, "batch_id"),
    ({"batch_id": "1"}, 400, "batch_id"),
    ({"batch_id": True}, 400, "batch_id"),
    ({}, 400, "custom_id"),
    ({"custom_id": None}, 400, "custom_id"),
    ({"custom_id": 5}, 400, "custom_id"),
    ({"custom_id": "x", "client": 5}, 400, "client"),
    ({"custom_id": "x", "client": None}, 404, "custom_id"),
]


@pytest.mark.parametrize(("wish", "status", "param"), WISHES)
async def test_an_order_that_names_nothing_is_told_so(
    wish: dict[str, object], status: int, param: str, tmp_path: Path
) -> None:
    """Numbers that no batch can have, and words of the wrong type, are no bug of the gateway."""
    async with open_house(tmp_path) as house:
        answered, error = await _ordered(house, tmp_path, wish)

    assert (answered, error["param"]) == (status, param)


async def _ordered(house: House, directory: Path, wish: dict[str, object]) -> tuple[int, dict[str, str]]:
    headers = {"Authorization": f"Bearer {(directory / TOKEN_FILE).read_text().strip()}"}
    answer = await house.exchange(request_bytes(target="/ops/cancel", body=json.dumps(wish).encode(), headers=headers))
    error: dict[str, str] = orjson.loads(answer.body)["error"]
    return answer.status, error
