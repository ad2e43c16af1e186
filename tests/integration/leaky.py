"""A plugin that raises where it must not, and whose exceptions quote keys and prompts: one kind for each verb that breaks."""

from __future__ import annotations

from pathlib import Path

_SOURCE = """
from gateway import hookimpl
from gateway_openai import OpenAIProvider
from gateway_openai.fanout import FanOutProvider

TEXT = {text!r}


def leak_key(*_, **__):
    raise RuntimeError(TEXT.split()[0])


def leak(*_, **__):
    raise RuntimeError(TEXT)


async def leak_later(*_, **__):
    raise RuntimeError(TEXT)


class Late(OpenAIProvider):
    # Breaks when its window seals: lines are framed at admission, too.
    kind = "leaky-seal"
    framed = 0

    def frame(self, line_id, payload):
        self.framed += 1
        return super().frame(line_id, payload) if self.framed == 1 else leak()


def kinds():
    yield Late
    for verb in {start!r}:
        yield type("Leaky", (OpenAIProvider,), {{"kind": "leaky-" + verb.strip("_"), verb: leak_key}})
    for verb in {plain!r}:
        yield type("Leaky", (OpenAIProvider,), {{"kind": "leaky-" + verb, verb: leak}})
    for verb in {later!r}:
        yield type("Leaky", (OpenAIProvider,), {{"kind": "leaky-" + verb, verb: leak_later}})
    yield type("Leaky", (FanOutProvider,), {{"kind": "leaky-complete", "complete_payload": leak_later}})


@hookimpl
def register_providers():
    return list(kinds())
"""
#: Verbs that break when a gateway starts, where nobody has asked yet: their words begin with a key, and that is all.
AT_START = ("__init__", "limits_of")
#: While a request is read, and when answers are.
PURE = ("encode", "dropped", "frame", "decode", "output_schema")
CALLS = ("upload", "submit", "find", "poll", "fetch", "cancel", "discard")


def name(verb: str) -> str:
    """The kind whose `verb` breaks, and its table."""
    return f"leaky-{verb.strip('_')}"


#: What the log calls a fault of the plugin, each at the kind of its name.
FAULTY = (*PURE, *CALLS, "complete")
KINDS = tuple(map(name, (*AT_START, *FAULTY, "seal")))


def installed(site: Path, text: str) -> Path:
    """A folder with the plugin as pip would have put it there; all its exceptions say `text`."""
    metadata = site / "leaky-1.0.dist-info"
    metadata.mkdir(parents=True)
    source = _SOURCE.format(text=text, start=AT_START, plain=PURE, later=CALLS)
    (site / "leaky.py").write_text(source, encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[batchway]\nleaky = leaky\n", encoding="utf-8")
    return site


def table(kind: str, address: str, key: str) -> str:
    """The table of one kind, before a simulator."""
    return (
        f'[providers.{kind}]\nkind = "{kind}"\napi_key = "{key}"\nbase_url = "{address}"\n'
        "limits = { min_poll_seconds = 0.05 }\n"
    )
