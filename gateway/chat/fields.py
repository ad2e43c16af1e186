"""Reading of JSON objects that callers wrote: every field by name and type, every refusal by its place. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.errors import Unsupported

_LONGEST_SHOWN = 40


def shown(content: object) -> str:
    """What may be said of `content` in a refusal: a short word as it is, of anything else only the type."""
    if isinstance(content, str):
        plain = content if content.isprintable() else ascii(content)
        return repr(plain if len(plain) <= _LONGEST_SHOWN else plain[:_LONGEST_SHOWN] + "...")
    if content is None or isinstance(content, bool):
        return {None: "null", True: "true", False: "false"}[content]
    if isinstance(content, int | float):
        return f"{content}" if -(10**_LONGEST_SHOWN) < content < 10**_LONGEST_SHOWN else "a number that large"
    return "an object" if isinstance(content, Mapping) else "a list" if isinstance(content, list) else "that"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """One object of a caller's body. A field that is null is as good as absent; each reader gives None for both.

    Readers raise `Unsupported` with the field's whole place for a wrong type or range.
    """

    content: Mapping[str, object]
    #: Where the object stands: `messages[0]`; empty for the body itself.
    place: str = ""
    #: Places of fields that are read over: shared by all objects of one body.
    hints: list[str] = field(default_factory=list)

    def at(self, name: str) -> str:
        """The place of the field `name`."""
        return f"{self.place}.{name}" if self.place else name

    def unsupported(self, name: str, reason: str) -> Unsupported:
        """What to raise for the field `name`."""
        return Unsupported(self.at(name), reason)

    def only(self, known: Collection[str]) -> None:
        """Refuse every field that is not `known`."""
        for name, content in self.content.items():
            if name not in known and content is not None:
                word = name if name.isprintable() else ascii(name)
                raise self.unsupported(word[:_LONGEST_SHOWN], "is not a field that can be translated; leave it out")

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.content.get(name) is not None

    def hint(self, *names: str) -> None:
        """Remember that these fields are read over, if they say anything."""
        self.hints.extend(self.at(name) for name in names if self.content.get(name) not in (None, [], {}, ""))

    def text(self, name: str) -> str | None:
        """A string."""
        content = self.content.get(name)
        if content is None or isinstance(content, str):
            return content
        raise self.unsupported(name, f"must be a string, not {shown(content)}")

    def name(self, name: str) -> str:
        """A string that must be there, and not be empty."""
        content = self.text(name)
        if content:
            return content
        raise self.unsupported(name, "must be a string that is not empty")

    def word(self, name: str, words: Collection[str]) -> str | None:
        """One of `words`."""
        content = self.content.get(name)
        if content is None or (isinstance(content, str) and content in words):
            return content
        listed = ", ".join(repr(str(word)) for word in words)
        raise self.unsupported(name, f"{shown(content)} is not possible; use one of {listed}, or leave it out")

    def flag(self, name: str) -> bool | None:
        """A boolean."""
        content = self.content.get(name)
        if content is None or isinstance(content, bool):
            return content
        raise self.unsupported(name, f"must be true or false, not {shown(content)}")

    def number(self, name: str, least: float, most: float) -> float | None:
        """A number between `least` and `most`, both included."""
        content = self.content.get(name)
        if content is None:
            return None
        if isinstance(content, int | float) and not isinstance(content, bool) and least <= content <= most:
            return float(content)
        raise self.unsupported(name, f"must be a number from {least:g} to {most:g}, not {shown(content)}")

    def whole(self, name: str, least: int, most: int = 2**63 - 1) -> int | None:
        """A whole number between `least` and `most`, both included."""
        content = self.content.get(name)
        if content is None:
            return None
        if isinstance(content, int) and not isinstance(content, bool) and least <= content <= most:
            return content
        upper = f" to {most}" if most < 2**63 - 1 else " on"
        raise self.unsupported(name, f"must be a whole number from {least}{upper}, not {shown(content)}")

    def mapping(self, name: str) -> Mapping[str, object] | None:
        """An object that is taken as it is."""
        content = self.content.get(name)
        if content is None or isinstance(content, Mapping):
            return content
        raise self.unsupported(name, f"must be an object, not {shown(content)}")

    def fields(self, name: str) -> Fields | None:
        """An object that is read further."""
        content = self.mapping(name)
        return None if content is None else Fields(content=content, place=self.at(name), hints=self.hints)

    def needed(self, name: str) -> Fields:
        """An object that must be there."""
        content = self.fields(name)
        if content is None:
            raise self.unsupported(name, "must be an object")
        return content

    def items(self, name: str) -> Sequence[object] | None:
        """A list."""
        content = self.content.get(name)
        if content is None or isinstance(content, list | tuple):
            return content
        raise self.unsupported(name, f"must be a list, not {shown(content)}")

    def each(self, name: str) -> tuple[Fields, ...]:
        """A list of objects; empty when there is none."""
        found = []
        for index, item in enumerate(self.items(name) or ()):
            place = f"{self.at(name)}[{index}]"
            if not isinstance(item, Mapping):
                raise Unsupported(place, f"must be an object, not {shown(item)}")
            found.append(Fields(content=item, place=place, hints=self.hints))
        return tuple(found)
