"""`batchway new-plugin` writes a package that is done as it stands, and never over anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.skeleton import files_of, names_of

ROOT = Path(__file__).resolve().parents[3]
#: The longest name there may be: lines are widest then.
LONG = "abcdefghijklmnopqrstuvwx"


def new_plugin(name: str) -> Result:
    """The command, run in the current folder."""
    return CliRunner().invoke(main, ["new-plugin", name])


def tool(folder: Path, *command: str) -> str:
    """What a development tool says when it is run in the new folder, as its author would; fails if it fails."""
    # An editable install hides the gateway from mypy; an ordinary one does not.
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    shown = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_new_plugin_passes_the_contract(tmp_path: Path) -> None:
    """The package passes its tests, the whole contract among them, as soon as it is written, with warnings as errors."""
    shown = new_plugin(LONG)
    said = tool(tmp_path / f"gateway-{LONG}", "pytest", "-q", "-p", "no:cacheprovider")

    assert shown.exit_code == 0
    assert f"cd gateway-{LONG}" in shown.output
    assert "passed" in said
    assert "skipped" not in said


@pytest.mark.parametrize("name", ["x", LONG])
def test_a_new_plugin_is_clean(tmp_path: Path, name: str) -> None:
    """Formatter, linter and type checker have nothing against the package, however long its name."""
    new_plugin(name)
    folder = tmp_path / f"gateway-{name}"

    tool(folder, "ruff", "format", "--check", "--no-cache", ".")
    tool(folder, "ruff", "check", "--no-cache", ".")
    tool(folder, "mypy", "--cache-dir", str(tmp_path / "mypy"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("openai", "the name openai is taken: the plugin openai of batchway"),
        ("openai-compatible", "brings the kind openai-compatible"),
        ("anthropic", "the name anthropic is taken"),
        ("gateway-toy", "leave the prefix out: toy"),
        ("Toy", "lower-case letters"),
        ("to_y", "lower-case letters"),
        ("-toy", "No such option"),
        ("toy-", "lower-case letters"),
        ("../toy", "lower-case letters"),
        ("", "lower-case letters"),
        ("t" * 25, "at most 24 characters"),
    ],
)
def test_a_bad_name_writes_nothing(tmp_path: Path, name: str, said: str) -> None:
    """A name that is taken or cannot be one is refused with the reason, and no folder appears."""
    shown = new_plugin(name)

    assert shown.exit_code in (1, 2)
    assert said in shown.output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_never_written_over(tmp_path: Path) -> None:
    """What is there already stays as it is."""
    folder = tmp_path / "gateway-toy"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    shown = new_plugin("toy")

    assert shown.exit_code == 1
    assert "gateway-toy is there already; nothing was written" in shown.output
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_names_agree() -> None:
    """One name gives folder, package, classes and variable their names, and no placeholder is left in any file."""
    names = names_of("my-llm-2")
    files = files_of(names)

    assert (names.folder, names.package, names.class_prefix) == ("gateway-my-llm-2", "gateway_my_llm_2", "MyLlm2")
    assert "${MY_LLM_2_API_KEY}" in files["README.md"]
    assert [place for place, text in files.items() if "$" in text.replace("${MY_LLM_2_API_KEY}", "")] == []
    assert "class MyLlm2Provider(Provider):" in files["gateway_my_llm_2/provider.py"]
