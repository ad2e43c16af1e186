"""Keys of `[providers.NAME]` for the kind `gemini`; the README has them in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway import ProviderSettings
from gateway_gemini.dialect import FAMILIES, Dialect, Family

_Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class FamilySettings(BaseModel):
    """One table of `[[providers.NAME.families]]`: looked at before the families that are built in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Globs over model names, without `models/` in front.
    models: tuple[str, ...] = Field(min_length=1)
    #: `reasoning_effort` -> tokens of `thinkingBudget`, or the name of a `thinkingLevel`; others are refused.
    efforts: Mapping[_Effort, int | str] = Field(default_factory=dict)
    #: Sent as the signature of a replayed function call that has none; empty: nothing is.
    placeholder: str = ""
    #: Whether JSON output and tools go together.
    json_with_tools: bool = True
    #: The largest `candidateCount`.
    max_candidates: int = Field(default=1, ge=1)

    def family(self) -> Family:
        """The family that the table describes."""
        return Family(
            models=self.models,
            efforts={str(effort): chosen for effort, chosen in self.efforts.items()},
            placeholder=self.placeholder,
            json_with_tools=self.json_with_tools,
            max_candidates=self.max_candidates,
        )


class GeminiSettings(ProviderSettings):
    """What the kind understands."""

    base_url: str = Field(default="https://generativelanguage.googleapis.com", min_length=1)
    #: In every path.
    api_version: Literal["v1", "v1beta"] = "v1beta"
    #: Batches of at most so many bytes go inside the create call; 0: every batch goes by file, where keys are reliable.
    inline_max_bytes: int = Field(default=0, ge=0, le=19_000_000)
    #: For one call that moves no file; a create call that takes longer is looked for by listing.
    timeout_seconds: float = Field(default=60.0, gt=0)
    #: For how long a transfer may stand still, and for how long a synchronous answer may take.
    transfer_timeout_seconds: float = Field(default=300.0, gt=0)
    #: For how long an uploaded file may stay unusable before the upload counts as failed.
    upload_wait_seconds: float = Field(default=120.0, ge=0)
    #: What becomes of a system message inside the conversation: a 400, or it moves to the front.
    late_system: Literal["refuse", "hoist"] = "refuse"
    #: Ask for summaries of thoughts; they come back as `reasoning_content`.
    include_thoughts: bool = False
    families: tuple[FamilySettings, ...] = ()

    def dialect(self) -> Dialect:
        """How requests are written under these settings."""
        return Dialect(
            families=(*(table.family() for table in self.families), *FAMILIES),
            hoist_system=self.late_system == "hoist",
            include_thoughts=self.include_thoughts,
        )
