"""Keys of `[providers.NAME]` for the kind `together`; the README has them in a table."""

from __future__ import annotations

from pydantic import Field, field_validator

from gateway import ProviderSettings


class TogetherSettings(ProviderSettings):
    """What the kind understands."""

    #: Without `/v1`, as SDK 3 takes it; one that ends in `/v1`, as SDK 2 took it, is understood too.
    base_url: str = "https://api.together.ai"
    #: For one call that moves no file; a create call that takes longer is looked for by listing.
    timeout_seconds: float = Field(default=60.0, gt=0)
    #: For how long a transfer may stand still, and for how long a synchronous answer may take.
    transfer_timeout_seconds: float = Field(default=300.0, gt=0)
    #: For how long an uploaded file may stay unusable before the upload counts as failed.
    upload_wait_seconds: float = Field(default=300.0, ge=0)

    @field_validator("base_url")
    @classmethod
    def _without_version(cls, url: str) -> str:
        """The SDK puts `/v1` before every path itself."""
        return url.rstrip("/").removesuffix("/v1")
