"""Whether an answer is what its request asked for: JSON that satisfies the request's own schema. Pure; for threads.

Floor 1. Schemas and answers are strangers' words, and a collector must survive both: no reference to elsewhere is followed,
every check counts its steps, and what cannot be told within bounds is taken for good. In doubt the decision is for the
answer: it has been paid for.
"""

from __future__ import annotations

import enum
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import orjson

from gateway.patterns import search

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

#: Steps that one answer may take, some two seconds; and the answers of a batch together, for each of them and in all.
STEPS_OF_AN_ANSWER = 100_000
STEPS_OF_A_LINE = 200
STEPS_OF_A_BATCH = 2_000_000
#: Longer answers and schemas are not checked.
LONGEST_ANSWER = 1_000_000
LARGEST_SCHEMA = 256_000
MOST_VALUES = 5_000
#: Schemas kept ready; most batches have one or two.
SCHEMAS_KEPT = 64
DEEPEST = 64
#: A step on a long answer costs more: its messages quote it. So do costly patterns.
_CHARACTERS_OF_A_STEP = 10_000
_PATTERN_STEPS_OF_A_STEP = 100
#: To look whether a schema is one (measured).
_STEPS_OF_A_VALUE = 15
#: Ends of an answer that came to its own end. Any other was cut off or taken away, and would be again, at full price.
_OWN_END = frozenset({None, "stop", "eos", "end_turn"})
#: Words of schemas that cost what cannot be counted beforehand, or are found by patterns.
_UNCOUNTED = ("patternProperties", "unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef")
#: Words that give a part of a schema a name or a draft of its own.
_NAMING = ("$schema", "$id")
#: The library's classes, by `$schema`. Without one it is today's draft; older ones than these are not told.
_DRAFTS = MappingProxyType(
    {
        "": "Draft202012Validator",
        "https://json-schema.org/draft/2020-12/schema": "Draft202012Validator",
        "https://json-schema.org/draft/2019-09/schema": "Draft201909Validator",
        "http://json-schema.org/draft-07/schema": "Draft7Validator",
        "http://json-schema.org/draft-06/schema": "Draft7Validator",
    }
)


class Verdict(enum.StrEnum):
    """What was found of one answer."""

    #: It satisfies what was asked.
    VALID = "valid"
    #: Surely not.
    INVALID = "invalid"
    #: It was not told: the schema is none, or the check would take too long.
    UNDECIDED = "undecided"


class Undecided(Exception):
    """A check ended before it could tell."""


@dataclass(slots=True)
class Steps:
    """What may still be spent, on one answer and on all of a batch."""

    of_batch: int
    of_answer: int = 0
    #: What one step costs on the answer at hand.
    weight: int = 1

    def begin(self, length: int) -> None:
        """Turn to an answer of so many characters."""
        self.of_answer = STEPS_OF_AN_ANSWER
        self.weight = 1 + length // _CHARACTERS_OF_A_STEP

    def take(self, steps: int = 1) -> None:
        """Spend. Raises `Undecided` when it is too much."""
        cost = steps * self.weight
        self.of_answer -= cost
        self.of_batch -= cost
        if self.of_answer < 0 or self.of_batch < 0:
            raise Undecided


class OutputChecks:
    """Checks the answers of one batch; used by one thread at a time."""

    def __init__(self, lines: int) -> None:
        """`lines` there are."""
        self._steps = Steps(of_batch=STEPS_OF_A_BATCH + STEPS_OF_A_LINE * lines)
        self._ready: OrderedDict[bytes, Validator | None] = OrderedDict()

    def judge(self, schema: Mapping[str, object], body: Mapping[str, object]) -> Verdict | None:
        """What is to be said of a completion whose request asked for `schema`; None: there is nothing to judge.

        Refusals, calls of tools and answers that did not come to their own end (`length`, `content_filter`) are none of the
        schema's business. Of several choices each must satisfy it.
        """
        try:
            texts = list(_texts(body))
        except Undecided:
            return Verdict.UNDECIDED
        if not texts:
            return None
        verdicts = {self._judge_text(schema, text) for text in texts}
        for verdict in (Verdict.INVALID, Verdict.UNDECIDED):
            if verdict in verdicts:
                return verdict
        return Verdict.VALID

    def _judge_text(self, schema: Mapping[str, object], text: str) -> Verdict:
        if len(text) > LONGEST_ANSWER:
            return Verdict.UNDECIDED
        try:
            said = _parsed(text)
        except ValueError:
            return Verdict.INVALID
        except RecursionError:
            return Verdict.UNDECIDED
        try:
            validator = self._validator(schema)
            self._steps.begin(len(text))
            if validator is None or _depth(said) > DEEPEST:
                return Verdict.UNDECIDED
            return Verdict.VALID if validator.is_valid(said) else Verdict.INVALID
        except Exception:  # noqa: BLE001 - the library meets every kind of schema here: what it cannot tell is not told
            return Verdict.UNDECIDED

    def _validator(self, schema: Mapping[str, object]) -> Validator | None:
        """The schema made ready; None: it is no schema that can be checked here. Raises `Undecided` when steps run out."""
        key = orjson.dumps(schema)
        if key in self._ready:
            self._ready.move_to_end(key)
            return self._ready[key]
        self._steps.begin(0)
        made = _made(schema, self._steps) if len(key) <= LARGEST_SCHEMA else None
        self._ready[key] = made
        if len(self._ready) > SCHEMAS_KEPT:
            self._ready.popitem(last=False)
        return made


def _parsed(text: str) -> object:
    """What a caller's own parser makes of it. Raises `ValueError`."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # Half a surrogate pair is JSON all the same.
        return json.loads(text, parse_constant=_no_number)


def _no_number(word: str) -> object:
    raise ValueError(word)


def _texts(body: Mapping[str, object]) -> Iterator[str]:
    """The texts of the choices that came to their own end. Raises `Undecided` for what is no chat completion."""
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            raise Undecided
        end = choice.get("finish_reason")
        # One that is no word, a list say, is nothing to look up.
        if not isinstance(end, str | None) or end not in _OWN_END or _says_otherwise(message):
            continue
        content = message.get("content")
        if not isinstance(content, str | None):
            raise Undecided
        yield content or ""


def _says_otherwise(message: Mapping[str, object]) -> bool:
    return any(message.get(word) for word in ("refusal", "tool_calls", "function_call", "audio"))


def _made(schema: Mapping[str, object], steps: Steps) -> Validator | None:
    from jsonschema import validators  # noqa: PLC0415 - 0.2 s that few need
    from referencing import Registry  # noqa: PLC0415 - as above

    draft: type[Validator] | None = getattr(
        validators, _DRAFTS.get(str(schema.get("$schema", "")).rstrip("#"), ""), None
    )
    # A schema that names its draft would be handed to the library's own class for it, which counts nothing.
    plain = {word: said for word, said in schema.items() if word != "$schema"}
    values = _values(plain)
    if draft is None or values is None:
        return None
    steps.take(values * _STEPS_OF_A_VALUE)
    if not draft(draft.META_SCHEMA).is_valid(plain):
        return None
    words = {word: _counted(check, steps) for word, check in draft.VALIDATORS.items()}
    words["pattern"] = _pattern(steps)
    words["multipleOf"] = _multiple_of(steps)
    # Nobody's draft: no schema inside can call for this class by a name.
    own = validators.create(meta_schema={}, validators=words, type_checker=draft.TYPE_CHECKER)
    # An empty registry: what lies elsewhere is never fetched.
    return cast("Validator", own(plain, registry=Registry()))


def _counted(check: Callable[..., object], steps: Steps) -> Callable[..., object]:
    def counted(validator: object, said: object, instance: object, schema: object) -> object:
        steps.take(_cost(said, instance))
        return check(validator, said, instance, schema)

    return counted


def _cost(said: object, instance: object) -> int:
    """Steps of a word: `enum` and `required` compare with each of theirs, items of an array may be compared with each other."""
    if isinstance(said, list):
        return 1 + len(said) // 10
    return 1 + len(instance) ** 2 // 100 if said is True and isinstance(instance, list) else 1


def _pattern(steps: Steps) -> Callable[..., object]:
    def pattern(_: Validator, said: str, instance: object, __: object) -> Iterator[Exception]:
        from jsonschema.exceptions import ValidationError  # noqa: PLC0415 - see `_made`

        if not isinstance(instance, str):
            return
        steps.take()
        told = search(said, instance)
        if told is None:
            raise Undecided
        steps.take(told.steps // _PATTERN_STEPS_OF_A_STEP)
        if not told.found:
            yield ValidationError("a text does not match its pattern")

    return pattern


def _multiple_of(steps: Steps) -> Callable[..., object]:
    def multiple_of(_: Validator, said: float, instance: object, __: object) -> Iterator[Exception]:
        from jsonschema.exceptions import ValidationError  # noqa: PLC0415 - see `_made`

        steps.take()
        if isinstance(instance, bool) or not isinstance(instance, int | float):
            return
        # In the digits in which both are written: as binary fractions 19.99 is no multiple of 0.01.
        if Decimal(repr(instance)) % Decimal(repr(said)):
            yield ValidationError("a number is no multiple")

    return multiple_of


def _values(schema: Mapping[str, object]) -> int | None:
    """How many values a schema has; None: it is too deep or too large, or something in it escapes the counting."""
    level: list[object] = [schema]
    values = 0
    for _ in range(DEEPEST):
        if not level:
            return values
        values += len(level)
        escapes = (isinstance(inner, Mapping) and _escapes(inner) for inner in level)
        if values > MOST_VALUES or any(escapes):
            return None
        level = [value for inner in level for value in _inside(inner)]
    return None


def _escapes(schema: Mapping[str, object]) -> bool:
    return any(word in schema for word in _UNCOUNTED) or any(isinstance(schema.get(word), str) for word in _NAMING)


def _depth(said: object) -> int:
    """Levels of objects and arrays in an answer."""
    level, depth = [said], 0
    while level:
        level = [value for inner in level for value in _inside(inner)]
        depth += 1
    return depth


def _inside(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
