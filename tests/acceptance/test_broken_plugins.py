"""Plugins that are broken in every way, beside one that works: each is named, nothing is lost, and nobody else notices."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
import pytest

from gateway.records import RequestState
from gateway.store.sqlite import FILE_NAME
from tests.acceptance.stand import MODEL, Stand, Times, ask, is_answer, open_stand, until

GOOD = """
from gateway import Provider, hookimpl
from gateway_openai import OpenAIProvider

class Toy(OpenAIProvider):
    kind = "KIND"

@hookimpl
def register_providers():
    return [Toy]
"""
#: Plugin, which is also its package -> its kind, and its source.
PLUGINS = {
    "toy_import": ("toy-import", "import no_such_module"),
    "toy_first": ("toy-twice", GOOD),
    "toy_second": ("toy-twice", GOOD),
    "toy_sdk": ("toy-sdk", GOOD.replace('"KIND"', '"KIND"\n    def __init__(self, *a):\n        import acme_sdk')),
    "toy_encode": ("toy-encode", GOOD.replace('"KIND"', '"KIND"\n    def encode(self, call):\n        return 1 / 0')),
    "toy_simulator": ("toy-simulator", GOOD.replace('"KIND"', '"KIND"\n    simulator = "toy_nowhere:Simulator"')),
}
#: Provider -> what a caller of it reads.
SAID = {
    "toy-import": ("plugin toy_import", "No module named 'no_such_module'"),
    "toy-twice": ("plugin toy_", 'brings the kind "toy-twice"'),
    "toy-sdk": ("the kind toy-sdk could not make it", "which has the module acme_sdk"),
    "toy-encode": ("The plugin of kind 'toy-encode'", "ZeroDivisionError"),
    "toy-simulator": ("its simulator is not running",),
}


@dataclass(frozen=True, kw_only=True)
class Tables(Times):
    """Beside the times, a table for each provider."""

    def toml(self) -> str:
        """One table of its own kind for each, and a wish for the simulator that is not there."""
        tables = (f'[providers.{name}]\nkind = "{name}"\napi_key = "k"\n' for name in SAID)
        return super().toml() + "".join(tables) + "sandbox = true\n"


@pytest.fixture(name="site")
def _site(tmp_path: Path) -> Path:
    """A folder with all these plugins, as pip would have put them there."""
    site = tmp_path / "site"
    for name, (kind, source) in PLUGINS.items():
        metadata = site / f"{name}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (site / f"{name}.py").write_text(source.replace("KIND", kind), encoding="utf-8")
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        (metadata / "entry_points.txt").write_text(f"[batchway]\n{name} = {name}\n", encoding="utf-8")
    return site


async def begin(stand: Stand, site: Path) -> None:
    """Start a gateway that finds these plugins."""
    before = stand.events("listening")
    stand.launch(Tables(), PYTHONPATH=str(site))
    await until(lambda: stand.events("listening") > before, "serve says that it listens")


async def refused(client: openai.AsyncOpenAI, provider: str) -> openai.APIStatusError:
    """What a call for one of the broken providers raises."""
    with pytest.raises(openai.APIStatusError) as caught:
        await ask_of(client, provider, "Anybody there?")
    return caught.value


def look_again_at_once(stand: Stand) -> None:
    """Spare the test the minute for which the lane of a disabled provider is left alone."""
    with closing(sqlite3.connect(stand.storage / FILE_NAME)) as connection, connection:
        assert connection.execute("UPDATE lanes SET retry_at = 0 WHERE retry_at > 0").rowcount == 1


async def ask_of(client: openai.AsyncOpenAI, provider: str, question: str) -> str:
    """One question for one provider."""
    answer = await client.chat.completions.create(
        model=f"{provider}/{MODEL}", messages=[{"role": "user", "content": question}]
    )
    return answer.choices[0].message.content or ""


async def test_broken_plugins_are_named_and_the_others_work(site: Path, tmp_path: Path) -> None:
    """Each refusal names plugin and provider and takes nothing in; a working provider answers all the while."""
    async with open_stand(tmp_path) as stand:
        await begin(stand, site)
        async with stand.client() as client:
            errors = {provider: await refused(client, provider) for provider in SAID}
            answer = await ask(client, "Who are you?")
        taken = [stand.requests(state) for state in RequestState]
        faults = stand.events("plugin_broken"), stand.events("simulator_broken"), stand.events("plugin_fault")

    assert is_answer(answer, "Who are you?")
    assert {error.status_code for error in errors.values()} == {502}
    for provider, error in errors.items():
        assert provider in error.message
        assert [said for said in SAID[provider] if said not in error.message] == []
    assert sum(taken) == 1
    assert faults == (2, 1, 1)


async def test_work_waits_for_its_plugin(site: Path, tmp_path: Path) -> None:
    """A request whose plugin breaks before it was sent waits, and is answered when the plugin is whole again."""
    source = (site / "toy_import.py").read_text("utf-8")
    whole = GOOD.replace("KIND", "toy-import")
    async with open_stand(tmp_path) as stand:
        (site / "toy_import.py").write_text(whole, encoding="utf-8")
        stand.kind = 'kind = "toy-import"\napi_key = "k"'
        held = Times(window_seconds=600, idle_seconds=600)
        stand.launch(held, PYTHONPATH=str(site))
        await until(lambda: stand.events("listening"), "serve says that it listens")
        async with httpx2.AsyncClient(base_url=stand.url) as http:
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Still there?"}]}
            headers = {"Prefer": "respond-async", "x-batchway-custom-id": "mine"}
            accepted = await http.post("/v1/chat/completions", json=body, headers=headers, timeout=60)
            assert accepted.status_code == 202
            await stand.terminate()
            (site / "toy_import.py").write_text(source, encoding="utf-8")
            stand.launch(Times(), PYTHONPATH=str(site))
            await until(lambda: stand.events("listening") == 2, "it starts without the plugin")

            async def told() -> bool:
                waiting = await http.get("/v1/results/mine", timeout=60)
                return waiting.status_code == 202 and "no_such_module" in waiting.text

            await until(told, "whoever looks is told what the request waits for")
            await stand.terminate()
            (site / "toy_import.py").write_text(whole, encoding="utf-8")
            look_again_at_once(stand)
            stand.launch(Times(), PYTHONPATH=str(site))
            await until(lambda: stand.events("listening") == 3, "it starts with the plugin")
            answered = await http.get("/v1/results/mine", headers={"Prefer": "wait=60"}, timeout=90)

    assert answered.status_code == 200
    assert "Still there?" in answered.text
    assert stand.created() == 1


STUBBORN = """
import asyncio, pathlib, threading
from gateway import hookimpl
from gateway_openai import OpenAIProvider

async def for_ever():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

class Toy(OpenAIProvider):
    kind = "toy-stubborn"

    async def submit(self, batch):
        threading.Thread(target=threading.Event().wait, name="stubborn thread").start()
        pathlib.Path(__file__).with_suffix(".holds").touch()
        await for_ever()

    async def aclose(self):
        await for_ever()

@hookimpl
def register_providers():
    return [Toy]
"""


async def test_a_plugin_that_does_not_let_go_does_not_hold_up_the_stop(site: Path, tmp_path: Path) -> None:
    """Calls and threads of a plugin that go on for ever are named, and left: the ledger is closed and the process is gone."""
    (site / "toy_import.py").write_text(STUBBORN, encoding="utf-8")
    async with open_stand(tmp_path) as stand:
        stand.kind = 'kind = "toy-stubborn"\napi_key = "k"'
        stand.launch(Times(), PYTHONPATH=str(site))
        await until(lambda: stand.events("listening"), "serve says that it listens")
        async with httpx2.AsyncClient(base_url=stand.url) as http:
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Will it end?"}]}
            accepted = await http.post(
                "/v1/chat/completions", json=body, headers={"Prefer": "respond-async"}, timeout=60
            )
            assert accepted.status_code == 202
        await until((site / "toy_import.holds").exists, "the plugin holds a task and a thread")
        status = await stand.terminate(30)
        told = [stand.events(name) for name in ("tasks_go_on", "not_closed", "stopped", "left_behind")]
        log = stand.log.read_text("utf-8")

    assert status == 0
    assert told == [1, 1, 1, 1]
    assert "stubborn thread" in log
    assert not list(stand.storage.glob("*-wal")), "the ledger was closed"
