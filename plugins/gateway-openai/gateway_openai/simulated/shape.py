"""Where services of OpenAI's shape differ on the wire, for their simulators."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_DAY = 86_400.0
_WINDOW = re.compile(r"([1-9][0-9]{0,3})([hd])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """OpenAI's own, unless said otherwise."""

    #: Before `/v1`; several where a service has several addresses.
    prefixes: tuple[str, ...] = ("/v1",)
    #: `completion_window` -> seconds.
    windows: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({"24h": _DAY}))
    #: What a create call may name.
    endpoints: frozenset[str] = frozenset({"/v1/chat/completions"})
    #: Create calls may name any endpoint and window, and have further fields: it stands in for many services.
    liberal: bool = False
    #: Nothing expires by itself, whatever the window.
    endless_window: bool = False
    #: Lists have `paging.next_cursor` and take `cursor`, instead of `after`, `limit` and `has_more`.
    by_cursor: bool = False
    #: `errors` of a refused batch is an array without an object around it.
    bare_errors: bool = False
    #: Times are strings of seconds when a batch is shown again.
    text_times: bool = False
    #: Absent ids are empty strings.
    empty_ids: bool = False
    #: As Azure's dated interface is documented: capital states, times in ISO form, no counts before the lines were read.
    formal: bool = False
    #: An answer's body has no `object` and no `created`.
    bare_answers: bool = False
    #: Lines may name another path than the create call, as long as it is the same but for `/v1`.
    loose_urls: bool = False
    #: Body fields that are answered with a 400.
    refused_fields: frozenset[str] = frozenset()
    #: Whether messages may have a `name`.
    message_names: bool = True

    def window_of(self, word: object) -> float | None:
        """Seconds of the window that `word` asks for; None: there is none such."""
        if not isinstance(word, str):
            return None
        if self.liberal and (found := _WINDOW.fullmatch(word)):
            return float(found[1]) * {"h": 3_600.0, "d": _DAY}[found[2]]
        return self.windows.get(word)

    def window_name(self, seconds: float) -> str:
        """The word for a window of so many seconds; the first there is where several would do."""
        if self.liberal:
            return f"{seconds / _DAY:g}d" if seconds > _DAY and not seconds % _DAY else f"{seconds / 3_600:g}h"
        return next((name for name, length in self.windows.items() if length == seconds), next(iter(self.windows)))
