"""What a call becomes as a line of a batch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refusal, Unsupported
from gateway.lines import LONGEST_HEADER, LONGEST_LINE_ID, dropped, encoded, estimated_tokens, line_size
from gateway.metrics import Metrics
from gateway.provider import Provider
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
    """What the provider cannot express is refused with a 400 that begins with the field, whatever the plugin says of it."""
    with pytest.raises(
        Refusal, match=r"^Field 'unsupported', provider 'fake': .+\. Nothing was sent or paid\.$"
    ) as caught:
        encoded(provider, call(unsupported=1), Metrics())

    assert (caught.value.rule.status, caught.value.param) == (400, "unsupported")


def test_a_bug_in_a_plugin_is_called_one(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that raises something else is named, and the caller gets a 502, not a bare 500."""
    monkeypatch.setattr(provider, "encode", lambda call: call.nothing)

    with pytest.raises(Refusal, match=r"'fake'.*AttributeError") as caught:
        encoded(provider, call(), Metrics())

    assert (caught.value.rule.status, caught.value.code) == (502, "provider_unavailable")


@pytest.mark.parametrize("verb", ["encode", "frame", "dropped"])
def test_a_bug_in_a_plugin_is_counted(leaving: Leaving, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Each bug met at admission is in the plugin's count of faults, and logged under the plugin's name with its verb."""
    metrics = Metrics()
    monkeypatch.setattr(leaving if verb != "dropped" else Leaving, verb, lambda *_: 1 // 0)

    with structlog.testing.capture_logs() as logs:
        if verb == "dropped":
            dropped(leaving, call(), metrics)
        else:
            with pytest.raises(Refusal):
                line_size(leaving, Limits(), encoded(leaving, call(), metrics).payload, metrics)

    assert b'plugin_faults_total{provider="fake"} 1.0' in metrics.render()
    assert [(log["provider"], log["verb"], log["raised"]) for log in logs] == [("fake", verb, "ZeroDivisionError")]


@pytest.mark.parametrize("verb", ["encode", "frame", "dropped"])
def test_a_plugin_that_wants_to_end_the_process_does_not(
    leaving: Leaving, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """A library that calls sys.exit() under a plugin's verb is a bug in the plugin, met by one caller."""
    metrics = Metrics()
    monkeypatch.setattr(leaving if verb != "dropped" else Leaving, verb, lambda *_: sys.exit(1))

    if verb == "dropped":
        assert dropped(leaving, call(), metrics) == ""
    else:
        with pytest.raises(Refusal, match="SystemExit"):
            line_size(leaving, Limits(), encoded(leaving, call(), metrics).payload, metrics)


def test_a_plugin_that_encodes_to_nothing_is_named(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not bytes is refused as a bug in the plugin before anything is made of it; the log says what it was."""
    monkeypatch.setattr(provider, "encode", lambda _: None)

    with structlog.testing.capture_logs() as logs, pytest.raises(Refusal, match="a bug in the plugin"):
        encoded(provider, call(), Metrics())
    assert "returned NoneType from encode, not bytes" in logs[0]["exception"]


def test_a_bug_in_a_plugin_does_not_log_the_prompt(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has what was raised and where, and nothing of what the exception quotes."""

    def quoting(call: Call) -> bytes:
        raise ValueError(f"cannot encode {call.body}")

    monkeypatch.setattr(provider, "encode", quoting)
    with structlog.testing.capture_logs() as logs, pytest.raises(Refusal):
        encoded(provider, call(), Metrics())

    [entry] = logs
    assert (entry["event"], entry["verb"], entry["raised"]) == ("plugin_fault", "encode", "ValueError")
    assert "in quoting" in entry["exception"]
    assert "hello" not in str(entry)


def test_a_line_is_as_large_as_it_will_ever_be(provider: FakeProvider) -> None:
    """The size of a line counts its longest name and its newline."""
    payload = encoded(provider, call(), Metrics()).payload

    assert line_size(provider, Limits(), payload, Metrics()) == len(provider.frame(LONGEST_LINE_ID, payload) + b"\n")


def test_a_line_over_the_providers_limit_is_refused(provider: FakeProvider) -> None:
    """One byte more than the provider takes is a 413, exactly as much is not."""
    payload = encoded(provider, call(), Metrics()).payload
    size = line_size(provider, Limits(), payload, Metrics())

    assert line_size(provider, Limits(max_line_bytes=size), payload, Metrics()) == size
    with pytest.raises(Refusal) as caught:
        line_size(provider, Limits(max_line_bytes=size - 1), payload, Metrics())
    assert caught.value.rule.status == 413


class Leaving(FakeProvider):
    """A provider that leaves fields out."""

    names: Sequence[str] = ()

    def dropped(self, call: Call) -> Sequence[str]:
        """What the test says; never with an `n`."""
        if "n" in call.body:
            raise Unsupported("n", "one at a time")
        return self.names


@pytest.fixture
def leaving(tmp_path: Path) -> Leaving:
    """A provider that leaves fields out."""
    clock = FakeClock()
    return Leaving("fake", FakeSettings(remote=FakeRemote(clock=clock)), clock, tmp_path)


def test_dropped_fields_are_named_once(leaving: Leaving) -> None:
    """Each name stands once in the header, in the plugin's order, and nothing that could end a header line."""
    leaving.names = ["b", "a", "b", "c\r\nx-evil: 1", "messages[0].name"]

    assert dropped(leaving, call(), Metrics()) == "b, a, messages[0].name"


def test_a_provider_that_leaves_nothing_out_is_not_asked(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plugins that do not say what they drop, drop nothing, and cost nothing."""
    asked: list[Call] = []
    monkeypatch.setattr(Provider, "dropped", lambda _, call: asked.append(call))

    assert dropped(provider, call(), Metrics()) == ""
    assert asked == []


def test_dropped_fields_fit_a_header(leaving: Leaving) -> None:
    """A caller chooses how many fields there are to drop; the header ends with dots before it gets too long."""
    leaving.names = [f"messages[{index}].name" for index in range(1000)]

    found = dropped(leaving, call(), Metrics())
    assert len(found) < LONGEST_HEADER + 10
    assert found.startswith("messages[0].name, messages[1].name, ")
    assert found.endswith("].name, ...")


def test_a_bug_in_dropped_costs_only_the_header(leaving: Leaving, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that raises is logged under its name, and the request goes on without the header."""
    monkeypatch.setattr(Leaving, "dropped", lambda _, call: call.nothing)

    with structlog.testing.capture_logs() as logs:
        assert dropped(leaving, call(), Metrics()) == ""
    assert [(log["event"], log["provider"], log["verb"]) for log in logs] == [("plugin_fault", "fake", "dropped")]


def test_a_plugin_that_refuses_when_asked_is_no_bug(leaving: Leaving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the `n` that core took from the call there are names; any other refusal means none, and is not logged."""
    leaving.names = ["a"]
    assert dropped(leaving, call(n=2), Metrics()) == "a"

    def refuse(self: Leaving, call: Call) -> Sequence[str]:
        raise Unsupported("store", "no store")

    monkeypatch.setattr(Leaving, "dropped", refuse)
    with structlog.testing.capture_logs() as logs:
        assert dropped(leaving, call(n=2), Metrics()) == ""
    assert logs == []


def test_an_image_counts_by_the_piece() -> None:
    """A large inline image is a thousand tokens, whatever its bytes."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300_000}}
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, image]}]}

    assert 1_000 < estimated_tokens(body, 300_200) < 1_200


@pytest.mark.parametrize("messages", [None, 7, [None], [{"content": 7}], [{"content": [7, {"type": 7}]}]])
def test_odd_messages_are_estimated_all_the_same(messages: object) -> None:
    """An estimate is made of whatever a caller sends."""
    assert estimated_tokens({"messages": messages}, 300) == 100


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("x" * 300, 100),
        ([{"type": "text", "text": "x" * 300}], 100),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300_000}}], 1000),
        ([{"type": "input_image", "image_url": "data:" + "A" * 300_000}], 1000),
        ([{"type": "file", "file": {"file_data": "A" * 300_000}}], 1000),
        ([{"type": "input_audio", "input_audio": {"data": "A" * 300_000, "format": "wav"}}], 1000),
        ([{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}] * 3, 3000),
    ],
)
def test_tokens_are_reckoned_by_text_and_by_the_piece(content: object, tokens: int) -> None:
    """A third of the text's bytes, and a thousand for each image or file whatever its bytes."""
    body: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": content}]}
    found = estimated_tokens(body, len(orjson.dumps(body)))
    assert tokens <= found <= tokens * 1.2 + 60


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["content", "type", "text", "x"]), inner, max_size=3)
        ),
        max_leaves=10,
    ),
    st.integers(0, 10**6),
)
def test_every_body_has_an_estimate(messages: object, size: int) -> None:
    """Whatever a client writes where messages belong, there is a number of at least one."""
    assert estimated_tokens({"messages": messages}, size) >= 1
