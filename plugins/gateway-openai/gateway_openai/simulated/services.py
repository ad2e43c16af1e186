"""Simulators of the services of OpenAI's shape that are kinds of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

from gateway.sandbox import Operation, Route
from gateway_openai.sandbox import OpenAISimulator
from gateway_openai.simulated.shape import Shape

_HOUR = 3_600.0


class CompatibleSimulator(OpenAISimulator):
    """Any service of OpenAI's shape: whatever a table's settings put into create calls and lines is taken."""

    kind: ClassVar[str] = "openai-compatible"
    shape: ClassVar[Shape] = Shape(liberal=True)


class GroqSimulator(OpenAISimulator):
    """GroqCloud: pages by cursor, windows up to a week, fields that are refused."""

    kind: ClassVar[str] = "groq"
    base_path: ClassVar[str] = "/openai/v1"
    priced_model: ClassVar[str] = "openai/gpt-oss-20b"
    shape: ClassVar[Shape] = Shape(
        prefixes=("/openai/v1",),
        windows=MappingProxyType({"24h": 24 * _HOUR, "7d": 168 * _HOUR}),
        by_cursor=True,
        bare_errors=True,
        bare_answers=True,
        refused_fields=frozenset({"logprobs", "top_logprobs", "logit_bias", "n"}),
        message_names=False,
    )


class KlusterSimulator(OpenAISimulator):
    """kluster.ai as it was: windows from an hour up, times as strings."""

    kind: ClassVar[str] = "kluster"
    shape: ClassVar[Shape] = Shape(
        windows=MappingProxyType({f"{hours}h": hours * _HOUR for hours in (24, 1, 3, 6, 12)}),
        text_times=True,
        refused_fields=frozenset({"n", "response_format", "modalities", "audio"}),
        message_names=False,
    )


class AzureSimulator(OpenAISimulator):
    """One Azure OpenAI resource, at both forms of its address; nothing expires by itself."""

    kind: ClassVar[str] = "azure"
    base_path: ClassVar[str] = "/openai/v1"
    priced_model: ClassVar[str] = "gpt-4.1-mini"
    shape: ClassVar[Shape] = Shape(
        prefixes=("/openai/v1", "/openai"),
        endpoints=frozenset({"/chat/completions", "/v1/chat/completions"}),
        endless_window=True,
        empty_ids=True,
        loose_urls=True,
    )

    def shape_at(self, prefix: str) -> Shape:
        """The address without a version in it shows batches as the dated interface is documented."""
        return replace(self.shape, formal=prefix == "/openai")

    def routes(self) -> Iterator[Route]:
        """Also the synchronous path that names the deployment."""
        yield from super().routes()
        path = "/openai/deployments/{deployment}/chat/completions"
        yield Route(method="POST", path=path, answer=self.complete, operation=Operation.COMPLETE)
