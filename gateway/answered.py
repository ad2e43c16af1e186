"""An answer that is an error, as far as it can be read: its status, and what its headers wish for and point to.

Floor 1. Authors of plugins find all of it in `gateway.failures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

__all__ = ["Answered", "StatusError", "is_foreign", "redirect", "retry_after", "seconds"]

#: 499 is Google's CANCELLED and everybody's "client closed request": given up while it was worked on.
_OPEN_STATUSES = frozenset({408, 409, 499})
#: What a server says of an address that it does not know.
_UNROUTED = frozenset({404, 405})
#: All that the routers of web frameworks, and gateways of others, say then.
_ROUTERS_WORDS = frozenset({"not found", "method not allowed", "no route matched with those values"})
_MAX_REASON = 500
_MAX_HOST = 100
_LONGEST_WISH_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer that is an error, as far as an SDK tells of it."""

    status: int
    #: The provider's own words; empty when there are none.
    message: str = field(default="", repr=False)
    #: The provider's word for the error, for programs.
    code: str = ""
    #: Seconds after which it wants to be asked again.
    retry_after: float | None = None
    #: The host that a redirect names, as `redirect` reads it; empty where there is none.
    redirect: str = ""
    #: It is no word of the provider's, as `is_foreign` tells: a proxy's, or that of a server whose address is wrong.
    foreign: bool = False
    #: The parsed body, for `judge`.
    content: object = field(default=None, repr=False, compare=False)

    @property
    def leaves_open(self) -> bool:
        """Whether it leaves open what has happened."""
        return self.status in _OPEN_STATUSES or not 400 <= self.status < 500

    @property
    def reason(self) -> str:
        """For operators and, where a request is refused, for its caller. Quotes nothing of a 401, nor of what is no refusal."""
        if self.status == 401:
            return "status 401, the key is not accepted"
        if self.leaves_open:
            moved = self.redirect and 300 <= self.status < 400
            told = f", a redirect to {self.redirect}, which is not followed: is base_url right?" if moved else ""
            return f"status {self.status}{told}"
        if self.foreign:
            return f"status {self.status}, and not in the provider's words: is base_url right, or a proxy in the way?"
        code = f" ({self.code[:60]})" if self.code and self.code not in self.message else ""
        return f"status {self.status}: {self.message[:_MAX_REASON] or 'no reason given'}{code}"


class StatusError(Exception):
    """Raised by plugins that speak HTTP themselves, for an answer that is an error; `Failures` reads it without help."""

    def __init__(self, answered: Answered) -> None:
        """`answered` is what it said."""
        self.answered = answered
        super().__init__(f"status {answered.status}")


def is_foreign(status: int, body: bytes | str) -> bool:
    """Whether an error of `status` with this `body` is nothing that a Batch API says of a request.

    A page for browsers never is; nor is a 404 or 405 that is no JSON, is empty, or has the words of a router alone.
    """
    text = (body.decode("utf-8", "replace") if isinstance(body, bytes) else body).strip()
    if text.startswith("<"):
        return True
    if status not in _UNROUTED:
        return False
    try:
        content = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return True
    told = [content.get(field) for field in ("error", "message", "detail")] if isinstance(content, dict) else [content]
    return all(not word or (isinstance(word, str) and word.lower().rstrip(".") in _ROUTERS_WORDS) for word in told)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """A provider's wish in seconds, from `retry-after-ms` or `Retry-After`; None without one. Dates are not read."""
    written = {name.lower(): text for name, text in headers.items()}
    exact = seconds(written.get("retry-after-ms"), unit=0.001)
    return seconds(written.get("retry-after")) if exact is None else exact


def redirect(headers: Mapping[str, str]) -> str:
    """Where a `Location` points to: scheme and host, without the credentials that an address may hold; empty without one."""
    place = {name.lower(): text for name, text in headers.items()}.get("location", "")
    try:
        parts = urlsplit(place)
        host = parts.netloc.rpartition("@")[2][:_MAX_HOST]
    except ValueError:
        return "an address that cannot be read"
    if place and not host:
        return "another path of the same host"
    return f"{parts.scheme}://{host}" if parts.scheme and host else host


def seconds(text: str | None, *, unit: float = 1.0) -> float | None:
    """`text` as a number of `unit` seconds; None for what is no number, negative, or a day and longer."""
    try:
        wish = float(text or "") * unit
    except ValueError:
        return None
    return wish if 0 <= wish < _LONGEST_WISH_SECONDS else None
