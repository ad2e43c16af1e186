"""Logs: one JSON object a line, a constant snake_case event name, facts as keys, and nothing that must not be seen.

Floor 1. Keys, passwords and the bodies of requests are taken out of every line at the last moment before it is written,
whoever wrote it: the gateway, an SDK or aiohttp.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sqlite3
import sys
import traceback
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TextIO, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor, WrappedLogger

from gateway.errors import LedgerError, PluginFault

#: What components are given to log with: `log.info("batch_sealed", batch_id=7, reason="quiet")`.
Logger = FilteringBoundLogger

REDACTED = "[redacted]"
OMITTED = "[omitted]"

#: Keys whose values are secrets, whatever they look like.
_SECRET_KEY = re.compile(r"authorization|cookie|api.?key|password|secret|^token$|_token$", re.IGNORECASE)
#: Keys whose values are what callers wrote or got.
_BODY_KEYS = frozenset({"body", "bodies", "content", "input", "messages", "payload", "prompt", "raw", "row", "text"})
#: Shapes of secrets inside any text: keys of the well-known makes, bearer tokens, credentials in a URL or a query.
_SECRET_SHAPES = (
    re.compile(r"\b(?:sk|pk|rk|gsk|xai|ak)[-_][A-Za-z0-9_\-]{8,}"),
    re.compile(r"\bAIza[A-Za-z0-9_\-]{20,}"),
    re.compile(r"(?i)(?<=\bbearer )\S+"),
    re.compile(r"(?i)(?<=\bbasic )[A-Za-z0-9+/=]{8,}"),
    re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
    re.compile(
        r"(?i)(?<![a-z])(?:(?:api|access|x-api)[-_]?)?(?:key|token|secret|password)[\"']?\s*[=:]\s*[\"']?[^\s\"'&,;]{6,}"
    ),
)
#: Shorter secrets are left in texts: cutting every "test" out of them would leave nothing readable.
_SHORTEST_SECRET = 6
_DEEPEST = 6
#: Exceptions whose words name files, columns and modules. Any other may quote what it was given.
_PLAIN_WORDS = (LedgerError, PluginFault, sqlite3.Error, ImportError)


class Redactor:
    """Takes secrets and bodies out of what is about to be logged. The last processor before rendering."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """`secrets` are removed literally wherever they occur, beside what looks like a secret."""
        known = sorted({secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(
        self, _logger: WrappedLogger, _method: str, event: MutableMapping[str, object]
    ) -> MutableMapping[str, object]:
        """Structlog's processor protocol."""
        return {self.text(key): self._value(key, value, 0) for key, value in event.items()}

    def text(self, text: str) -> str:
        """`text` without anything secret, for messages that do not go through a logger."""
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        for shape in _SECRET_SHAPES:
            text = shape.sub(REDACTED, text)
        return text

    def _value(self, key: str, value: object, depth: int) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if key.lower() in _BODY_KEYS:
            return OMITTED
        if _SECRET_KEY.search(key):
            return REDACTED
        if isinstance(value, Mapping) and depth < _DEEPEST:
            return {self.text(str(name)): self._value(str(name), inner, depth + 1) for name, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset) and depth < _DEEPEST:
            return [self._value("", inner, depth + 1) for inner in value]
        if isinstance(value, bytes | bytearray | memoryview):
            return OMITTED
        return self.text(value if isinstance(value, str) else repr(value))


def configure(stream: TextIO, level: str = "info", secrets: Iterable[str] = ()) -> Logger:
    """Send what everybody logs to `stream`, from `level` up; call it once, where the process is composed.

    Modules log through `structlog.get_logger()`, which this sets up; the same logger is returned. What libraries log through
    `logging` comes out of the same pipe, warnings and worse only: SDKs write whole request bodies at their debug level. A line
    that cannot be written is lost, and nobody who logs hears of it.
    """
    structlog.configure(
        processors=_processors(Redactor(secrets)),
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Lossy(stream))),
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    logger: Logger = structlog.get_logger()
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Forward)]:
        root.removeHandler(handler)
    root.addHandler(_Forward(logger))
    root.setLevel(max(logging.WARNING, _number(level)))
    logging.captureWarnings(capture=True)
    return logger


def words_of(error: BaseException) -> str:
    """What was raised, by its class, with its words only where those are known to quote nothing."""
    name = type(error).__qualname__
    plain = isinstance(error, _PLAIN_WORDS) or (isinstance(error, OSError) and error.errno is not None)
    return f"{name}: {error}" if plain else name


def traced(error: BaseException) -> str:
    """A traceback for the log: every exception that led to this one, by frames and `words_of`; those of a group too."""
    told: list[str] = []
    chain: list[BaseException] = []
    latest: BaseException | None = error
    while latest is not None and latest not in chain:
        chain.append(latest)
        latest = latest.__cause__ or (None if latest.__suppress_context__ else latest.__context__)
    for each in reversed(chain):
        frames = "".join(traceback.format_tb(each.__traceback__))
        told.append(f"Traceback (most recent call last):\n{frames}{words_of(each)}")
        if isinstance(each, BaseExceptionGroup):
            told += map(traced, each.exceptions)
    return "\n\n".join(told)


class _Lossy:
    """A stream whose faults, a full disk or a reader that has gone, are no business of those who write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write `text`, if that can be."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        """Pass on what was written, if that can be."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class _Forward(logging.Handler):
    """Puts a library's record into our pipe."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log `record` as the event `library_message`."""
        try:
            self._logger.log(
                record.levelno,
                "library_message",
                library=record.name,
                # Below the first line asyncio writes what a task has raised, in its own words.
                message=record.getMessage().partition("\n")[0] if record.exc_info else record.getMessage(),
                exc_info=record.exc_info,
            )
        except Exception:  # noqa: BLE001 - a record that cannot be formatted must not hurt its writer
            self.handleError(record)


def _processors(redactor: Redactor) -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _trace,
        redactor,
        _render,
    ]


def _trace(_logger: WrappedLogger, _method: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    """Put a traceback in the place of `exc_info`: as text, since local variables hold prompts, and so may an error's words."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) and len(given) > 1 else given
    if given and not isinstance(error, BaseException):
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["exception"] = traced(error)
    return event


def _render(_logger: WrappedLogger, _method: str, event: MutableMapping[str, object]) -> str:
    """One line of JSON, the event's name first."""
    name = event.pop("event", "")
    try:
        return orjson.dumps({"event": name, **event}).decode()
    except TypeError:  # half a character, as a file name or a broken client may have it, or a number of 65 bits
        return json.dumps({"event": name, **event})


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]
