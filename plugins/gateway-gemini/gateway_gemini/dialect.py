"""What differs between models and between Google's two APIs, as records: configuration fills them, translation reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType

#: What stands for a thought signature that was never ours: history from another model, or written by hand. Google's page
#: "Thought signatures" gives it for that purpose; Gemini 3 and later answer 400 to a call without any.
PLACEHOLDER = "skip_thought_signature_validator"

#: Media that Gemini takes inside a request, from the pages on images, audio, video and documents.
MEDIA_TYPES = frozenset(
    {
        *("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"),
        *("audio/wav", "audio/x-wav", "audio/mpeg", "audio/mp3", "audio/aiff", "audio/aac", "audio/ogg", "audio/flac"),
        *("video/mp4", "video/mpeg", "video/quicktime", "video/webm", "video/3gpp"),
        *("application/pdf", "application/json", "application/xml"),
        *("text/plain", "text/html", "text/css", "text/markdown", "text/csv", "text/xml", "text/javascript"),
    }
)

#: Addresses of uploaded files, which Gemini reads by itself; it fetches no others.
FILE_PREFIXES = (
    "https://generativelanguage.googleapis.com/v1/files/",
    "https://generativelanguage.googleapis.com/v1beta/files/",
)

_OFF = 0
_LEVELS: Mapping[str, int | str] = MappingProxyType(
    {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH", "max": "HIGH"}
)
_PRO_LEVELS: Mapping[str, int | str] = MappingProxyType({**_LEVELS, "minimal": "LOW"})
_FIRST_PRO_LEVELS: Mapping[str, int | str] = MappingProxyType({**_PRO_LEVELS, "medium": "HIGH"})
_BUDGETS: Mapping[str, int | str] = MappingProxyType(
    {
        "none": _OFF,
        "minimal": 1_024,
        "low": 1_024,
        "medium": 8_192,
        "high": 24_576,
        "xhigh": 24_576,
        "max": 24_576,
    }
)
_PRO_BUDGETS: Mapping[str, int | str] = MappingProxyType(
    {
        effort: 32_768 if effort in ("xhigh", "max") else tokens
        for effort, tokens in _BUDGETS.items()
        if effort != "none"
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Models that are asked in the same way."""

    #: Globs over the model's name, without `models/` in front.
    models: tuple[str, ...]
    #: `reasoning_effort` -> `thinkingBudget` in tokens, or `thinkingLevel` by name; what is missing is refused.
    efforts: Mapping[str, int | str] = field(default_factory=dict)
    #: Sent where a replayed function call has no signature; empty: nothing is.
    placeholder: str = ""
    #: Whether JSON may be asked for and functions be declared in one request.
    json_with_tools: bool = True
    #: The largest `candidateCount`; a larger `n` is refused, and the gateway asks n times.
    max_candidates: int = 1


#: First match wins. Efforts as Google's own OpenAI-compatible endpoint maps them; xhigh and max are the highest that
#: every model of the family takes.
FAMILIES = (
    Family(models=("gemini-1.*", "gemini-2.0*", "gemma*", "learnlm*"), json_with_tools=False),
    Family(models=("gemini-2.5-pro*",), efforts=_PRO_BUDGETS, json_with_tools=False),
    Family(models=("gemini-2.5*",), efforts=_BUDGETS, json_with_tools=False),
    Family(models=("gemini-3-pro*",), efforts=_FIRST_PRO_LEVELS, placeholder=PLACEHOLDER),
    Family(models=("gemini-3*-pro*",), efforts=_PRO_LEVELS, placeholder=PLACEHOLDER),
    Family(models=("*",), efforts=_LEVELS, placeholder=PLACEHOLDER),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How requests are written."""

    families: tuple[Family, ...] = FAMILIES
    media_types: frozenset[str] = MEDIA_TYPES
    #: Links that begin like this go out as `fileData`; every other is refused.
    file_prefixes: tuple[str, ...] = FILE_PREFIXES
    #: A system message inside the conversation is moved to the front, instead of being refused.
    hoist_system: bool = False
    #: Ask for summaries of thoughts; they come back as `reasoning_content`.
    include_thoughts: bool = False

    def family(self, model: str) -> Family:
        """The first family that `model` belongs to; one that knows nothing when there is none."""
        name = model.removeprefix("models/").rpartition("/")[2]
        for family in self.families:
            if any(fnmatchcase(name, pattern) for pattern in family.models):
                return family
        return Family(models=("*",))
