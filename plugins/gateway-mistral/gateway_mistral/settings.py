"""Keys of `[providers.NAME]` for the kind `mistral`; the README has them in a table."""

from __future__ import annotations

from pydantic import Field, field_validator

from gateway import ProviderSettings

#: The most requests that one create call may carry, by the published API description.
MOST_INLINE = 10_000


class MistralSettings(ProviderSettings):
    """What the kind understands."""

    #: Without `/v1`, which the SDK puts before every path; one that ends in it is understood too.
    base_url: str = "https://api.mistral.ai"
    #: A batch of at most so many requests, and at most so many bytes, goes inside the create call, without an upload.
    inline_max_requests: int = Field(default=1_000, ge=0, le=MOST_INLINE)
    inline_max_bytes: int = Field(default=4_000_000, ge=0)
    #: For how long a job may run before the provider gives up the rest of it.
    timeout_hours: int = Field(default=24, ge=1, le=168)
    #: Top-level fields of bodies that are neither checked nor refused, but sent as they are.
    pass_fields: frozenset[str] = frozenset()
    #: For one call that moves no bulk; a create call that takes longer is looked for by listing.
    timeout_seconds: float = Field(default=60.0, gt=0)
    #: For how long a transfer, or an inline create call, may stand still; for how long a synchronous answer may take.
    transfer_timeout_seconds: float = Field(default=300.0, gt=0)

    @field_validator("base_url")
    @classmethod
    def _without_version(cls, url: str) -> str:
        return url.rstrip("/").removesuffix("/v1")
