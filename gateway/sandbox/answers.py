"""What a simulated model says: a pure function of the request, so that a test can tell whose answer it got.

The text ends in `#` and `body_hash` of the request. A prompt that lists its options (`Answer with one word: yes or
no.`) gets one of them instead. Sampling (an explicit temperature above 0) adds the name of the line, so that samples
differ.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import cast

import orjson

#: Fields that do not change what is asked, left out of `body_hash`: a gateway may drop them.
IGNORED_FIELDS = frozenset({"stream", "stream_options", "metadata", "store", "service_tier", "user", "cache"})

_OPTIONS = re.compile(
    r"\b(?:one word|one of|choose|answer with|answer only|reply with|respond with|options|labels)\b"
    r"[^:\n]{0,60}:\s*([^\n]{2,300})",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(r"\s*[,/|;]\s*(?:or\s+)?|\s+or\s+", re.IGNORECASE)
_WORD = re.compile(r"[a-z']+")

# ruff: noqa: SIM905 - lists of words read best as words
_GOOD = frozenset(
    "good great excellent love loved loves wonderful happy best delightful perfect enjoyed amazing lovely pleased recommend "
    "brilliant friendly helpful beautiful fantastic charming warm fun glad thrilled superb comfortable".split()
)
_BAD = frozenset(
    "bad terrible awful hate hated worst poor boring broken disappointed disappointing sad angry rude slow waste dirty never "
    "horrible dull late cold noisy refund failed mediocre annoying useless cracked stale".split()
)
_STOP = frozenset(
    "a an the is are was were be been do does did of in on at to for and or it its this that with by from as not no yes true "
    "false one word answer question passage".split()
)


def body_hash(body: Mapping[str, object]) -> str:
    """16 hex digits that name what a request asks; the same for two bodies that differ in `IGNORED_FIELDS` or order only."""
    kept = {key: field for key, field in body.items() if key not in IGNORED_FIELDS}
    return hashlib.blake2b(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()


def sampled(body: Mapping[str, object]) -> bool:
    """Whether the request asks for samples that differ: an explicit temperature above 0."""
    temperature = body.get("temperature")
    return isinstance(temperature, int | float) and temperature > 0


def answer_text(prompt: str, name: str, line_id: str | None = None) -> str:
    """The answer to `prompt`, whose request hashes to `name`; with `line_id`, that line's own sample."""
    options = listed_options(prompt)
    if options:
        return _choice(prompt, options, name + (line_id or ""))
    suffix = "" if line_id is None else f" sample {line_id}"
    return f"You said: {prompt[:200]}{suffix} #{name}"


def listed_options(prompt: str) -> list[str]:
    """The options that a prompt lists after a colon, in its own spelling; empty when it lists none."""
    found = list(_OPTIONS.finditer(prompt)) if ":" in prompt else []
    if not found:
        return []
    sentence = found[-1].group(1).split(". ")[0]
    options = [option.strip(" .!?\"'`*()[]") for option in _SEPARATOR.split(sentence)]
    return options if 2 <= len(options) <= 12 and all(0 < len(option) <= 40 for option in options) else []


def _choice(prompt: str, options: list[str], name: str) -> str:
    """One of `options`: by a glance at the words where that is easy, else by the hash."""
    lowered = {option.lower(): option for option in options}
    words = _WORD.findall(prompt.lower())
    if "positive" in lowered and "negative" in lowered:
        mood = sum(word in _GOOD for word in words) - sum(word in _BAD for word in words)
        neutral = lowered.get("neutral") or lowered.get("mixed")
        guess = lowered["positive"] if mood > 0 else lowered["negative"] if mood < 0 else neutral
        if guess is not None:
            return guess
    if "yes" in lowered and "no" in lowered:
        return lowered["yes" if _overlap(prompt) >= 0.5 else "no"]
    return options[int(name[:8], 16) % len(options)]


def _overlap(prompt: str) -> float:
    """How much of the last question's words the rest of the prompt has too."""
    before, _, _ = prompt.rpartition("?")
    context, _, question = before.replace("\n", ". ").rpartition(". ")
    asked = {word for word in _WORD.findall(question.lower()) if word not in _STOP}
    known = set(_WORD.findall(context.lower()))
    return len(asked & known) / len(asked) if asked else 0.0


def tokens_of(size: int) -> int:
    """An estimate of the tokens in `size` bytes of text."""
    return max(1, size // 4)


def instance(schema: object, filling: str, root: object = None, depth: int = 0) -> object:
    """A small value that fits a JSON schema; strings that are free to be anything are `filling`."""
    if not isinstance(schema, Mapping) or depth > 12:
        return filling
    root = schema if root is None else root
    if "const" in schema:
        return schema["const"]
    for key in ("enum", "examples"):
        if isinstance(schema.get(key), list) and schema[key]:
            return schema[key][0]
    if isinstance(schema.get("$ref"), str):
        return instance(_resolve(root, schema["$ref"]), filling, root, depth + 1)
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return instance(schema[key][0], filling, root, depth + 1)
    return _typed(schema, filling, root, depth)


def _typed(schema: Mapping[str, object], filling: str, root: object, depth: int) -> object:
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    kind = kinds[0] if isinstance(kinds, list) and kinds else kinds
    if kind == "object":
        properties = schema.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        return {key: instance(inner, filling, root, depth + 1) for key, inner in known.items()}
    if kind == "array":
        least = schema.get("minItems", 1)
        count = least if isinstance(least, int) and 0 <= least <= 100 else 1
        return [instance(schema.get("items", {}), filling, root, depth + 1) for _ in range(count)]
    if kind in ("integer", "number"):
        least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        number = cast("float", least) if isinstance(least, int | float) else 0
        return number + 1 if "exclusiveMinimum" in schema else number
    return {"boolean": True, "null": None}.get(str(kind), filling)


def _resolve(root: object, reference: str) -> object:
    """What `#/$defs/name` points to; an empty schema when it points nowhere."""
    found = root
    for part in reference.lstrip("#/").split("/") if reference != "#" else []:
        found = found.get(part, {}) if isinstance(found, Mapping) else {}
    return found
