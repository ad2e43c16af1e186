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


def _list(inner: Check) -> Check:
    def check(content: object, path: str) -> str | None:
        if not isinstance(content, list):
            return f"Invalid value at '{path}' (TYPE_ARRAY)"
        return next((bad for n, item in enumerate(content) if (bad := inner(item, f"{path}[{n}]"))), None)

    return check


def _message(fields: Mapping[str, Check]) -> Check:
    known = MappingProxyType(dict(fields))

    def check(content: object, path: str) -> str | None:
        if not isinstance(content, dict):
            return f"Invalid value at '{path or 'request'}' (TYPE_MESSAGE)"
        for name, field in content.items():
            if name not in known:
                at = f" at '{path}'" if path else ""
                return f'Invalid JSON payload received. Unknown name "{name[:64]}"{at}: Cannot find field.'
            if bad := known[name](field, f"{path}.{name}" if path else name):
                return bad
        return None

    return check


def _anything(_content: object, _path: str) -> str | None:
    return None


_TEXT = _kind("TYPE_STRING", str)
_WHOLE = _kind("TYPE_INT32", int)
_NUMBER = _kind("TYPE_FLOAT", int, float)
_FLAG = _kind("TYPE_BOOL", bool)
_STRUCT = _kind("TYPE_STRUCT", dict)

_PART = _message(
    {
        "text": _TEXT,
        "thought": _FLAG,
        "thoughtSignature": _base64,
        "inlineData": _message({"mimeType": _TEXT, "data": _base64, "displayName": _TEXT}),
        "fileData": _message({"mimeType": _TEXT, "fileUri": _TEXT, "displayName": _TEXT}),
        "functionCall": _message({"id": _TEXT, "name": _TEXT, "args": _STRUCT}),
        "functionResponse": _message({"id": _TEXT, "name": _TEXT, "response": _STRUCT, "willContinue": _FLAG}),
        "mediaResolution": _message({"level": _TEXT, "numTokens": _WHOLE}),
    }
)
CONTENT = _message({"role": _TEXT, "parts": _list(_PART)})
_DECLARATION = _message(
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
_TOOL = _message({"functionDeclarations": _list(_DECLARATION)})
_CALLING = _message({"mode": _word("AUTO", "ANY", "NONE", "VALIDATED"), "allowedFunctionNames": _list(_TEXT)})
_THINKING = _message(
    {
        "includeThoughts": _FLAG,
        "thinkingBudget": _WHOLE,
        "thinkingLevel": _word("MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"),
    }
)
_CONFIG = _message(
    {
        "temperature": _NUMBER,
        "topP": _NUMBER,
        "topK": _NUMBER,
        "candidateCount": _WHOLE,
        "maxOutputTokens": _WHOLE,
        "stopSequences": _list(_TEXT),
        "seed": _WHOLE,
        "presencePenalty": _NUMBER,
        "frequencyPenalty": _NUMBER,
        "responseLogprobs": _FLAG,
        "logprobs": _WHOLE,
        "responseMimeType": _TEXT,
        "responseSchema": _STRUCT,
        "responseJsonSchema": _anything,
        "responseModalities": _list(_TEXT),
        "mediaResolution": _TEXT,
        "thinkingConfig": _THINKING,
    }
)
#: A whole request; `model` may be repeated in it.
REQUEST = _message(
    {
        "model": _TEXT,
        "contents": _list(CONTENT),
        "systemInstruction": CONTENT,
        "tools": _list(_TOOL),
        "toolConfig": _message({"functionCallingConfig": _CALLING}),
        "safetySettings": _list(_message({"category": _TEXT, "threshold": _TEXT})),
        "generationConfig": _CONFIG,
        "cachedContent": _TEXT,
        "labels": _STRUCT,
    }
)
#: An embedding's request.
EMBED_REQUEST = _message(
    {"model": _TEXT, "content": CONTENT, "taskType": _TEXT, "title": _TEXT, "outputDimensionality": _WHOLE}
)
