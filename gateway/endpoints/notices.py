"""What an operator should hear about callers, once an hour at most: full connection pools, repeated samples, HTTP/1.0."""

from __future__ import annotations

from collections import Counter

import structlog

from gateway.clock import Clock

#: Between two looks at how many callers wait.
LOOK_SECONDS = 60.0
#: The same notice about the same client is not repeated within this time.
QUIET_SECONDS = 3600.0
#: Connection pools of well-known clients: openai-python, LiteLLM, DSPy and aiohttp, inspect.
POOL_SIZES = frozenset({1000, 500, 100, 10})


class Notices:
    """Counts waiting callers by client, and says what looks like a mistake."""

    def __init__(self, clock: Clock) -> None:
        """Nobody waits yet."""
        self._clock = clock
        self._waiting: Counter[str] = Counter()
        self._before: dict[str, int] = {}
        self._said: dict[tuple[str, str], float] = {}

    def came(self, client: str) -> None:
        """One more caller of this client waits."""
        self._waiting[client] += 1

    def went(self, client: str) -> None:
        """One of them waits no longer."""
        self._waiting[client] -= 1

    def repeated_sample(self, client: str) -> None:
        """A call with a temperature got an answer that its client had had before: perhaps it wanted another sample."""
        self._say(
            "repeated_sample",
            client,
            "an identical request was answered with the same sample again; to sample anew in each pass, name the pass: "
            "base URL /run/NAME/v1, or header x-batchway-run",
        )

    def spoke_http10(self, client: str) -> None:
        """A caller that no sign of life can reach."""
        self._say(
            "http10_caller", client, "behind nginx, set proxy_http_version 1.1 so that waiting callers hear from us"
        )

    def look(self) -> None:
        """A client whose number of waiting callers is exactly that of a common pool, and does not move, waits for itself."""
        now = {client: count for client, count in self._waiting.items() if count}
        for client, count in now.items():
            if count in POOL_SIZES and self._before.get(client) == count:
                self._say(
                    "client_pool_full",
                    client,
                    f"exactly {count} requests wait and no more come: the client's connection pool is full; "
                    "docs/clients.md says how to enlarge it",
                )
        self._before = now
        self._waiting = Counter(now)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            self.look()

    def _say(self, event: str, client: str, advice: str) -> None:
        now = self._clock.monotonic()
        if now - self._said.get((event, client), -QUIET_SECONDS) >= QUIET_SECONDS:
            self._said[event, client] = now
            structlog.get_logger().warning(event, client=client, advice=advice)
