"""Connections that send nothing, or only half of their headers: aiohttp itself waits for those for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.clock import Clock
from gateway.errors import ENDINGS, openai_error

SWEEP_SECONDS = 1.0


class Connections:
    """Gives each new connection a time for its first headers.

    Time counts by the sweeps in it. One in which the process was frozen, or its machine slept, counts as one: what callers sent
    meanwhile lies with the kernel, and is read before the next.
    """

    def __init__(self, clock: Clock, header_seconds: float) -> None:
        """No connection is watched."""
        self._clock = clock
        self._header_seconds = header_seconds
        #: Seconds of all sweeps so far.
        self._swept_seconds = 0.0
        #: In order of arrival: connections that have not sent a whole request yet, and how many seconds of sweeps end their time.
        self._silent: dict[asyncio.Protocol, float] = {}

    def watched(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """A protocol factory whose connections are watched."""

        def connect() -> asyncio.Protocol:
            protocol = make()
            # The next sweep ends a second that is under way.
            self._silent[protocol] = self._swept_seconds + SWEEP_SECONDS + self._header_seconds
            return protocol

        return connect

    def spoke(self, protocol: asyncio.Protocol) -> None:
        """A whole request has come in on a connection."""
        self._silent.pop(protocol, None)

    def sweep(self) -> None:
        """Refuse with 408 and close what has been silent for too long; another second is over."""
        self._swept_seconds += SWEEP_SECONDS
        overdue = []
        for protocol, deadline in self._silent.items():
            if deadline > self._swept_seconds:
                break
            overdue.append(protocol)
        for protocol in overdue:
            del self._silent[protocol]
            _refuse(getattr(protocol, "transport", None))

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            self.sweep()


def _refuse(transport: asyncio.Transport | None) -> None:
    """A last word before the end, for whoever listens."""
    if transport is None or transport.is_closing():
        return
    rule = ENDINGS["request_timeout"]
    body = openai_error("request_timeout", "The request's headers came too slowly (server.header_seconds).", rule.type)
    head = (
        "HTTP/1.1 408 Request Timeout\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    transport.write(head.encode("ascii") + body)
    transport.close()
