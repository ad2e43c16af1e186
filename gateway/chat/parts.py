"""What a message says: its content, as a string or in parts. Pure."""

from __future__ import annotations

import base64
import re

from gateway.chat.fields import Fields, shown
from gateway.chat.records import Link, Media, Part, Text
from gateway.errors import Unsupported

#: By what OpenAI calls the format.
_SOUNDS = {"wav": "audio/wav", "mp3": "audio/mpeg"}
_DATA_URL = re.compile(
    r"data:(?P<type>[\w.+-]+/[\w.+-]+)(?P<parameters>(?:;[^;,]*)*?);base64,", re.ASCII | re.IGNORECASE
)
#: Types that do not exist, as they are often written.
_MISSPELT = {"image/jpg": "image/jpeg", "audio/mp3": "audio/mpeg", "audio/x-wav": "audio/wav"}
_DETAILS = ("auto", "low", "high", "original")
#: Where a cache may begin: OpenAI's word, and the one that several libraries send to every provider.
CACHE_MARKS = ("prompt_cache_breakpoint", "cache_control")


def read_texts(message: Fields, name: str = "content", *, refusals: bool = False) -> tuple[Text, ...]:
    """The words of a message that may hold nothing else; without empty ones."""
    return tuple(part for part in _read(message, name, refusals=refusals, media=False) if isinstance(part, Text))


def read_parts(message: Fields, name: str = "content") -> tuple[Part, ...]:
    """The parts of a user's message, without empty texts."""
    return _read(message, name, refusals=False, media=True)


def _read(message: Fields, name: str, *, refusals: bool, media: bool) -> tuple[Part, ...]:
    content = message.content.get(name)
    if isinstance(content, str):
        return (Text(text=content),) if content else ()
    if content is not None and not isinstance(content, list | tuple):
        raise message.unsupported(name, f"must be a string or a list of parts, not {shown(content)}")
    parts = (_part(part, refusals=refusals, media=media) for part in message.each(name))
    return tuple(part for part in parts if part is not None)


def _part(part: Fields, *, refusals: bool, media: bool) -> Part | None:
    """One part; None for empty text."""
    kind = part.text("type")
    if kind == "text":
        return _words(part, "text")
    if kind == "refusal" and refusals:
        return _words(part, "refusal")
    if media and kind == "image_url":
        return _image(part)
    if media and kind == "input_audio":
        return _sound(part)
    if media and kind == "file":
        return _file(part)
    allowed = ("text", "refusal") if refusals else ("text", "image_url", "input_audio", "file") if media else ("text",)
    said = "is missing" if kind is None else f"{shown(kind)} is not possible here"
    raise part.unsupported("type", f"{said}; use {' or '.join(repr(word) for word in allowed)}")


def _words(part: Fields, name: str) -> Text | None:
    part.only({"type", name, *CACHE_MARKS})
    part.hint(*CACHE_MARKS)
    text = part.text(name)
    if text is None:
        raise part.unsupported(name, "must be a string")
    return Text(text=text) if text else None


def _image(part: Fields) -> Media | Link:
    part.only({"type", "image_url", *CACHE_MARKS})
    part.hint(*CACHE_MARKS)
    image = part.needed("image_url")
    image.only({"url", "detail"})
    if image.word("detail", _DETAILS) not in (None, "auto"):
        image.hint("detail")
    url = image.name("url")
    if url[:8].lower().startswith(("http://", "https://")):
        return Link(url=url, field=image.place)
    media_type, content = _data_url(image, "url", url)
    if not media_type.startswith("image/"):
        raise image.unsupported(
            "url", f"holds {shown(media_type)}, which is no image; send documents in a part of type 'file'"
        )
    return Media(media_type=media_type, content=content, field=image.place)


def _sound(part: Fields) -> Media:
    part.only({"type", "input_audio", *CACHE_MARKS})
    part.hint(*CACHE_MARKS)
    sound = part.needed("input_audio")
    sound.only({"data", "format"})
    form = sound.word("format", tuple(_SOUNDS))
    if form is None:
        raise sound.unsupported("format", "must be 'wav' or 'mp3'")
    return Media(media_type=_SOUNDS[form], content=_base64(sound, "data", sound.name("data")), field=sound.place)


def _file(part: Fields) -> Media:
    part.only({"type", "file", *CACHE_MARKS})
    part.hint(*CACHE_MARKS)
    file = part.needed("file")
    file.only({"file_data", "file_id", "filename"})
    if file.has("file_id"):
        raise file.unsupported("file_id", "names a file that only OpenAI has; send the file itself in file_data")
    media_type, content = _data_url(file, "file_data", file.name("file_data"))
    return Media(media_type=media_type, content=content, filename=file.text("filename") or None, field=file.place)


def _data_url(holder: Fields, name: str, url: str) -> tuple[str, str]:
    """The media type and the base64 of a data URL."""
    found = _DATA_URL.match(url)
    if found is None:
        kinds = "an http(s) address or a data URL" if name == "url" else "a data URL"
        raise holder.unsupported(name, f"must be {kinds} of the form data:TYPE/SUBTYPE;base64,CONTENT")
    media_type = found["type"].lower()
    return _MISSPELT.get(media_type, media_type), _base64(holder, name, url[found.end() :])


def _base64(holder: Fields, name: str, content: str) -> str:
    try:
        whole = bool(base64.b64decode(content, validate=True))
    except ValueError:
        whole = False
    if not whole:
        raise Unsupported(
            holder.at(name), "is not base64 (standard alphabet, padded, without line breaks); encode the content anew"
        )
    return content
