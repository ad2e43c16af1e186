"""What a failed call means: the table of the policy row by row, and what holds whatever an SDK raises."""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Ambiguous, Missing, ProviderError, Rejected, Retryable, TokenLimit, Unauthorised
from gateway.failures import CREATE, Answered, Failures, StatusError, is_transport_failure, retry_after, seconds

PLAIN = Failures()
SECRET = "sk-live-0123456789"

#: Status -> what it means for a create call, for a call that is refusable and names something, and for one that is neither.
TABLE: list[tuple[int, type[ProviderError], type[ProviderError], type[ProviderError]]] = [
    (0, Ambiguous, Retryable, Retryable),
    (200, Ambiguous, Retryable, Retryable),
    (202, Ambiguous, Retryable, Retryable),
    (307, Ambiguous, Retryable, Retryable),
    (400, Rejected, Rejected, Retryable),
    (401, Unauthorised, Unauthorised, Unauthorised),
    (402, Unauthorised, Unauthorised, Unauthorised),
    (403, Unauthorised, Unauthorised, Unauthorised),
    (404, Rejected, Missing, Retryable),
    (408, Ambiguous, Retryable, Retryable),
    (409, Ambiguous, Retryable, Retryable),
    (413, Rejected, Rejected, Retryable),
    (422, Rejected, Rejected, Retryable),
    (429, Retryable, Retryable, Retryable),
    (499, Ambiguous, Retryable, Retryable),
    (500, Ambiguous, Retryable, Retryable),
    (503, Ambiguous, Retryable, Retryable),
    (599, Ambiguous, Retryable, Retryable),
]


def named(name: str, *bases: type[Exception]) -> type[Exception]:
    """An exception of somebody's library, known by its name alone."""
    return type(name, bases or (Exception,), {})


def chained(*links: BaseException) -> BaseException:
    """The first of `links`, each caused by the next."""
    for outer, inner in itertools.pairwise(links):
        outer.__cause__ = inner
    return links[0]


@pytest.mark.parametrize(("status", "create", "open_call", "narrow_call"), TABLE)
async def test_every_row_of_the_table(
    status: int, create: type[ProviderError], open_call: type[ProviderError], narrow_call: type[ProviderError]
) -> None:
    """Each status has its class, by whether the call may be repeated, refuse its request, and miss what it named."""
    error = StatusError(Answered(status=status, message="why", retry_after=7.0))
    with pytest.raises(ProviderError) as created:
        async with PLAIN.creating():
            raise error
    with pytest.raises(ProviderError) as opened:
        async with PLAIN.repeatable("upload", refusable=True):
            raise error
    with pytest.raises(ProviderError) as narrowed:
        async with PLAIN.repeatable("list", named=False):
            raise error

    assert [type(each.value) for each in (created, opened, narrowed)] == [create, open_call, narrow_call]
    assert [each.value.__cause__ for each in (created, opened, narrowed)] == [error] * 3


@pytest.mark.parametrize("status", [404, 408, 429, 503])
def test_a_wish_to_wait_is_handed_on(status: int) -> None:
    """Whatever becomes retryable comes back after the time that the provider wished for."""
    failure = PLAIN.repeatable_failure(StatusError(Answered(status=status, retry_after=7.0)), "list", named=False)

    assert isinstance(failure, Retryable)
    assert failure.retry_after == 7.0


@pytest.mark.parametrize(
    ("answered", "reason"),
    [
        (Answered(status=400), "poll: status 400: no reason given"),
        (Answered(status=400, message="no such model"), "poll: status 400: no such model"),
        (Answered(status=400, message="no", code="bad_model"), "poll: status 400: no (bad_model)"),
        (Answered(status=400, message="bad_model: no", code="bad_model"), "poll: status 400: bad_model: no"),
        (Answered(status=400, message="x" * 600), f"poll: status 400: {'x' * 500}"),
        (Answered(status=401, message=SECRET), "poll: status 401, the key is not accepted"),
        (Answered(status=503, message="<html>"), "poll: status 503"),
    ],
)
def test_reasons_tell_what_was_said_and_of_which_call(answered: Answered, reason: str) -> None:
    """A reason names the call and the status, and quotes as much of a refusal as fits on a line."""
    failure = PLAIN.repeatable_failure(StatusError(answered), "poll")

    assert failure is not None
    assert failure.reason == reason


# --- what a plugin adds


def test_a_plugin_reads_its_own_exceptions() -> None:
    """An exception that `read` understands is an answer, also under a class name that means a lost connection elsewhere."""
    error = named("ClientError")("429 RESOURCE_EXHAUSTED")
    knowing = Failures(read=lambda _: Answered(status=429, retry_after=3.0))

    assert isinstance(PLAIN.create_failure(error), Ambiguous)
    assert isinstance(knowing.create_failure(error), Retryable)


def test_a_plugin_judges_before_the_policy_does() -> None:
    """What `judge` says of a refusal stands, for a create call as it is, elsewhere within what the call may raise."""
    asked: list[tuple[str, int]] = []

    def judge(answered: Answered, what: str) -> ProviderError | None:
        asked.append((what, answered.status))
        return TokenLimit(f"{what}: full", retry_after=9.0) if answered.code == "full" else None

    failures = Failures(judge=judge)
    full, other = (StatusError(Answered(status=400, code=code, retry_after=9.0)) for code in ("full", "other"))
    elsewhere = failures.repeatable_failure(full, "upload", refusable=True)

    assert isinstance(failures.create_failure(full), TokenLimit)
    assert isinstance(failures.create_failure(other), Rejected)
    assert type(elsewhere) is Retryable
    assert (elsewhere.reason, elsewhere.retry_after) == ("upload: full", 9.0)
    assert asked == [("upload", 400), (CREATE, 400), (CREATE, 400)]


@pytest.mark.parametrize("verdict", [Ambiguous("?"), Rejected("no"), Missing("gone"), TokenLimit("full")])
async def test_no_judgement_makes_a_call_raise_what_it_must_not(verdict: ProviderError) -> None:
    """A call that refuses nothing and names nothing is Retryable, whatever `judge` says."""
    with pytest.raises(Retryable, match=str(verdict).replace("?", r"\?")):
        async with Failures(judge=lambda _, __: verdict).repeatable("list", named=False):
            raise StatusError(Answered(status=404))


@pytest.mark.parametrize(
    "meaning", [Rejected("no", [3]), Missing("gone"), Retryable("later", 5.0), Unauthorised("key")]
)
async def test_what_means_something_already_stays(meaning: ProviderError) -> None:
    """The contract's own errors pass through both as they are, whatever caused them and however much a plugin reads."""
    meaning.__cause__ = NEVER_SENT[0]()
    greedy = Failures(read=lambda _: Answered(status=429))
    with pytest.raises(ProviderError) as created:
        async with greedy.creating():
            raise meaning
    with pytest.raises(ProviderError) as repeated:
        async with greedy.repeatable("poll", named=False):
            raise meaning

    assert created.value is repeated.value is meaning


async def test_an_unreadable_answer_is_open_only_for_a_create_call() -> None:
    """`Ambiguous` from inside stays so around a create call, and means another try around any other."""
    with pytest.raises(Ambiguous, match="no object"):
        async with PLAIN.creating():
            raise Ambiguous("no object")
    with pytest.raises(Retryable, match="poll: no object"):
        async with PLAIN.repeatable("poll"):
            raise Ambiguous("no object")


# --- whatever an SDK raises

#: After these, the provider may have acted.
MAYBE_SENT: list[Callable[[], BaseException]] = [
    lambda: named("ReadError", named("TransportError"))("cut"),
    lambda: named("ReadTimeout", named("TransportError"))("slow"),
    lambda: named("LocalProtocolError", named("TransportError"))("Too much data for declared Content-Length"),
    lambda: named("StreamError")("cut"),
    lambda: named("ServerDisconnectedError", named("ClientError"))("cut"),
    lambda: named("ReadTimeout", named("RequestException"))("slow"),
    lambda: ConnectionResetError("cut"),
    lambda: TimeoutError("slow"),
    lambda: ssl.SSLError("cut"),
]
#: After these it cannot have.
NEVER_SENT: list[Callable[[], BaseException]] = [
    lambda: named("ConnectError", named("TransportError"))("refused"),
    lambda: named("ConnectTimeout", named("RequestException"))("slow"),
    lambda: named("PoolTimeout", named("TransportError"))("full"),
    lambda: named("ClientConnectorError", named("ClientError"))("refused"),
    lambda: ssl.SSLCertVerificationError("self-signed"),
]
#: What SDKs wrap them in, and what has no failure of a connection in it.
WRAPPERS: list[Callable[[], BaseException]] = [
    lambda: named("APIConnectionError", named("APIError"))("Connection error."),
    lambda: named("NoResponseError")("No response"),
    lambda: named("SomethingOfTheirs")("oh"),
    lambda: RuntimeError("oh"),
    lambda: json.JSONDecodeError("no", "", 0),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
    lambda: RecursionError("deep"),
]
VERDICTS = [Retryable("later"), Rejected("no"), TokenLimit("full"), Ambiguous("?"), Unauthorised("key"), None]


@given(
    wrappers=st.lists(st.sampled_from(WRAPPERS), max_size=3),
    outermost=st.sampled_from(MAYBE_SENT),
    below=st.lists(st.sampled_from([*MAYBE_SENT, *NEVER_SENT, *WRAPPERS]), max_size=3),
)
def test_a_call_that_may_have_been_sent_is_never_made_again(
    wrappers: list[Callable[[], BaseException]],
    outermost: Callable[[], BaseException],
    below: list[Callable[[], BaseException]],
) -> None:
    """Whatever an SDK wraps around a connection that was lost, and whatever lies below, a create call is Ambiguous."""
    error = chained(*(make() for make in [*wrappers, outermost, *below]))

    assert isinstance(error, Exception)
    assert type(PLAIN.create_failure(error)) is Ambiguous
    assert type(PLAIN.repeatable_failure(error, "poll")) is Retryable


@given(wrappers=st.lists(st.sampled_from(WRAPPERS), max_size=3), outermost=st.sampled_from(NEVER_SENT))
def test_a_connection_that_was_never_made_did_nothing(
    wrappers: list[Callable[[], BaseException]], outermost: Callable[[], BaseException]
) -> None:
    """Whatever an SDK wraps around it, a refused connection lets even a create call be made again."""
    error = chained(*(make() for make in [*wrappers, outermost]))

    assert isinstance(error, Exception)
    assert type(PLAIN.create_failure(error)) is Retryable


@given(links=st.lists(st.sampled_from(WRAPPERS), min_size=1, max_size=4))
def test_what_nobody_knows_is_never_made_again(links: list[Callable[[], BaseException]]) -> None:
    """Without a failed connection in it, an exception leaves a create call open, or comes out as the bug that it is."""
    error = chained(*(make() for make in links))

    assert isinstance(error, Exception)
    assert type(PLAIN.create_failure(error)) in (Ambiguous, type(None))


@pytest.mark.parametrize(
    ("error", "create", "elsewhere"),
    [
        (named("APIResponseValidationError", named("APIError"))("no schema"), Ambiguous, Retryable),
        (named("NoResponseError")("none"), Ambiguous, Retryable),
        (json.JSONDecodeError("no", "", 0), Ambiguous, Retryable),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), Ambiguous, Retryable),
        (RecursionError("deep"), Ambiguous, Retryable),
        (ValueError("no such field"), Ambiguous, type(None)),
    ],
)
def test_an_answer_that_an_sdk_cannot_read_leaves_it_open(
    error: Exception, create: type[object], elsewhere: type[object]
) -> None:
    """What an SDK raises over an answer may come after the batch was made; any odd value does, where a batch is at stake."""
    assert type(PLAIN.create_failure(error)) is create
    assert type(PLAIN.repeatable_failure(error, "poll")) is elsewhere


@given(status=st.integers(-1, 1_000), verdict=st.sampled_from(VERDICTS), message=st.text(max_size=20))
def test_an_answer_that_leaves_it_open_is_nobodys_to_judge(
    status: int, verdict: ProviderError | None, message: str
) -> None:
    """Only an answer that says no lets a create call be made again: no plugin can judge another one otherwise."""
    failures = Failures(judge=lambda _, __: verdict)
    failure = failures.create_failure(StatusError(Answered(status=status, message=message, retry_after=1.0)))
    says_no = 400 <= status < 500 and status not in (408, 409, 499)

    assert says_no or type(failure) is Ambiguous


@given(before=st.text(max_size=600), after=st.text(max_size=20), code=st.sampled_from(["", "invalid_api_key"]))
def test_nothing_that_came_with_a_401_is_told(before: str, after: str, code: str) -> None:
    """A provider may repeat the key that it refuses: neither its words nor its body reach a reason, nor a plugin's judge."""
    told = f"{before}{SECRET}{after}"
    answered = Answered(status=401, message=told, code=code, content={"error": told})

    def judge(seen: Answered, what: str) -> ProviderError | None:
        return Unauthorised(f"{what}: {seen.reason} {seen.message} {seen.content} {seen.code}")

    said: list[str] = [repr(answered), str(StatusError(answered))]
    for failures in (PLAIN, Failures(judge=judge), Failures(read=lambda _: answered)):
        error = StatusError(answered) if failures.read is PLAIN.read else RuntimeError("401")
        failure, other = failures.create_failure(error), failures.repeatable_failure(error, "poll")
        assert isinstance(failure, Unauthorised)
        assert isinstance(other, Unauthorised)
        said += [str(failure), str(other)]

    assert [text for text in said if SECRET in text] == []


@pytest.mark.parametrize("bug", [KeyError("id"), TypeError("None"), FileNotFoundError("spool"), AssertionError()])
async def test_a_bug_is_not_hidden(bug: Exception) -> None:
    """What is neither an answer nor a lost connection comes out as it is, with its own traceback."""
    with pytest.raises(type(bug)) as created:
        async with PLAIN.creating():
            raise bug
    with pytest.raises(type(bug)) as repeated:
        async with PLAIN.repeatable("poll"):
            raise bug

    assert created.value is repeated.value is bug
    assert not is_transport_failure(bug)


async def test_a_wait_that_is_cancelled_stays_so() -> None:
    """A cancelled task is no failure of the provider."""
    with pytest.raises(asyncio.CancelledError):
        async with PLAIN.creating():
            raise asyncio.CancelledError
    with pytest.raises(asyncio.CancelledError):
        async with PLAIN.repeatable("poll"):
            raise asyncio.CancelledError


def test_a_chain_that_bites_its_tail_ends() -> None:
    """Exceptions that cause each other are looked at once."""
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first

    assert PLAIN.create_failure(first) is None


# --- wishes


@pytest.mark.parametrize(
    ("headers", "wish"),
    [
        ({}, None),
        ({"Retry-After": "17"}, 17.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250", "Retry-After": "17"}, 0.25),
        ({"Retry-After-Ms": "soon", "Retry-After": "17"}, 17.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "86400"}, None),
    ],
)
def test_a_wish_is_read_from_the_headers(headers: dict[str, str], wish: float | None) -> None:
    """Milliseconds before seconds, whatever the case of the names; what is no sensible wish is none."""
    assert retry_after(headers) == wish


@given(st.text(max_size=20) | st.floats().map(str))
def test_a_wish_is_never_absurd(text: str) -> None:
    """Whatever stands there, a wish is none, or between nothing and a day."""
    wish = seconds(text)

    assert wish is None or 0 <= wish < 86_400
