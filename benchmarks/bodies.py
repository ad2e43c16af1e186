"""The calls that are sent: bodies of one size, each with a tag that its answer must show."""

from __future__ import annotations

from dataclasses import dataclass

MODEL = "sim-small"
#: Digits of the number that makes bodies differ.
DIGITS = 9
KILOBYTE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Bodies:
    """Chat-completion bodies of `size` bytes; equal numbers give equal bodies."""

    tag: str
    size: int = KILOBYTE

    def name(self, number: int) -> bytes:
        """What the body holds, and the answer to it must."""
        return f"{self.tag}-{number:0{DIGITS}d}".encode()

    def of(self, number: int) -> bytes:
        """The JSON of one call."""
        head = b'{"model":"%b","messages":[{"role":"user","content":"%b ' % (MODEL.encode(), self.name(number))
        tail = b'"}]}'
        return head + (_FILLER * (self.size // len(_FILLER) + 1))[: self.size - len(head) - len(tail)] + tail


_FILLER = b"Does the first sentence follow from the second? "
