"""The fields of a `GenerateContentRequest` and their types: what is not here is refused as the REST API refuses it.

Names are those of google-genai 3.4.0's types, in the REST API's camelCase.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from types import MappingProxyType

#: Says what is wrong with a value at a path; None: nothing.
Check = Callable[[object, str], str | None]


def _kind(name: str, *kinds: type) -> Check:
    def check(content: object, path: str) -> str | None:
        if isinstance(content, kinds) and (not isinstance(content, bool) or bool in kinds):
            return None
        return f"Invalid value at '{path}' ({name})"

    return check


def _base64(content: object, path: str) -> str | None:
    if isinstance(content, str):
        padded = content + "=" * (-len(content) % 4)
        try:
            base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            return f"Invalid value at '{path}' (TYPE_BYTES), Base64 decoding failed"
        return None
    return f"Invalid value at '{path}' (TYPE_BYTES)"


def _word(*words: str) -> Check:
    def check(content: object, path: str) -> str | None:
        return None if content in words else f"Invalid value at '{path}' (TYPE_ENUM), {str(content)[:40]!r}"

    return check


def camel(name: str) -> str:
    """A field's name in camelCase; snake_case is taken as well, as protobuf's JSON has it."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


class Repeated:
    """An array of one kind."""

    def __init__(self, inner: Check) -> None:
        self._inner = inner

    def __call__(self, content: object, path: str) -> str | None:
        """What is wrong with the first item that is wrong."""
        if not isinstance(content, list):
            return f"Invalid value at '{path}' (TYPE_ARRAY)"
        return next((bad for n, item in enumerate(content) if (bad := self._inner(item, f"{path}[{n}]"))), None)

    def normal(self, content: object) -> object:
        """The same with names in camelCase."""
        return [normal(self._inner, item) for item in content] if isinstance(content, list) else content


class Message:
    """An object with known fields."""

    def __init__(self, fields: Mapping[str, Check]) -> None:
        self._fields = MappingProxyType(dict(fields))

    def __call__(self, content: object, path: str) -> str | None:
        """What is wrong with the first field that is wrong."""
        if not isinstance(content, dict):
            return f"Invalid value at '{path or 'request'}' (TYPE_MESSAGE)"
        for name, field in content.items():
            check = self._fields.get(camel(name))
            if check is None:
                at = f" at '{path}'" if path else ""
                return f'Invalid JSON payload received. Unknown name "{name[:64]}"{at}: Cannot find field.'
            if bad := check(field, f"{path}.{name}" if path else name):
                return bad
        return None

    def normal(self, content: object) -> object:
        """The same with names in camelCase."""
        if not isinstance(content, dict):
            return content
        named = {camel(name): field for name, field in content.items()}
        return {
            name: normal(self._fields[name], field) if name in self._fields else field for name, field in named.items()
        }


def normal(check: Check, content: object) -> object:
    """`content` with the names of known fields in camelCase; what is free to be anything stays as it is."""
    return check.normal(content) if isinstance(check, Repeated | Message) else content


def _anything(_content: object, _path: str) -> str | None:
    return None


_TEXT = _kind("TYPE_STRING", str)
_WHOLE = _kind("TYPE_INT32", int)
_NUMBER = _kind("TYPE_FLOAT", int, float)
_FLAG = _kind("TYPE_BOOL", bool)
_STRUCT = _kind("TYPE_STRUCT", dict)

_PART = Message(
    {
        "text": _TEXT,
        "thought": _FLAG,
        "thoughtSignature": _base64,
        "inlineData": Message({"mimeType": _TEXT, "data": _base64, "displayName": _TEXT}),
        "fileData": Message({"mimeType": _TEXT, "fileUri": _TEXT, "displayName": _TEXT}),
        "functionCall": Message({"id": _TEXT, "name": _TEXT, "args": _STRUCT}),
        "functionResponse": Message({"id": _TEXT, "name": _TEXT, "response": _STRUCT, "willContinue": _FLAG}),
        "mediaResolution": Message({"level": _TEXT, "numTokens": _WHOLE}),
    }
)
CONTENT = Message({"role": _TEXT, "parts": Repeated(_PART)})
_DECLARATION = Message(
    {
        "name": _TEXT,
        "description": _TEXT,
        "parameters": _STRUCT,
        "parametersJsonSchema": _anything,
        "response": _STRUCT,
        "responseJsonSchema": _anything,
        "behavior": _TEXT,
    }
)
_TOOL = Message({"functionDeclarations": Repeated(_DECLARATION)})
_CALLING = Message({"mode": _word("AUTO", "ANY", "NONE", "VALIDATED"), "allowedFunctionNames": Repeated(_TEXT)})
_THINKING = Message(
    {
        "includeThoughts": _FLAG,
        "thinkingBudget": _WHOLE,
        "thinkingLevel": _word("MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"),
    }
)
_CONFIG = Message(
    {
        "temperature": _NUMBER,
        "topP": _NUMBER,
        "topK": _NUMBER,
        "candidateCount": _WHOLE,
        "maxOutputTokens": _WHOLE,
        "stopSequences": Repeated(_TEXT),
        "seed": _WHOLE,
        "presencePenalty": _NUMBER,
        "frequencyPenalty": _NUMBER,
        "responseLogprobs": _FLAG,
        "logprobs": _WHOLE,
        "responseMimeType": _TEXT,
        "responseSchema": _STRUCT,
        "responseJsonSchema": _anything,
        "responseModalities": Repeated(_TEXT),
        "mediaResolution": _TEXT,
        "thinkingConfig": _THINKING,
    }
)
#: A whole request; `model` may be repeated in it.
REQUEST = Message(
    {
        "model": _TEXT,
        "contents": Repeated(CONTENT),
        "systemInstruction": CONTENT,
        "tools": Repeated(_TOOL),
        "toolConfig": Message({"functionCallingConfig": _CALLING}),
        "safetySettings": Repeated(Message({"category": _TEXT, "threshold": _TEXT})),
        "generationConfig": _CONFIG,
        "cachedContent": _TEXT,
        "labels": _STRUCT,
    }
)
#: An embedding's request.
EMBED_REQUEST = Message(
    {"model": _TEXT, "content": CONTENT, "taskType": _TEXT, "title": _TEXT, "outputDimensionality": _WHOLE}
)
