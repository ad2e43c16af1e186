"""Lines are JSON, and nothing that must not be seen is in them."""

from __future__ import annotations

import errno
import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import LedgerError
from gateway.logs import Logger, Redactor, configure

SECRET = "batchway-c0nfigured-secret"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Log:
    """A configured log and what was written to it."""

    def __init__(self, level: str = "info") -> None:
        self._stream = io.StringIO()
        self.logger: Logger = configure(self._stream, level, [SECRET, "abc"])

    @property
    def text(self) -> str:
        """Everything written."""
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, object]]:
        """Every line written, parsed."""
        return [json.loads(line) for line in self.text.split("\n")[:-1]]


@pytest.fixture(name="log")
def _log() -> Log:
    return Log()


def test_a_line_is_an_event_with_facts(log: Log) -> None:
    """A line is one JSON object: event, level, time and facts."""
    log.logger.info("batch_sealed", batch_id=7, reason="quiet", lines=[1, 2], share=0.5, late=None, when={"a": True})
    [line] = log.lines

    assert next(iter(line)) == "event"
    assert {key: line[key] for key in line if key != "timestamp"} == {
        "event": "batch_sealed",
        "batch_id": 7,
        "reason": "quiet",
        "lines": [1, 2],
        "share": 0.5,
        "late": None,
        "when": {"a": True},
        "level": "info",
    }
    assert str(line["timestamp"]).endswith("Z")


def test_modules_ask_structlog_for_the_same_log(log: Log) -> None:
    """A logger made anywhere, bound beforehand or not, writes to the configured stream."""
    structlog.get_logger().bind(room="poller").warning("poll_lost")

    assert [(line["event"], line["room"]) for line in log.lines] == [("poll_lost", "poller")]


def test_what_is_below_the_level_is_not_written() -> None:
    """Debug lines appear when asked for."""
    quiet = Log("info")
    quiet.logger.debug("detail")
    assert quiet.lines == []
    chatty = Log("debug")
    chatty.logger.debug("detail")

    assert [line["event"] for line in chatty.lines] == ["detail"]


@pytest.mark.parametrize(
    "facts",
    [
        {"reason": f"refused key {SECRET} of account"},
        {"reason": {"inner": [f"x{SECRET}x"]}},
        {"reason": (SECRET, {SECRET})},
        {SECRET: 1},
        {"error": ValueError(SECRET)},
        {"raw_value": SECRET.encode()},
    ],
)
def test_configured_secrets_are_cut_out_wherever_they_are(log: Log, facts: dict[str, object]) -> None:
    """A configured secret is not written, whether alone, inside other text or deep inside a value."""
    log.logger.warning("submit_failed", **facts)

    assert len(log.lines) == 1
    assert SECRET not in log.text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("key sk-proj-abcDEF_123456 refused", "abcDEF_123456"),
        ("Incorrect API key provided: gsk_abcdefgh12345678.", "abcdefgh12345678"),
        ("using AIzaSyA1234567890abcdefghijk", "SyA1234567890"),
        ("Authorization: Bearer abc.def-123", "abc.def-123"),
        ("authorization: basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("postgresql://me:pa55@db/name failed", "pa55"),
        ("GET https://host/v1?api_key=abcdef123&x=1", "abcdef123"),
        ('{"api_key": "abcdef123", "x": 1}', "abcdef123"),
        ("access_token=abcdef123", "abcdef123"),
    ],
)
def test_what_looks_like_a_secret_is_cut_out(log: Log, text: str, secret: str) -> None:
    """Keys and passwords nobody configured are known by their shape."""
    log.logger.warning("request_failed", reason=text)

    assert secret not in log.text
    assert "redacted" in log.text


@pytest.mark.parametrize(
    "key", ["authorization", "x-api-key", "api_key", "Cookie", "set-cookie", "client_secret", "token"]
)
def test_values_of_secret_keys_are_not_written(log: Log, key: str) -> None:
    """What is called a secret is one, whatever it looks like."""
    log.logger.warning("request_failed", headers={key: "plainword"})

    assert "plainword" not in log.text


@pytest.mark.parametrize("key", ["body", "messages", "prompt", "payload", "content", "row"])
def test_bodies_are_not_written(log: Log, key: str) -> None:
    """What callers write and get is never logged."""
    log.logger.warning("request_failed", **{key: [{"role": "user", "content": "my diary"}]})
    log.logger.warning("request_failed", detail={key: "my diary"}, bytes=b"my diary")

    assert "diary" not in log.text


@pytest.mark.parametrize(
    "text",
    ["max_enqueued_tokens: 200000", "http://host:8080/v1 at 10:30", "task-12345678901", "keys=3"],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    """Addresses, names and numbers of tokens are no secrets."""
    assert Redactor([SECRET]).text(text) == text


def test_tracebacks_show_no_values(log: Log) -> None:
    """An exception is logged with its traceback, without the values of variables and without secrets."""

    def fails(prompt: str) -> None:
        raise ValueError(f"no such key: {SECRET}")

    try:
        fails("diary"[::-1])
    except ValueError:
        log.logger.exception("plugin_fault")
    [line] = log.lines

    assert "ValueError" in str(line["exception"])
    assert "in fails" in str(line["exception"])
    assert SECRET not in log.text
    assert "yraid" not in log.text


def test_tracebacks_tell_the_whole_story(log: Log) -> None:
    """What led to an error and what a group holds are named, words only where they quote nothing, and those redacted."""
    words = "yraid ym"[::-1]
    error = ExceptionGroup(words, [KeyError(words), LedgerError(f"disk {SECRET}")])
    error.__cause__ = OSError(errno.ENOENT, "No such file", f"/{SECRET}")
    log.logger.error("errand_failed", exc_info=error)
    [line] = log.lines

    story = str(line["exception"])
    names = ("FileNotFoundError: [Errno 2] No such file", "ExceptionGroup", "KeyError", "LedgerError: disk")
    assert [story.find(name) for name in names] == sorted(story.find(name) for name in names)
    assert all(name in story for name in names)
    assert "diary" not in log.text
    assert SECRET not in log.text


def test_a_librarys_errors_are_not_quoted(log: Log) -> None:
    """Of what a library says of an error the first line stays, and of the error its class: asyncio quotes forgotten tasks."""
    error = ValueError("my diary")
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: %r", error, exc_info=error)
    [line] = log.lines

    assert line["message"] == "Task exception was never retrieved"
    assert line["exception"] == "Traceback (most recent call last):\nValueError"
    assert "diary" not in log.text


def test_libraries_write_into_the_same_log(log: Log) -> None:
    """What libraries log comes out in our shape, redacted, Python's warnings too."""
    logging.getLogger("openai").warning("retrying with %s", SECRET)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"old {SECRET}", UserWarning, stacklevel=1)

    assert [line["event"] for line in log.lines] == ["library_message", "library_message"]
    assert log.lines[0]["library"] == "openai"
    assert SECRET not in log.text


def test_libraries_debug_lines_are_never_written() -> None:
    """SDKs write whole bodies at debug and addresses at info level, so these are dropped at any level of ours."""
    chatty = Log("debug")
    logging.getLogger("openai._base_client").debug("Request options: my diary")
    logging.getLogger("httpx").info("my diary")

    assert chatty.lines == []


def test_configuring_again_replaces_the_log(log: Log) -> None:
    """A second set-up writes to its own stream only, once."""
    again = Log()
    logging.getLogger("openai").warning("hello")
    again.logger.info("started")

    assert log.lines == []
    assert [line["event"] for line in again.lines] == ["library_message", "started"]


anything = st.text(st.characters(exclude_categories=()))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | anything | st.binary() | st.builds(object),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@given(
    facts=st.dictionaries(st.from_regex(r"\A[a-z_]{1,8}\Z").filter(lambda name: name not in ("event", "level")), values)
)
def test_any_value_can_be_logged(facts: dict[str, object]) -> None:
    """Whatever is logged makes one line of JSON and raises nothing."""
    log = Log()
    log.logger.info(
        "something", **{key: value for key, value in facts.items() if key not in ("exc_info", "stack_info")}
    )

    assert [line["event"] for line in log.lines] == ["something"]


class Stream(io.StringIO):
    """A stream on a disk that may be full, or with a reader that may have gone."""

    fault: OSError | None = None

    def write(self, text: str) -> int:
        """Keep `text`, or fail."""
        if self.fault is not None:
            raise self.fault
        return super().write(text)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.EIO])
def test_a_log_that_cannot_be_written_hurts_nobody(number: int) -> None:
    """Whoever logs goes on as if it had been written: the line is lost, and those after it come again when they can."""
    stream = Stream()
    logger = configure(stream)
    stream.fault = OSError(number, "no")
    logger.info("lost")
    logging.getLogger("aiohttp").error("lost, too")
    stream.fault = None
    logger.info("found")

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["found"]


def test_a_log_that_is_closed_hurts_nobody() -> None:
    """Nor does one that has been taken away."""
    stream = Stream()
    logger = configure(stream)
    stream.close()
    logger.info("lost")
