"""A plugin that knows nothing of this repository is found once it is installed, and its provider answers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.acceptance.stand import COMMAND, ask, clean_environment, is_answer, open_stand, until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(name="site", scope="module")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the example, from a copy of its sources, without a network."""
    folder = tmp_path_factory.mktemp("third-party")
    shutil.copytree(
        ROOT / "examples/gateway-echo", folder / "source", ignore=shutil.ignore_patterns("tests", "__pycache__")
    )
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input", "--no-index", "--no-deps", "--no-build-isolation")
    install = [sys.executable, "-m", "pip", "install", *quiet, "--target", folder / "site", folder / "source"]
    shown = subprocess.run(install, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    return folder / "site"


def test_an_installed_plugin_is_listed(site: Path) -> None:
    """`batchway plugins` names the example's kind, distribution and version beside the bundled ones, without a fault."""
    shown = subprocess.run(
        [COMMAND, "plugins", "--json"],
        env=clean_environment(PYTHONPATH=str(site)),
        capture_output=True,
        check=True,
    )
    plugins = {each["name"]: each for each in orjson.loads(shown.stdout)}

    echo = plugins["echo"]
    assert (echo["distribution"], echo["version"]) == ("gateway-echo", "0.1.0")
    assert (echo["kinds"], echo["faults"]) == (["echo"], [])
    assert "openai" in plugins


async def test_a_request_is_answered_through_it(site: Path, tmp_path: Path) -> None:
    """An ordinary call gets its answer out of a batch of the example's provider, whose simulator the gateway runs."""
    async with open_stand(tmp_path) as stand:
        stand.kind, stand.provider_url = 'kind = "echo"\nsandbox = true', ""
        stand.launch(PYTHONPATH=str(site))
        await until(lambda: stand.events("listening"), "serve says that it listens")
        async with stand.client() as client:
            answer = await ask(client, "Who are you?")

    assert is_answer(answer, "Who are you?")
