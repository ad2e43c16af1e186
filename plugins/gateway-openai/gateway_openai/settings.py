"""Keys of `[providers.NAME]` for the kinds of this plugin; the README has them in a table."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway import ProviderSettings


class OpenAISettings(ProviderSettings):
    """What both kinds understand."""

    base_url: str = "https://api.openai.com/v1"
    #: Sent as `OpenAI-Organization` and `OpenAI-Project`; the SDK's environment variables are not read.
    organization: str = ""
    project: str = ""
    #: For one call that moves no file; a create call that takes longer is looked for by listing.
    timeout_seconds: float = Field(default=60.0, gt=0)
    #: For how long a transfer may stand still, and for how long a synchronous answer may take.
    transfer_timeout_seconds: float = Field(default=300.0, gt=0)
    #: For how long an uploaded file may stay unusable before the upload counts as failed.
    upload_wait_seconds: float = Field(default=120.0, ge=0)
    #: How `errors.data[].line` of a refused batch counts. The base is not documented; `ignored` finds bad lines by halving.
    line_numbers: Literal["from-one", "from-zero", "ignored"] = "from-one"


class OpenAICompatibleSettings(OpenAISettings):
    """For other APIs of OpenAI's shape, each with a dialect of its own."""

    base_url: str = Field(default=..., min_length=1)
    #: Top-level body fields that are left out, silently: they do not change the answer.
    drop_fields: frozenset[str] = frozenset()
    #: Top-level body fields that are refused with a 400: batches there cannot do them.
    refuse_fields: frozenset[str] = frozenset()
    #: The header that carries the bare key; empty: `Authorization: Bearer KEY`.
    key_header: str = ""
