"""Whether the answer to one request satisfies the schema that this request asked for; for threads.

Floor 3. In: the stored payload, which only its plugin can read, and the answer. Nothing is asked of the provider.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.endings import Judged
from gateway.provider import Provider
from gateway.records import Result
from gateway.store.shipping import INVALID_OUTPUT, Asked
from gateway.validation import OutputChecks


class Judge:
    """Judges the answers of one batch, or one answer by itself; used by one thread at a time."""

    def __init__(self, plugin: Provider, lines: int, *, fault: Callable[[str, BaseException], object]) -> None:
        """`fault` is told of a bug in the plugin; after the first one nothing is judged any more."""
        self._plugin = plugin
        self._checks = OutputChecks(lines)
        self._fault = fault
        self._broken = False

    def judge(self, asked: Asked, result: Result) -> Judged | None:
        """What was found of an answer; None: there is nothing to judge."""
        if self._broken or result.status != 200 or result.body is None:
            return None
        try:
            schema = self._plugin.output_schema(asked.payload)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything; the answer is as good as without it
            self._broken = True
            self._fault("output_schema", error)
            return None
        verdict = None if schema is None else self._checks.judge(schema, result.body)
        return None if verdict is None else Judged(verdict=verdict, again=asked.trouble == INVALID_OUTPUT)
