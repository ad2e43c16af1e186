"""What of a caller's body goes into a line."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_lab import CHAT, chat

from gateway import Call, Unsupported
from gateway_openai import OpenAICompatibleProvider, OpenAIProvider
from gateway_openai.encode import encode_line

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


def encoded(body: dict[str, object]) -> dict[str, object]:
    """The body that is sent for `body`."""
    line = orjson.loads(encode_line(Call(endpoint=CHAT, model=str(body.get("model")), body=body)))
    assert (line["method"], line["url"]) == ("POST", CHAT)
    return line["body"]


def test_a_body_goes_through_as_it_is() -> None:
    """Known and unknown fields are sent unchanged, but for streaming, which a batch cannot do."""
    body = chat("hello", temperature=0.5, n=2, brand_new={"deep": [1, None]}, user="me")

    assert encoded(body | {"stream": True, "stream_options": {"include_usage": True}}) == body


def test_metadata_needs_store() -> None:
    """`metadata` is sent only together with `store: true`, since the API refuses it otherwise."""
    metadata = {"task": "one"}

    assert "metadata" not in encoded(chat("x", metadata=metadata))
    assert "metadata" not in encoded(chat("x", metadata=metadata, store=False))
    assert encoded(chat("x", metadata=metadata, store=True))["metadata"] == metadata


@pytest.mark.parametrize("tier", ["auto", "default", "flex", None])
def test_tiers_that_a_batch_is_anyway_are_dropped(tier: str | None) -> None:
    """Service tiers that mean nothing else than a batch are left out."""
    assert "service_tier" not in encoded(chat("x", service_tier=tier))


@pytest.mark.parametrize("tier", ["scale", "fast", "priority", 5, ["flex"]])
def test_other_tiers_are_refused(tier: object) -> None:
    """A service tier that a batch cannot give is refused by name."""
    with pytest.raises(Unsupported) as caught:
        encoded(chat("x", service_tier=tier))

    assert caught.value.field == "service_tier"


@pytest.mark.parametrize("odd", [2**70, "\ud800"])
def test_values_that_json_cannot_hold_are_refused(odd: object) -> None:
    """A value that cannot be written as JSON is refused with the name of its field."""
    with pytest.raises(Unsupported) as caught:
        encoded(chat("x", seed=odd))

    assert caught.value.field == "seed"


@given(st.dictionaries(st.text(min_size=1, max_size=8), JSON, max_size=5))
def test_any_json_body_survives(fields: dict[str, object]) -> None:
    """Whatever JSON object a caller sends, the line is one line of bytes and gives the same body back."""
    body = {f"x_{key}": field for key, field in fields.items()} | {"model": "m", "messages": []}
    payload = encode_line(Call(endpoint=CHAT, model="m", body=body))

    assert b"\n" not in payload
    assert orjson.loads(payload)["body"] == body


def test_a_frame_names_its_line() -> None:
    """Framing puts the line id in front and changes nothing else."""
    payload = encode_line(Call(endpoint=CHAT, model="sim-small", body=chat("x")))
    line = orjson.loads(OpenAIProvider.frame(None, "m-7", payload))

    assert line == {"custom_id": "m-7", "method": "POST", "url": CHAT, "body": chat("x")}


def test_a_dialect_is_configuration() -> None:
    """A compatible provider drops what it is told to drop, silently, and refuses what it is told to refuse, by name."""
    settings = OpenAICompatibleProvider.Settings.model_validate(
        {"api_key": "k", "base_url": "http://127.0.0.1:9/v1", "drop_fields": ["user"], "refuse_fields": ["logprobs"]}
    )
    provider = OpenAICompatibleProvider("other", settings, clock=None, directory=None)
    dropped = provider.encode(Call(endpoint=CHAT, model="m", body=chat("x", user="me", logprobs=None)))

    assert "user" not in orjson.loads(dropped)["body"]
    with pytest.raises(Unsupported) as caught:
        provider.encode(Call(endpoint=CHAT, model="m", body=chat("x", logprobs=True)))
    assert caught.value.field == "logprobs"
