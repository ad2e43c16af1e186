"""The contract has teeth: each promise that a provider breaks turns its test red, with a message that names the promise.

The toy provider of `batchway new-plugin` is broken in one place at a time, and pytest is run on it as an author would.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from gateway.cli.skeleton import files_of, names_of

HEAD = """
import itertools
from dataclasses import replace

import orjson

from gateway import Ambiguous, Limits, Rejected, RemoteState, Retryable, Unauthorised
from gateway.testing import ProviderContract
from gateway_toy import ToyProvider

NUMBERS = itertools.count()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """One way to break a provider: what its class body says, which test turns red, and what the message says."""

    name: str
    body: str
    test: str
    says: str
    #: More attributes of the test class.
    suite: str = ""


CASES = (
    Broken(
        name="Fickle",
        body="""
        def encode(self, call):
            return super().encode(call)[:-1] + b',"n":%d}' % next(NUMBERS)
        """,
        test="test_a_payload_is_the_same_each_time[plain]",
        says="encode is not deterministic: the same call gave different bytes",
    ),
    Broken(
        name="TwoLines",
        body="""
        def encode(self, call):
            return orjson.dumps(orjson.loads(super().encode(call)), option=orjson.OPT_INDENT_2)
        """,
        test="test_a_payload_is_the_same_each_time[plain]",
        says="encode's bytes contain a newline",
    ),
    Broken(
        name="Meddler",
        body="""
        def encode(self, call):
            call.body["messages"].append({"role": "user", "content": "and hurry"})
            call.body["messages"].pop(0)
            return super().encode(call)
        """,
        test="test_a_payload_is_the_same_each_time[plain]",
        says="encode changed the call that it was given",
    ),
    Broken(
        name="Namer",
        body="""
        def encode(self, call):
            return super().encode(call).replace(call.model.encode(), b"toy-latest")
        """,
        test="test_a_model_keeps_its_name",
        says="encode renamed the model some-model-9.9_x to toy-latest",
    ),
    Broken(
        name="Silent",
        body="""
        def dropped(self, call):
            return ()
        """,
        test="test_no_field_is_ignored_in_silence[seed]",
        says="encode ignores seed, and dropped() does not say so",
    ),
    Broken(
        name="Boaster",
        body="""
        def dropped(self, call):
            return ["temperature"] if "temperature" in call.body else ()
        """,
        test="test_what_is_dropped_makes_no_difference[temperature]",
        says="and yet the payload differs without",
    ),
    Broken(
        name="Brittle",
        body="""
        def encode(self, call):
            for message in call.body["messages"]:
                message.get("content")
            return super().encode(call)
        """,
        test="test_encode_raises_nothing_but_unsupported",
        says="AttributeError",
    ),
    Broken(
        name="Trusting",
        body="""
        def decode(self, row):
            orjson.loads(row)
            return super().decode(row)
        """,
        test="test_decode_never_raises_on_bytes",
        says="JSONDecodeError",
    ),
    Broken(
        name="Swapper",
        body="""
        def decode(self, row):
            result = super().decode(row)
            name = (result.line_id or "").replace("-1", "-x").replace("-0", "-1").replace("-x", "-0")
            return replace(result, line_id=name)
        """,
        test="test_every_line_gets_its_own_answer",
        says="got somebody else's answer",
    ),
    Broken(
        name="Splitter",
        body="""
        async def fetch(self, remote, to):
            await super().fetch(remote, to)
            rows = [orjson.dumps(orjson.loads(row)) for row in to.read_bytes().split(b"\\n") if row]
            text = b"".join(row + b"\\n" for row in rows).decode()
            to.write_text("".join(row + chr(10) for row in text.splitlines()), encoding="utf-8")
        """,
        test="test_odd_texts_come_back_whole",
        says="lines without an answer: [2]",
    ),
    Broken(
        name="Stubborn",
        body="""
        async def submit(self, batch):
            try:
                return await super().submit(batch)
            except Ambiguous:
                return await super().submit(batch)
        """,
        test="test_a_create_call_fails_by_class[500-Ambiguous-after]",
        says="must raise Ambiguous; it raised nothing",
    ),
    Broken(
        name="Insistent",
        body="""
        async def submit(self, batch):
            try:
                return await super().submit(batch)
            except Ambiguous as first:
                await super().submit(batch)
                raise first
        """,
        test="test_a_lost_answer_is_ambiguous[after]",
        says="submit sent 2 create calls: each may be a batch that is paid for",
    ),
    Broken(
        name="Optimist",
        body="""
        async def submit(self, batch):
            try:
                return await super().submit(batch)
            except Ambiguous as error:
                raise Retryable("again") from error
        """,
        test="test_a_lost_answer_is_ambiguous[before]",
        says="a create call that is cut before acting must raise Ambiguous; it raised Retryable: again",
    ),
    Broken(
        name="Blind",
        body="""
        async def find(self, batch):
            try:
                return await super().find(batch)
            except Retryable:
                return []
        """,
        test="test_other_calls_fail_by_class[500-Retryable-list]",
        says="list, answered with 500 must raise Retryable; it raised nothing",
    ),
    Broken(
        name="Gossip",
        body="""
        async def poll(self, remote):
            try:
                return await super().poll(remote)
            except Unauthorised as error:
                raise Unauthorised(error.__cause__.answered.message) from error
        """,
        test="test_a_bad_key_is_unauthorised_everywhere[poll]",
        says="poll repeats the key that was refused",
    ),
    Broken(
        name="Greedy",
        body="""
        async def find(self, batch):
            page = await self._wire.call("GET", "/batches")
            return [self._read(item) for item in page["batches"]][::-1]
        """,
        test="test_others_are_not_ours",
        says="find returns somebody else's batch",
    ),
    Broken(
        name="Impatient",
        body="""
        async def find(self, batch):
            page = await self._wire.call("GET", "/batches")
            return [self._read(item) for item in page["batches"] if item["label"] == batch.marker]
        """,
        test="test_a_long_list_is_read_to_its_end",
        says="find does not return our batch behind 120 others",
    ),
    Broken(
        name="Secretive",
        body="""
        async def list_ours(self, since):
            return []
        """,
        test="test_ours_are_listed",
        says="list_ours does not return just the batches made since then, oldest first",
    ),
    Broken(
        name="Forgetful",
        body="""
        async def submit(self, batch):
            remote = await super().submit(batch)
            self.mine = {remote.remote_id: remote}
            return remote

        async def poll(self, remote):
            self.mine[remote.remote_id]
            return await super().poll(remote)
        """,
        test="test_a_batch_outlives_the_process",
        says="has no attribute 'mine'",
    ),
    Broken(
        name="Harsh",
        body="""
        async def poll(self, remote):
            seen = await super().poll(remote)
            if seen.state is RemoteState.ENDED and seen.done != seen.total:
                return replace(seen, state=RemoteState.REFUSED, refusal=Rejected("not finished"))
            return seen
        """,
        test="test_what_is_done_is_delivered[expired]",
        says="a batch that was expired is refused",
    ),
    Broken(
        name="Easygoing",
        body="""
        async def fetch(self, remote, to):
            try:
                await super().fetch(remote, to)
            except Retryable:
                to.touch()
        """,
        test="test_a_download_that_is_cut_is_not_a_whole_one",
        says="half a download must raise Retryable; it raised nothing",
    ),
    Broken(
        name="Boundless",
        body="limits = Limits(max_requests=0)",
        test="test_limits_are_sane",
        says="limits.max_requests is 0",
    ),
    Broken(
        name="Excused",
        body="",
        suite='exempt = {"test_that_is_not_there": "we do not feel like it"}',
        test="test_exemptions_are_named_and_reasoned",
        says="exempt names test_that_is_not_there, which is no test of the contract",
    ),
    Broken(
        name="Unreasoned",
        body="",
        suite='exempt = {"test_limits_are_sane": ""}',
        test="test_exemptions_are_named_and_reasoned",
        says="exempt gives no reason for test_limits_are_sane",
    ),
)


def source_of(case: Broken) -> str:
    """The broken provider and its suite, as Python."""
    body = textwrap.indent(textwrap.dedent(case.body).strip() or "pass", "    ")
    return (
        f"class {case.name}(ToyProvider):\n{body}\n\n\n"
        f"class Test{case.name}(ProviderContract):\n    provider_class = {case.name}\n    {case.suite}\n"
    )


def run(folder: Path, text: str, *tests: str) -> dict[tuple[str, str], tuple[str, str]]:
    """(class, test) -> (passed, failed or skipped; the message), of `tests` in a file that says `text`."""
    for place, written in files_of(names_of("toy")).items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(written, encoding="utf-8")
    (folder / "tests/test_broken.py").write_text(text, encoding="utf-8")
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", *tests]
    shown = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert shown.returncode in (0, 1), shown.stdout + shown.stderr
    seen = {}
    for case in ET.parse(report).iter("testcase"):
        outcome = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        name = (case.attrib["classname"].rpartition(".")[2], case.attrib["name"])
        seen[name] = ("passed", "") if outcome is None else (outcome.tag, outcome.attrib.get("message", ""))
    return seen


@pytest.fixture(name="outcomes", scope="module")
def _outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[str, str]]:
    """What became of every broken provider, in one run of pytest."""
    text = HEAD + "\n\n".join(source_of(case) for case in CASES)
    tests = [f"tests/test_broken.py::Test{case.name}::{case.test}" for case in CASES]
    return run(tmp_path_factory.mktemp("broken") / "gateway-toy", text, *tests)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_promise_turns_red_by_its_name(case: Broken, outcomes: dict[tuple[str, str], tuple[str, str]]) -> None:
    """The test of the promise fails, and its message says which promise it was."""
    outcome, message = outcomes[f"Test{case.name}", case.test]

    assert outcome == "failure", f"{case.test}: {outcome} {message}"
    assert case.says in message


def test_an_exemption_is_a_skip_with_its_reason(tmp_path: Path) -> None:
    """What a provider is let off is shown with the reason, under every parameter, and nothing else is skipped."""
    text = HEAD + textwrap.dedent(
        """
        class TestLetOff(ProviderContract):
            provider_class = ToyProvider
            exempt = {"test_no_room_for_tokens_is_no_refusal": "toy has no such limit"}
        """
    )
    seen = run(tmp_path, text, "tests/test_broken.py", "-k", "no_room or limits_are_sane")
    skipped = {name: message for (_, name), (outcome, message) in seen.items() if outcome == "skipped"}

    assert len(seen) == 3
    assert set(skipped.values()) == {"exempt: toy has no such limit"}
    assert len(skipped) == 2


def test_without_a_simulator_what_is_pure_is_tested(tmp_path: Path) -> None:
    """A provider that has no simulator is still held to encode, frame and decode; the rest is skipped by name."""
    text = HEAD + textwrap.dedent(
        """
        class Alone(ToyProvider):
            simulator = None


        class TestAlone(ProviderContract):
            provider_class = Alone
        """
    )
    seen = run(tmp_path, text, "tests/test_broken.py")
    outcomes = {outcome for outcome, _ in seen.values()}
    reasons = {message for outcome, message in seen.values() if outcome == "skipped"}

    assert outcomes == {"passed", "skipped"}
    assert reasons == {"toy has no simulator: only what is pure is tested"}
    assert seen["TestAlone", "test_decode_never_raises_on_bytes"][0] == "passed"
