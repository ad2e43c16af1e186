"""Thoughts on their way through a conversation: noted beside a tool call, put back where they stood. Pure.

Anthropic wants the thinking blocks of a turn that called tools back unchanged and in their places: each is signed,
newer models also sign what stood before it. Chat completions keeps only the text and the calls of a turn, and some clients
keep no text beside calls, so what is noted is the turn's whole arrangement: a thinking block as it came, a text, 0 for
the next call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: The key under which this plugin's notes travel in a tool call's id.
KEY = "anthropic"
_FIELDS = {"thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}

Block = dict[str, object]


def noted(blocks: Sequence[Mapping[str, object]]) -> list[object]:
    """The arrangement of an answer's `blocks`; empty when there are no thoughts in it."""
    notes: list[object] = []
    for block in blocks:
        kind = block.get("type")
        text = block.get("text")
        if is_thought(block):
            notes.append(dict(block))
        elif kind == "text" and isinstance(text, str) and text:
            notes.append(text)
        elif kind == "tool_use":
            notes.append(0)
    return notes if any(isinstance(note, dict) for note in notes) else []


def arranged(notes: object, text: str, calls: Sequence[Block]) -> list[Block]:
    """A turn's blocks with its thoughts in their places; `text` and `calls` are what the caller sent back of it.

    A text that was left out comes back; when one was changed, or a call is missing, the thoughts come first. Notes that are
    not to be understood are none.
    """
    thoughts = _thoughts(notes)
    if not thoughts or not isinstance(notes, list):
        return [*_words(text), *calls]
    texts = [note for note in notes if isinstance(note, str)]
    if (text and text != "".join(texts)) or notes.count(0) != len(calls):
        return [*thoughts, *_words(text), *calls]
    blocks: list[Block] = []
    called = iter(calls)
    for note in notes:
        if isinstance(note, str):
            blocks.extend(_words(note))
        else:
            blocks.append(next(called) if note == 0 else note)
    return blocks


def is_thought(block: object) -> bool:
    """Whether `block` is a thinking block that can be sent back."""
    if not isinstance(block, Mapping):
        return False
    fields = _FIELDS.get(str(block.get("type")))
    return fields is not None and all(isinstance(block.get(field), str) for field in fields)


def _thoughts(notes: object) -> list[Block]:
    """The thinking blocks in `notes`; none when anything in there is something else."""
    if not isinstance(notes, list):
        return []
    known = all(isinstance(note, str) or (note == 0 and note is not False) or is_thought(note) for note in notes)
    return [note for note in notes if isinstance(note, dict)] if known else []


def _words(text: str) -> list[Block]:
    """A text block; none for white space, which the provider refuses."""
    return [{"type": "text", "text": text}] if text.strip() else []
