"""What every request passes, on every path: no web page drives the gateway, and errors look like OpenAI's."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gateway.config import Client, Server
from gateway.endpoints.connections import Connections
from gateway.endpoints.keys import Keyring
from gateway.endpoints.middleware import Door
from gateway.errors import LedgerError
from gateway.metrics import Metrics
from gateway.testing import FakeClock
from tests.unit.house import CHAT, Answer, Caller, House, open_house, question, request_bytes

OURS = [
    "localhost",
    "localhost:8484",
    "LOCALHOST",
    "LocalHost:80",
    "localhost.",
    "localhost.:8484",
    "127.0.0.1",
    "127.0.0.1:8484",
    "127.1.2.3",
    "[::1]",
    "[::1]:8484",
]
FOREIGN = [
    "",
    " ",
    ":8484",
    ".",
    "evil.example",
    "evil.example:8484",
    "localhost.evil.example",
    "localhost.evil.example:8484",
    "evil.example.localhost.com",
    "127.0.0.1.evil.example",
    "127.evil.0.1",
    "127.0.0.1.nip.io:8484",
    "localhost@evil.example",
    "localhost:80@evil.example",
    "user:localhost@evil.example",
    "localhost:8484:80",
    "localhost:evil",
    "localhost/evil.example",
    "localhost#.evil.example",
    "localhost,evil.example",
    "localhost evil.example",
    "[::1]evil.example",
    "[::1]@evil.example",
    "[::1",
    "[]",
    "[localhost]",
    "::1",
    "0.0.0.0",
    "192.168.1.7:8484",
    "[::]",
    "[fe80::1]:8484",
    "127.0.0.1%00.evil.example",
    "1",
    "127。0。0。1",
    "\uff4cocalhost",
]


def get(target: str = "/healthz", host: str | None = "localhost", **headers: str) -> bytes:
    """A GET with these headers."""
    return request_bytes(
        "GET", target, host=host, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


async def statuses(house: House, requests: list[bytes]) -> list[int]:
    """The status of each request's answer."""
    return [(await house.exchange(request)).status for request in requests]


async def test_loopback_names_are_ours(tmp_path: Path) -> None:
    """Loopback names pass with and without port, in any case, with a trailing dot, IPv6 in brackets."""
    async with open_house(tmp_path) as house:
        assert await statuses(house, [get(host=host) for host in OURS]) == [200] * len(OURS)


@pytest.mark.parametrize("host", FOREIGN)
async def test_foreign_hosts_are_refused(host: str, tmp_path: Path) -> None:
    """A name that is not ours is a 421 (or no HTTP at all), so that a web page cannot point its own name at us."""
    async with open_house(tmp_path) as house:
        answer = await house.exchange(get(host=host))
        assert answer.status in (421, 400)
        if answer.status == 421:
            assert answer.code == "host_not_allowed"
            assert answer.headers["x-should-retry"] == "false"


async def test_a_request_without_host_is_refused(tmp_path: Path) -> None:
    """No Host header is no host of ours, in HTTP/1.0 too."""
    async with open_house(tmp_path) as house:
        assert (await house.exchange(get(host=None))).status in (421, 400)
        assert (await house.exchange(request_bytes("GET", "/healthz", version="HTTP/1.0", host=None))).status == 421


async def test_two_hosts_are_refused(tmp_path: Path) -> None:
    """Of two Host headers none is believed."""
    async with open_house(tmp_path) as house:
        for first, second in (("localhost", "evil.example"), ("evil.example", "localhost")):
            raw = f"GET /healthz HTTP/1.1\r\nHost: {first}\r\nHost: {second}\r\n\r\n"
            assert (await house.exchange(raw.encode())).status in (421, 400)


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost/healthz", "localhost", 200),
        ("http://127.0.0.1:8484/healthz", "127.0.0.1:8484", 200),
        ("http://evil.example/healthz", "evil.example", 421),
        ("http://evil.example/healthz", "localhost", 421),
        ("http://localhost@evil.example/healthz", "localhost", 421),
        ("http://localhost/healthz", "evil.example", 421),
    ],
)
async def test_an_absolute_target_is_held_to_the_same(target: str, host: str, status: int, tmp_path: Path) -> None:
    """The host in an absolute-form target counts as well as the header's."""
    async with open_house(tmp_path) as house:
        assert (await house.exchange(get(target, host=host))).status == status


async def test_configured_names_are_ours(tmp_path: Path) -> None:
    """`server.allowed_hosts` adds names, in any case, and nothing that only looks like them."""
    async with open_house(tmp_path, server=Server(port=0, allowed_hosts=("Box.Example",))) as house:
        hosts = ["box.example", "BOX.example:80", "box.example.", "a.box.example", "box.example.evil", "xbox.example"]
        assert await statuses(house, [get(host=host) for host in hosts]) == [200, 200, 200, 421, 421, 421]
        assert (await house.exchange(get(Origin="https://box.example"))).status == 200


async def test_any_host_does_not_mean_any_origin(tmp_path: Path) -> None:
    """With `*` every Host passes, and foreign web pages still do not."""
    async with open_house(tmp_path, server=Server(port=0, allowed_hosts=("*",))) as house:
        assert (await house.exchange(get(host="whatever.example"))).status == 200
        assert (await house.exchange(get(host="whatever.example", Origin="http://evil.example"))).status == 403


@pytest.mark.parametrize(
    "origin", ["http://localhost", "http://localhost:3000", "https://127.0.0.1", "http://[::1]:8484"]
)
async def test_pages_of_this_machine_may_call(origin: str, tmp_path: Path) -> None:
    """A page served from loopback is ours, also across names of this machine."""
    async with open_house(tmp_path) as house:
        assert (await house.exchange(get(Origin=origin))).status == 200
        assert (await house.exchange(get(Origin=origin, Sec_Fetch_Site="cross-site"))).status == 200


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "http://evil.example",
        "https://localhost.evil.example",
        "http://localhost@evil.example",
        "http://localhost:80@evil.example",
        "http://evil.example#localhost",
        "http://evil.example/localhost",
        "http://[::1",
        "http://[::1]evil.example",
        "http://[not-an-address]",
        "localhost",
        "//localhost.evil",
        "file://",
        "chrome-extension://abcdef",
        "http://evil.example http://localhost",
    ],
)
async def test_foreign_origins_are_refused(origin: str, tmp_path: Path) -> None:
    """A page of anybody else is a 403, however its origin is written: never a 500."""
    async with open_house(tmp_path) as house:
        answer = await house.exchange(get(Origin=origin))
        assert (answer.status, answer.code) == (403, "origin_not_allowed")
        assert answer.headers["x-should-retry"] == "false"
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("site", "status"),
    [("cross-site", 403), ("Cross-Site", 403), ("same-origin", 200), ("same-site", 200), ("none", 200)],
)
async def test_browsers_that_send_no_origin_tell_the_site(site: str, status: int, tmp_path: Path) -> None:
    """An image or a link of a foreign page has no Origin; `Sec-Fetch-Site` gives it away."""
    async with open_house(tmp_path) as house:
        assert (await house.exchange(get(Sec_Fetch_Site=site))).status == status


PATHS = [
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/v1/models"),
    ("POST", CHAT),
    ("POST", "/run/r1" + CHAT),
    ("GET", "/v1/results"),
    ("GET", "/v1/results/x"),
    ("DELETE", "/v1/results/x"),
    ("GET", "/ops/batches"),
    ("POST", "/ops/flush"),
    ("POST", "/ops/cancel"),
    ("OPTIONS", CHAT),
    ("GET", CHAT),
    ("GET", "/no/such/path"),
    ("HEAD", "/"),
    ("PUT", "/v1/models"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_no_path_is_without_guard(method: str, path: str, tmp_path: Path) -> None:
    """Foreign Host and foreign Origin are refused on every route, on errors too, before anything else is told."""
    async with open_house(tmp_path) as house:
        body = question() if method == "POST" else None
        for host, headers, status in (("evil.example", {}, 421), ("localhost", {"Origin": "http://evil.example"}, 403)):
            caller = await house.caller()
            await caller.send(request_bytes(method, path, body=body, host=host, headers=headers))
            _, found, answered = await caller.head()
            await caller.close()
            assert found == status
            assert "x-request-id" in answered
        assert await house.gateway.ledger.requests.listed(None) == []


KEYED = (Client(name="team-a", key_hash=hashlib.sha256(b"key-a").digest()),)


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_no_path_but_health_is_without_key(method: str, path: str, tmp_path: Path) -> None:
    """With clients configured only /healthz and /readyz answer without a key; all others are a 401, also the unknown."""
    async with open_house(tmp_path, clients=KEYED) as house:
        caller = await house.caller()
        await caller.send(request_bytes(method, path, body=question() if method == "POST" else None))
        _, status, headers = await caller.head()
        await caller.close()
        if path in ("/healthz", "/readyz"):
            assert status == 200
        else:
            assert status == 401
            assert headers["x-should-retry"] == "false"


async def test_ops_want_the_operator(tmp_path: Path) -> None:
    """A client's key does not open /ops, the operator's token does."""
    async with open_house(tmp_path, clients=KEYED) as house:
        token = (tmp_path / "operator.token").read_text()
        for key, status in (("key-a", 401), (token, 200)):
            answer = await house.exchange(get("/ops/batches", Authorization=f"Bearer {key}"))
            assert answer.status == status


async def test_nobody_is_the_operator_without_clients(tmp_path: Path) -> None:
    """Without clients nobody is asked for a key, except where the gateway is steered."""
    async with open_house(tmp_path) as house:
        assert (await house.exchange(get("/ops/batches"))).status == 401
        assert (await house.exchange(get("/ops/batches", Authorization="Bearer none"))).status == 401


@pytest.mark.parametrize(
    ("request_line", "status", "code"),
    [
        (get("/no/such/path"), 404, "not_found"),
        (get("/v1"), 404, "not_found"),
        (get(CHAT), 405, "method_not_allowed"),
        (request_bytes("PUT", "/v1/models", body=b""), 405, "method_not_allowed"),
        (request_bytes(body=b"{"), 400, "invalid_request"),
        (request_bytes(body=question(model="other")), 404, "model_not_found"),
    ],
)
async def test_every_error_is_openais_object(request_line: bytes, status: int, code: str, tmp_path: Path) -> None:
    """Errors of ours and of the HTTP server look alike: status, object, headers."""
    async with open_house(tmp_path) as house:
        answer = await house.exchange(request_line)
        assert (answer.status, answer.code) == (status, code)
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.headers["x-should-retry"] == "false"
        assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("trace-1.A_b", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("é", False), ("", False)],
)
async def test_a_callers_request_id_is_echoed_if_harmless(given: str, kept: bool, tmp_path: Path) -> None:
    """`x-request-id` of the caller comes back when it is short and plain; else ours does."""
    async with open_house(tmp_path) as house:
        answer = await house.exchange(get(x_request_id=given))
        assert (answer.headers["x-request-id"] == given) is kept
        assert answer.headers["x-request-id"]


async def test_a_body_over_the_limit_is_a_413(tmp_path: Path) -> None:
    """A body larger than `server.max_body_bytes` is refused, announced or not, and nothing is recorded."""
    async with open_house(tmp_path, server=Server(port=0, max_body_bytes=2048)) as house:
        big = question("x" * 4000)
        answer = await house.exchange(request_bytes(body=big))
        assert (answer.status, answer.code) == (413, "body_too_large")
        chunked = request_bytes(headers={"Transfer-Encoding": "chunked"}) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(big), big)
        assert (await house.exchange(chunked)).status == 413
        assert await house.gateway.ledger.requests.listed(None) == []


async def serve_one(handler: object) -> tuple[web.AppRunner, int]:
    """A server of one handler behind the door."""
    clock = FakeClock()
    door = Door(Keyring((), "token"), (), Metrics(), Connections(clock, 30))
    app = web.Application(middlewares=[door.middleware])
    app.router.add_get("/", handler)  # type: ignore[arg-type]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, runner.addresses[0][1]


async def asked(port: int) -> tuple[Answer, bytes]:
    """The answer of such a server, and what comes after it until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    caller = Caller(reader=reader, writer=writer)
    await caller.send(request_bytes("GET", "/", headers={"Connection": "close"}))
    answer = await caller.answer()
    after = await caller.gone()
    await caller.close()
    return answer, after


async def test_a_bug_is_a_500_that_tells_nothing() -> None:
    """An exception in a handler is a 500 with the request id to look for, and not its text; the log says at which path."""

    async def broken(request: web.Request) -> web.StreamResponse:
        raise RuntimeError("secret sk-123 in a message")

    runner, port = await serve_one(broken)
    with capture_logs() as logs:
        answer, _ = await asked(port)
    await runner.cleanup()
    assert (answer.status, answer.code) == (500, "internal_error")
    events = [log["event"] for log in logs if log["path"]]
    assert events == ["request_failed", "request_refused"]
    assert b"sk-123" not in answer.body
    assert answer.headers["x-request-id"] in orjson.loads(answer.body)["error"]["message"]
    assert "x-should-retry" not in answer.headers


async def test_a_ledger_that_cannot_be_read_may_be_asked_again() -> None:
    """A disk that fails is no bug: 503 with a Retry-After, and the client may try again."""

    async def broken(request: web.Request) -> web.StreamResponse:
        raise LedgerError("disk I/O error")

    runner, port = await serve_one(broken)
    answer, _ = await asked(port)
    await runner.cleanup()
    assert (answer.status, answer.code) == (503, "storage_failed")
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert "x-should-retry" not in answer.headers


@pytest.mark.parametrize("error", [RuntimeError("a bug"), web.HTTPNotFound()])
async def test_a_bug_after_a_committed_200_cuts_the_connection(error: Exception) -> None:
    """What fails in the middle of a response is never followed by a second one in the same body."""

    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b" ")
        raise error

    runner, port = await serve_one(broken)
    answer, after = await asked(port)
    await runner.cleanup()
    assert answer.status == 200
    assert not answer.whole
    assert answer.body.strip() == b""
    assert b"HTTP/1.1" not in after
