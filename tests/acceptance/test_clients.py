"""Real clients, unmodified, against one gateway and batches of 12 s; where they can be told so, with a timeout of 3 s."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from gateway.sandbox import SandboxSettings
from tests.acceptance.stand import MODEL, Finished, Stand, Times, is_answer, open_stand, request_body, run_client

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "clients"
ENVIRONMENTS = ROOT / ".clients"
OPENAI2, LLM, NODE = ENVIRONMENTS / "openai2/bin/python", ENVIRONMENTS / "llm/bin/llm", ENVIRONMENTS / "node/bin/node"
PACKAGES = ENVIRONMENTS / "node/app/node_modules"

#: A batch takes four times as long as the clients' timeouts, so that none gets through by patience alone.
TWELVE_SECONDS = SandboxSettings(validating_seconds=0.5, running_seconds=11.0, finalizing_seconds=0.5)
TIMEOUT_SECONDS = "3"
#: Starting eight clients on a busy machine takes a while; whoever is late shares the next batch.
TIMES = Times(window_seconds=2.0, idle_seconds=1.0)

PYTHON_WAYS = ("sync", "sync stream", "async", "async stream")
#: Case -> the file without which it cannot be tried.
CASES: Mapping[str, Path | None] = {
    **{f"openai-3 {way}": None for way in PYTHON_WAYS},
    **{f"openai-2 {way}": OPENAI2 for way in (*PYTHON_WAYS, "aiohttp", "aiohttp stream")},
    **{f"openai-node {way}": PACKAGES for way in ("client timeout stream", "call timeout stream", "default")},
    **{f"ai-sdk {way}": PACKAGES for way in ("generateText", "streamText")},
    "curl": None,
    "curl stream": None,
    "llm": LLM,
    "llm --no-stream": LLM,
    "httpx": OPENAI2,
    "HTTP/1.0": None,
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of all clients."""

    answers: Mapping[str, str]
    #: How many questions were asked, lines submitted, and different questions among those.
    asked: int
    lines: int
    distinct: int


def question(case: str) -> str:
    """Each case's own question."""
    return f"Who asks? {case}."


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All clients that can be tried, run once and all at the same time."""
    return asyncio.run(_run_all(tmp_path_factory.mktemp("clients")))


@pytest.mark.parametrize("case", CASES)
def test_it_gets_the_answer_to_its_own_question(case: str, outcome: Outcome) -> None:
    """An unmodified client waits for a batch four times as long as its timeout, and gets the answer to its question."""
    needed = CASES[case]
    if needed is not None and not needed.exists():
        pytest.skip(f"{needed.relative_to(ROOT)} is not there: make clients")
    if case.startswith("curl") and not shutil.which("curl"):
        pytest.skip("curl is not installed")

    assert is_answer(outcome.answers[case], question(case)), outcome.answers[case]


def test_each_question_is_submitted_once(outcome: Outcome) -> None:
    """However often clients gave up and tried again, the provider was asked each question exactly once."""
    assert outcome.asked == outcome.lines == outcome.distinct > 0


async def _run_all(directory: Path) -> Outcome:
    async with open_stand(directory, TWELVE_SECONDS) as stand:
        await stand.start(TIMES)
        # On a very busy machine loading takes longer than httpx bears silence.
        await stand.warm()
        clients = [_openai(stand, "openai-3", Path(sys.executable)), _http10(stand)]
        if OPENAI2.exists():
            clients += [_openai(stand, "openai-2", OPENAI2, "--aiohttp"), _httpx(stand)]
        if LLM.exists():
            clients += [_llm(stand, "llm"), _llm(stand, "llm --no-stream", "--no-stream")]
        if PACKAGES.exists():
            clients += [_node(stand, "openai-node", "openai_node.mjs"), _node(stand, "ai-sdk", "ai_sdk.mjs")]
        if shutil.which("curl"):
            clients += [_curl(stand, "curl", _content), _curl(stand, "curl stream", _streamed, stream=True)]
        answers: dict[str, str] = {}
        for part in await asyncio.gather(*clients):
            answers |= part
        submitted = await stand.simulator.submissions()
        return Outcome(answers=answers, asked=len(answers), lines=submitted.accepted_lines, distinct=submitted.distinct)


async def _openai(stand: Stand, name: str, python: Path, *options: str) -> dict[str, str]:
    """The official Python client; the first digit of its version is in the name."""
    script = SCRIPTS / "openai_python.py"
    finished = await run_client([python, script, f"{stand.url}/v1", name, TIMEOUT_SECONDS, *options])
    answers = _object(finished)
    assert answers.pop("version").split(".")[0] == name[-1]
    return {f"{name} {case}": text for case, text in answers.items()}


async def _node(stand: Stand, name: str, script: str) -> dict[str, str]:
    """A script in a folder where Node finds the packages of its environment."""
    folder = stand.directory / name
    folder.mkdir()
    (folder / "node_modules").symlink_to(PACKAGES)
    shutil.copy(SCRIPTS / script, folder)
    answers = _object(await run_client([NODE, folder / script, f"{stand.url}/v1"]))
    return {f"{name} {case}": text for case, text in answers.items()}


async def _llm(stand: Stand, case: str, *options: str) -> dict[str, str]:
    """`llm` with this gateway among its models."""
    folder = stand.directory / case
    folder.mkdir()
    (folder / "extra-openai-models.yaml").write_text(
        f"- model_id: batchway\n  model_name: {MODEL}\n  api_base: {stand.url}/v1\n", encoding="utf-8"
    )
    asked = [*options, question(case)]
    finished = await run_client([LLM, "-m", "batchway", "--key", "none", *asked], {"LLM_USER_PATH": str(folder)})
    return {case: _text(finished)}


async def _httpx(stand: Stand) -> dict[str, str]:
    """A caller that gives up after 5 s of silence and does not say so."""
    script = SCRIPTS / "httpx_default.py"
    return {"httpx": _text(await run_client([OPENAI2, script, f"{stand.url}/v1", question("httpx")]))}


async def _curl(stand: Stand, case: str, read: Callable[[str], str], **more: object) -> dict[str, str]:
    """curl, with the body on its command line."""
    body = request_body(question(case), **more).decode()
    command = ["curl", "-sS", f"{stand.url}/v1/chat/completions", "-H", "content-type: application/json", "-d", body]
    return {case: read(_text(await run_client(command)))}


async def _http10(stand: Stand) -> dict[str, str]:
    """A caller that knows neither chunks nor connections that stay."""
    body = request_body(question("HTTP/1.0"))
    head = f"POST /v1/chat/completions HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.port)
    writer.write(head.encode("ascii") + body)
    answer = await asyncio.wait_for(reader.read(), 100)
    writer.close()
    head, _, text = answer.decode().partition("\r\n\r\n")
    assert " 200 " in head.splitlines()[0]
    assert "chunked" not in head.lower()
    return {"HTTP/1.0": _content(text)}


def _text(finished: Finished) -> str:
    return finished.output if finished.status == 0 else f"status {finished.status}: {finished.errors}"


def _object(finished: Finished) -> dict[str, str]:
    assert finished.status == 0, finished.errors
    answers: dict[str, str] = orjson.loads(finished.output)
    return answers


def _content(text: str) -> str:
    """The answer in a completion's JSON; the text itself when it is none."""
    try:
        return str(orjson.loads(text)["choices"][0]["message"]["content"])
    except (orjson.JSONDecodeError, KeyError):
        return text


def _streamed(text: str) -> str:
    """The answer in the events of a stream."""
    chunks = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    return "".join(orjson.loads(chunk)["choices"][0]["delta"].get("content") or "" for chunk in chunks)
