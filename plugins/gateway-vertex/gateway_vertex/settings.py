"""Keys of `[providers.NAME]` for the kind `vertex`; the README has them in a table."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from gateway import ProviderSettings
from gateway_gemini.dialect import FAMILIES, Dialect
from gateway_gemini.settings import FamilySettings
from gateway_vertex.places import Place

#: Stands for Google's own hosts, of which the location chooses one.
GOOGLE = "https://aiplatform.googleapis.com"
GOOGLE_STORAGE = "https://storage.googleapis.com"
#: Locations that are several regions have hosts of their own form, as google-genai 3.4.0 builds them.
_MULTI_REGIONS = frozenset({"us", "eu"})
#: What a simulator on this machine takes for granted, so that `sandbox = true` needs nothing else.
_SANDBOX = MappingProxyType({"project": "sandbox", "bucket": "gs://sandbox", "access_token": "sandbox"})


class VertexSettings(ProviderSettings):
    """Where jobs and objects are, and who asks for them."""

    #: Not used for anything: an empty one would disable the provider, and Google Cloud has credentials, not keys.
    api_key: SecretStr = SecretStr("application-default-credentials")
    #: Of the jobs API; as it is, or empty: Google's host for `location`.
    base_url: str = GOOGLE
    #: Of Cloud Storage. Empty: Google's, or `base_url` where that is not Google's.
    storage_url: str = ""
    project: str = Field(default="", validate_default=True)
    location: str = Field(default="global", pattern=r"^[a-z0-9-]+$")
    #: `gs://BUCKET` or `gs://BUCKET/PREFIX`: inputs and outputs of batches are below it.
    bucket: str = Field(default="", validate_default=True)
    #: An OAuth token, for emulators. Empty: Application Default Credentials.
    access_token: SecretStr = SecretStr("")
    #: The label of a request that carries its line's name; empty: the field `key` beside the request.
    label_key: str = Field(default="batchway-line", pattern=r"^([a-z][a-z0-9_-]{0,62})?$")
    #: For one call that moves no file; a create call that takes longer is looked for by listing.
    timeout_seconds: float = Field(default=60.0, gt=0)
    #: For how long a transfer may stand still, and for how long a synchronous answer may take.
    transfer_timeout_seconds: float = Field(default=300.0, gt=0)
    #: What becomes of a system message inside the conversation: a 400, or it moves to the front.
    late_system: Literal["refuse", "hoist"] = "refuse"
    #: Ask for summaries of thoughts; they come back as `reasoning_content`.
    include_thoughts: bool = False
    families: tuple[FamilySettings, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _furnish_a_sandbox(cls, given: object) -> object:
        """An API on this machine is a simulator: it needs no project, bucket or token of anybody's."""
        if isinstance(given, Mapping) and _is_this_machine(given.get("base_url")):
            return {**_SANDBOX, **given}
        return given

    @field_validator("project")
    @classmethod
    def _check_project(cls, project: str) -> str:
        if not project or "/" in project:
            raise PydanticCustomError("project", "set it to the id of the Google Cloud project that pays for the jobs")
        return project

    @field_validator("bucket")
    @classmethod
    def _check_bucket(cls, bucket: str) -> str:
        if Place.parse(bucket) is None:
            raise PydanticCustomError(
                "bucket", 'set it to a Cloud Storage bucket, like "gs://my-bucket" or "gs://my-bucket/batchway"'
            )
        return bucket

    @property
    def place(self) -> Place:
        """The bucket and what comes before all our names in it."""
        place = Place.parse(self.bucket)
        assert place is not None  # noqa: S101 - checked when the settings were made
        return place

    @property
    def dialect(self) -> Dialect:
        """How requests are written under these settings; Gemini's Files API is not to be had here."""
        return Dialect(
            families=(*(table.family() for table in self.families), *FAMILIES),
            file_prefixes=(),
            hoist_system=self.late_system == "hoist",
            include_thoughts=self.include_thoughts,
        )

    @property
    def jobs_url(self) -> str:
        """The jobs API's own address."""
        if not self.is_google:
            return self.base_url
        if self.location == "global":
            return GOOGLE
        if self.location in _MULTI_REGIONS:
            return f"https://aiplatform.{self.location}.rep.googleapis.com"
        return f"https://{self.location}-aiplatform.googleapis.com"

    @property
    def objects_url(self) -> str:
        """Cloud Storage's own address."""
        return self.storage_url or (GOOGLE_STORAGE if self.is_google else self.base_url)

    @property
    def is_google(self) -> bool:
        """Whether jobs go to Google's own hosts, chosen by location."""
        return self.base_url.rstrip("/") in ("", GOOGLE)


def _is_this_machine(url: object) -> bool:
    host = urlsplit(url).hostname if isinstance(url, str) else None
    if host is None:
        return False
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
