"""What a simulated provider must say to a request: asked of plugin and simulator in this process, without gateway or HTTP.

Plugin and simulator are pure where it counts, so whatever the gateway delivers can be compared with it: an answer that
belongs to somebody else shows, whoever the provider is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from gateway.clock import Clock
from gateway.errors import BatchwayError
from gateway.provider import Provider, enveloped_body
from gateway.records import Call, line_id, new_marker
from gateway.sandbox import Line, Simulator, StoredBatch
from gateway.sandbox.records import Plan

CHAT = "/v1/chat/completions"
_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The part of an answer that tells whose it is."""

    text: str
    prompt_tokens: int


class Oracle:
    """One kind of provider and its simulator, face to face."""

    def __init__(
        self, provider_class: type[Provider], simulator_class: type[Simulator], clock: Clock, directory: Path
    ) -> None:
        """Loads the kind's SDK; nothing is sent. What the two keep is in `directory`."""
        settings = provider_class.Settings.model_validate(
            {**provider_class.sandbox_settings, "base_url": "http://127.0.0.1:9", "api_key": "sandbox"}
        )
        directory.mkdir(parents=True, exist_ok=True)
        self.provider = provider_class(provider_class.kind, settings, clock, directory)
        self._simulator = simulator_class(clock=clock, directory=directory / "simulator")

    def says(self, model: str, body: Mapping[str, object]) -> Said:
        """The answer to `body`, in short. Raises `BatchwayError` when the simulator refuses the request."""
        return _said(self.completion(model, body))

    def completion(self, model: str, body: Mapping[str, object]) -> Mapping[str, object]:
        """The answer to `body`, whole. Raises `BatchwayError` when the simulator refuses the request."""
        name = line_id(new_marker(), 0)
        payload = self.provider.encode(Call(endpoint=CHAT, model=model, body={**body, "model": model}))
        if not self.provider.batch:
            line = Line(custom_id=name, model=model, body=enveloped_body(payload))
            return self._simulator.answer(line, None).body or _NOTHING
        row = self.row(self.provider.frame(name, payload), oracle_batch(model))
        return self.provider.decode(row).body or _NOTHING

    def row(self, framed: bytes, batch: StoredBatch) -> bytes:
        """The row of a result file for a framed line. Raises `BatchwayError` when the simulator refuses the line."""
        line = self._simulator.read_line(framed, batch)
        if line.problem is not None:
            raise BatchwayError(f"{self.provider.kind}: the simulator refuses the line: {line.problem.message}")
        return self._simulator.row(line, self._simulator.answer(line, None), batch)


def _said(body: Mapping[str, object]) -> Said:
    """Text and counted tokens of a completion."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    usage = body.get("usage")
    if not isinstance(message, Mapping) or not isinstance(usage, Mapping):
        raise BatchwayError(f"the simulator gives no answer: {str(body)[:200]}")
    tokens = usage.get("prompt_tokens")
    return Said(text=str(message.get("content")), prompt_tokens=tokens if isinstance(tokens, int) else 0)


def oracle_batch(model: str) -> StoredBatch:
    """A batch for lines of `model`, as far as reading them needs one."""
    plan = Plan(
        validating_seconds=0, running_seconds=0, finalizing_seconds=0, cancelling_seconds=0, window_seconds=86_400
    )
    return StoredBatch(
        id="batch_oracle", number=1, created=0.0, endpoint=CHAT, file_id="", model=model, tokens=0, plan=plan
    )
