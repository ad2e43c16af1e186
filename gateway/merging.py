"""Several answers become one: what a caller gets who asked for `n` where the provider gives one at a time. Pure.

Floor 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import orjson

from gateway.records import RequestState
from gateway.rows import write_json
from gateway.store.rows import Ending


def merged(endings: Sequence[Ending]) -> Ending:
    """The ending of a parent: the first failure of its children, if there is one, else all their answers in one.

    A cancelled child says least of why; any other failure goes before it.
    """
    failures = [ending for ending in endings if ending.state is not RequestState.SUCCEEDED]
    if failures:
        failures.sort(key=lambda ending: ending.state is RequestState.CANCELLED)
        return failures[0]
    bodies = [orjson.loads(ending.body) for ending in endings]
    return msgspec.structs.replace(
        endings[0],
        body=write_json(merged_body(bodies)),
        batch=None,
        cost_usd=_sum([ending.cost_usd for ending in endings]),
        saved_usd=_sum([ending.saved_usd for ending in endings]),
    )


def merged_body(bodies: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """One completion: the first one's, with everybody's choices in order, and usage added up."""
    choices: list[object] = []
    for body in bodies:
        found = body.get("choices")
        choices.extend(found if isinstance(found, list) else [])
    numbered = [{**choice, "index": n} if isinstance(choice, dict) else choice for n, choice in enumerate(choices)]
    whole: dict[str, object] = {**bodies[0], "choices": numbered}
    usages = [usage for body in bodies if isinstance(usage := body.get("usage"), dict)]
    if usages:
        whole["usage"] = _added(usages)
    return whole


def _added(usages: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Numbers added up by name, through inner objects; anything else as the first says."""
    whole: dict[str, object] = {}
    for name in dict.fromkeys(name for usage in usages for name in usage):
        found = [usage[name] for usage in usages if usage.get(name) is not None]
        inner = [value for value in found if isinstance(value, dict)]
        numbers = [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]
        if inner:
            whole[name] = _added(inner)
        elif numbers:
            whole[name] = sum(numbers)
        else:
            whole[name] = found[0] if found else None
    return whole


def _sum(amounts: Sequence[float | None]) -> float | None:
    """Their sum; None where one is unknown."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None
