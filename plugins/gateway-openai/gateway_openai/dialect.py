"""Where APIs of OpenAI's shape differ in what a create call and a line may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway import Call, Limits
from gateway.chat import plain_ids
from gateway_openai.encode import encode_line
from gateway_openai.messages import refuse_names, strict_messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one API's create calls and lines may hold."""

    drop_fields: frozenset[str] = frozenset()
    refuse_fields: frozenset[str] = frozenset()
    #: Whether messages may have a `name`.
    message_names: bool = True
    #: Whether a field of a message that the service does not know costs nothing; else those of answers are left out.
    message_echoes: bool = True
    #: Whether ids of calls keep what this gateway put there: only another gateway could want it.
    carried_ids: bool = False
    #: What a create call asks for.
    completion_window: str = "24h"
    #: What the create call and the lines name; empty: the caller's endpoint.
    create_endpoint: str = ""
    line_url: str = ""
    #: Sent in a create call beside OpenAI's own fields.
    create_fields: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    #: The header that carries the marker; empty: none does.
    idempotency_header: str = ""

    def fitted(self, call: Call) -> Call:
        """The call with its messages as the service takes them. Raises `Unsupported`."""
        messages = call.body.get("messages")
        if not isinstance(messages, list):
            return call
        fitted = messages if self.carried_ids else plain_ids(messages)
        if not self.message_echoes:
            fitted = strict_messages(fitted).messages
        return replace(call, body={**call.body, "messages": fitted})

    def line(self, call: Call) -> bytes:
        """The envelope of the call's line. Raises `Unsupported`."""
        if not self.message_names:
            refuse_names(call)
        return encode_line(self.fitted(call), drop=self.drop_fields, refuse=self.refuse_fields, url=self.line_url)

    def dropped(self, call: Call) -> Sequence[str]:
        """Configured fields that the call has, and those of its messages that the service would mind."""
        dropped = sorted(field for field in self.drop_fields if call.body.get(field) is not None)
        if self.message_echoes:
            return dropped
        return [*dropped, *strict_messages(call.body.get("messages")).dropped]


def with_window(limits: Limits, window: str) -> Limits:
    """`limits` with a window as it is written in a create call: `24h`, `7d`."""
    return replace(limits, window_seconds=float(window[:-1]) * {"h": 3_600.0, "d": 86_400.0}[window[-1]])
