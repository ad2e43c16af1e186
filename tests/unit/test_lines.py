"""What a call becomes as a line of a batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import Refusal
from gateway.lines import LONGEST_LINE_ID, encoded, estimated_tokens, line_size
from gateway.records import Call, Limits
from gateway.testing import FakeClock, FakeProvider, FakeRemote, FakeSettings


@pytest.fixture
def provider(tmp_path: Path) -> FakeProvider:
    """A provider in memory."""
    clock = FakeClock()
    return FakeProvider("fake", FakeSettings(remote=FakeRemote(clock=clock)), clock, tmp_path)


def call(**fields: object) -> Call:
    """A chat call."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields}
    return Call(endpoint="/v1/chat/completions", model="m", body=body)


def test_an_unsupported_field_is_named(provider: FakeProvider) -> None:
    """What the provider cannot express is refused with a 400 that names the field."""
    with pytest.raises(Refusal) as caught:
        encoded(provider, call(unsupported=1))

    assert (caught.value.rule.status, caught.value.param) == (400, "unsupported")


def test_a_bug_in_a_plugin_is_called_one(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that raises something else is named, and the caller gets a 502, not a bare 500."""
    monkeypatch.setattr(provider, "encode", lambda call: call.nothing)

    with pytest.raises(Refusal, match=r"'fake'.*AttributeError") as caught:
        encoded(provider, call())

    assert (caught.value.rule.status, caught.value.code) == (502, "provider_unavailable")


def test_a_line_is_as_large_as_it_will_ever_be(provider: FakeProvider) -> None:
    """The size of a line counts its longest name and its newline."""
    payload = encoded(provider, call()).payload

    assert line_size(provider, Limits(), payload) == len(provider.frame(LONGEST_LINE_ID, payload) + b"\n")


def test_a_line_over_the_providers_limit_is_refused(provider: FakeProvider) -> None:
    """One byte more than the provider takes is a 413, exactly as much is not."""
    payload = encoded(provider, call()).payload
    size = line_size(provider, Limits(), payload)

    assert line_size(provider, Limits(max_line_bytes=size), payload) == size
    with pytest.raises(Refusal) as caught:
        line_size(provider, Limits(max_line_bytes=size - 1), payload)
    assert caught.value.rule.status == 413


def test_an_image_counts_by_the_piece() -> None:
    """A large inline image is a thousand tokens, whatever its bytes."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300_000}}
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, image]}]}

    assert 1_000 < estimated_tokens(body, 300_200) < 1_200


@pytest.mark.parametrize("messages", [None, 7, [None], [{"content": 7}], [{"content": [7, {"type": 7}]}]])
def test_odd_messages_are_estimated_all_the_same(messages: object) -> None:
    """An estimate is made of whatever a caller sends."""
    assert estimated_tokens({"messages": messages}, 300) == 100
