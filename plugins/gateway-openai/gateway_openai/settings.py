"""Keys of `[providers.NAME]` for the kinds of this plugin; the README has them in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

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


class GroqSettings(OpenAISettings):
    """GroqCloud; `base_url` with `/openai/v1`."""

    base_url: str = "https://api.groq.com/openai/v1"
    #: Under load a short window really does expire: a long one costs the same.
    completion_window: Literal["24h", "7d"] = "24h"


class KlusterSettings(OpenAISettings):
    """kluster.ai as it was documented."""

    base_url: str = "https://api.kluster.ai/v1"
    #: A longer one was cheaper.
    completion_window: Literal["1h", "3h", "6h", "12h", "24h"] = "24h"


class AzureSettings(OpenAISettings):
    """One Azure OpenAI resource."""

    #: `https://RESOURCE.openai.azure.com`; what follows the host is `/openai/v1`, or `/openai` where `api_version` is given.
    base_url: str = Field(default=..., min_length=1)
    #: Sent as `?api-version=`; empty for the `/openai/v1` addresses, which have none.
    api_version: str = ""
    #: `entra`: `api_key` is a Microsoft Entra token and goes out as `Authorization: Bearer`.
    auth: Literal["api-key", "entra"] = "api-key"
    #: What the create call names. Microsoft's documents show it without `/v1`, and the lines with it.
    create_endpoint: str = "/chat/completions"
    #: What the lines name.
    line_url: str = "/v1/chat/completions"

    @model_validator(mode="before")
    @classmethod
    def _whole_address(cls, given: object) -> object:
        """The resource's bare endpoint, as Azure's portal shows it, and either of its two paths, in the form that is meant."""
        url = given.get("base_url") if isinstance(given, Mapping) else None
        if not isinstance(given, Mapping) or not isinstance(url, str) or not urlsplit(url).hostname:
            return given
        root = url.rstrip("/").removesuffix("/v1").removesuffix("/openai")
        if urlsplit(root).path:
            return given
        return {**given, "base_url": f"{root}/openai" if given.get("api_version") else f"{root}/openai/v1"}


class OpenAICompatibleSettings(OpenAISettings):
    """For other APIs of OpenAI's shape, each with a dialect of its own."""

    base_url: str = Field(default=..., min_length=1)
    #: Top-level body fields that are left out, silently: they do not change the answer.
    drop_fields: frozenset[str] = frozenset()
    #: Top-level body fields that are refused with a 400: batches there cannot do them.
    refuse_fields: frozenset[str] = frozenset()
    #: The header that carries the bare key; empty: `Authorization: Bearer KEY`.
    key_header: str = ""
    #: What the create call asks for, and by which the batch's age is judged, as `1h`, `24h`, `7d`.
    completion_window: str = Field(default="24h", pattern=r"^[1-9][0-9]{0,3}[hd]$")
    #: What the lines and the create call name instead of `/v1/chat/completions`; empty: that.
    endpoint: str = ""
    #: Further fields of the create call, like `{ auto_delete_input_file = false }`.
    create_fields: Mapping[str, str | int | float | bool] = Field(default_factory=dict)
    #: The header of the create call that carries the batch's marker, where a provider takes a repeated one for the same call.
    idempotency_header: str = Field(default="", pattern=r"^[A-Za-z0-9-]*$")
