"""A start loads the SDKs of the providers that it will ask, and no other; keys that are missing stop nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.plugins import load_plugins

#: kind -> the SDKs its provider is made of.
SDKS: Mapping[str, frozenset[str]] = {
    "anthropic": frozenset({"anthropic"}),
    "azure": frozenset({"openai"}),
    "fanout": frozenset({"openai"}),
    "gemini": frozenset({"google.genai"}),
    "groq": frozenset({"openai"}),
    "kluster": frozenset({"openai"}),
    "mistral": frozenset({"mistralai"}),
    "openai": frozenset({"openai"}),
    "openai-compatible": frozenset({"openai"}),
    "together": frozenset({"together"}),
    "vertex": frozenset({"google.genai", "google.cloud.storage"}),
}
ALL_SDKS = frozenset().union(*SDKS.values()) | {"groq"}
NEEDED = {
    "azure": 'base_url = "https://resource.openai.azure.com"',
    "fanout": 'base_url = "http://127.0.0.1:9/v1"',
    "openai-compatible": 'base_url = "http://127.0.0.1:9/v1"',
    "vertex": 'project = "p"\nbucket = "gs://my-bucket"',
}

#: A whole process; what it had loaded when it ended is its last line.
SERVE = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), flush=True))
from gateway.cli import main
main(["serve", "--config", sys.argv[1]])
"""

#: What a start does to providers, for each configuration in a process of its own: loading the rest again takes a second.
WARM = """
import json, os, sys
from pathlib import Path
from gateway.clock import SystemClock
from gateway.config import load
from gateway.plugins import load_plugins
from gateway.routing import build_router
plugins = load_plugins().classes()
for path in map(Path, sys.argv[1:]):
    if os.fork() == 0:
        router = build_router(load(path, os.environ), plugins, clock=SystemClock(), directory=path.parent / path.stem)
        before = sorted(sys.modules)
        failed = router.warm()
        report = {"before": before, "after": sorted(sys.modules), "failed": failed}
        path.with_suffix(".json").write_text(json.dumps(report))
        os._exit(0)
    os.wait()
"""

#: One batch of each kind at its own simulator, in a process of its own: the modules that its calls loaded.
FIRST_CALLS = """
import asyncio, json, os, sys
from pathlib import Path
from gateway.plugins import load_plugins
from gateway.testing import sandboxed
BODY = {"model": "m-1", "messages": [{"role": "user", "content": "hi"}]}
async def modules_of_calls(provider_class, directory):
    async with sandboxed(provider_class, directory) as lab:
        before = set(sys.modules)
        await lab.results(await lab.run(BODY))
        await lab.provider.find(lab.seal(BODY))
        return sorted(set(sys.modules) - before)
for kind in sys.argv[2:]:
    if os.fork() == 0:
        directory = Path(sys.argv[1], kind)
        modules = asyncio.run(modules_of_calls(load_plugins().kinds[kind].provider_class, directory))
        directory.with_suffix(".json").write_text(json.dumps(modules))
        os._exit(0)
    os.wait()
"""
#: A module takes the loop about a millisecond; together's SDK loads 300 when it is asked for batches.
FEW_MODULES = 50


def test_every_kind_says_here_what_it_is_made_of() -> None:
    """A kind that is added is held to these promises too."""
    assert SDKS.keys() == load_plugins().kinds.keys()


def all_kinds(directory: Path, *, enabled: str = "") -> Path:
    """A configuration with every kind there is; the keys of all but `enabled` are in variables that are not set."""
    tables = []
    for kind in SDKS:
        key = "sk-test" if kind == enabled else f"${{KEY_OF_{kind.upper().replace('-', '_')}}}"
        tables.append(f'[providers.my-{kind}]\nkind = "{kind}"\napi_key = "{key}"\n{NEEDED.get(kind, "")}\n')
    path = directory / f"{enabled or 'none'}.toml"
    storage = f'[server]\nport = 0\n[storage]\ndirectory = "{directory / "data"}"\n'
    path.write_text(storage + "\n".join(tables), encoding="utf-8")
    return path


def sdks(modules: object) -> set[str]:
    """The SDKs among loaded modules."""
    assert isinstance(modules, list)
    return ALL_SDKS & set(modules)


def test_keys_that_are_missing_are_named_and_stop_nothing(tmp_path: Path) -> None:
    """With every kind configured and no key set, `check` has no mistake: each is disabled, with the variable to set."""
    result = CliRunner().invoke(main, ["check", "--config", str(all_kinds(tmp_path))])

    assert result.exit_code == 0, result.output
    for kind in SDKS:
        variable = f"KEY_OF_{kind.upper().replace('-', '_')}"
        line = f"my-{kind} (kind {kind}) disabled: set the environment variable {variable}\n"
        assert line in result.output


def test_a_start_without_keys_loads_no_sdk(tmp_path: Path) -> None:
    """`serve` comes up with every provider disabled and named in the log, and has loaded nobody's SDK when it ends."""
    command = [sys.executable, "-c", SERVE, str(all_kinds(tmp_path))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, text=True)
    assert process.stderr is not None
    heard = next((line for line in process.stderr if '"listening"' in line), "")
    process.send_signal(signal.SIGTERM)
    output, rest = process.communicate(timeout=60)

    assert heard, rest
    assert json.loads(heard)["disabled"].keys() == {f"my-{kind}" for kind in SDKS}
    modules = json.loads(output.splitlines()[-1])
    assert "gateway.app" in modules
    assert sdks(modules) == set()


@pytest.fixture(name="reports", scope="module")
def _reports(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, object]]:
    """For each kind: what a start with only this one enabled has loaded."""
    directory = tmp_path_factory.mktemp("imports")
    paths = [all_kinds(directory, enabled=kind) for kind in SDKS]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("KEY_OF_", "BATCHWAY_"))}
    subprocess.run([sys.executable, "-c", WARM, *map(str, paths)], check=True, env=environ, timeout=120)
    return {path.stem: json.loads(path.with_suffix(".json").read_text("utf-8")) for path in paths}


@pytest.mark.parametrize("kind", SDKS)
def test_a_start_loads_the_sdks_of_enabled_providers_only(
    kind: str, reports: Mapping[str, Mapping[str, object]]
) -> None:
    """Plugins are loaded and providers configured without any SDK; then those of the kind in use are, and no other."""
    report = reports[kind]

    assert report["failed"] == []
    assert sdks(report["before"]) == set()
    assert sdks(report["after"]) == SDKS[kind]


@pytest.fixture(name="first_calls", scope="module")
def _first_calls(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[str]]:
    """For each kind with batches: the modules that its first calls loaded."""
    directory = tmp_path_factory.mktemp("calls")
    kinds = [kind for kind, installed in load_plugins().kinds.items() if installed.provider_class.batch]
    subprocess.run([sys.executable, "-c", FIRST_CALLS, str(directory), *kinds], check=True, timeout=120)
    return {kind: json.loads((directory / f"{kind}.json").read_text("utf-8")) for kind in kinds}


@pytest.mark.parametrize("kind", sorted(SDKS.keys() - {"fanout"}))
def test_the_first_calls_find_their_sdk_loaded(kind: str, first_calls: Mapping[str, list[str]]) -> None:
    """What a kind needs is loaded when it is made, in a thread: its first batch does not stop the loop for imports."""
    assert len(first_calls[kind]) < FEW_MODULES, first_calls[kind]
