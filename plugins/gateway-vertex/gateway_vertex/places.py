"""Names in Cloud Storage: where a batch's input lies, and where its results will be. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

_SCHEME = "gs://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A bucket and a prefix of names in it; the prefix is empty or ends in a slash."""

    bucket: str
    prefix: str = ""

    @classmethod
    def parse(cls, uri: str) -> Self | None:
        """The place that `gs://BUCKET/PREFIX` names, with or without slashes at the end; None when it names none."""
        if not uri.startswith(_SCHEME):
            return None
        bucket, _, prefix = uri.removeprefix(_SCHEME).partition("/")
        if not _BUCKET.fullmatch(bucket):
            return None
        prefix = prefix.strip("/")
        return cls(bucket=bucket, prefix=f"{prefix}/" if prefix else "")

    @property
    def uri(self) -> str:
        """With a slash at the end."""
        return f"{_SCHEME}{self.bucket}/{self.prefix}"

    def of_batch(self, marker: str) -> Self:
        """Everything of one batch; nothing else is ever there."""
        return type(self)(bucket=self.bucket, prefix=f"{self.prefix}{marker}/")

    @property
    def input_name(self) -> str:
        """The object that has the lines of the batch whose place this is."""
        return f"{self.prefix}input.jsonl"

    @property
    def output(self) -> Self:
        """Where the job of the batch whose place this is makes its own directory."""
        return type(self)(bucket=self.bucket, prefix=f"{self.prefix}output/")
