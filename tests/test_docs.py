"""What the documentation names is what the code has: endings, headers, metrics, commands, hooks, tests, files."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import click
import pytest
from aiohttp import web

from gateway import hookspecs
from gateway.cli import COMMANDS, main
from gateway.errors import ENDINGS
from gateway.metrics import Metrics
from gateway.records import BATCH_MOVES, REQUEST_MOVES
from gateway.sandbox import Fault, FaultKind, SandboxSettings
from gateway.sandbox.directives import WORDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/*/README.md"), *ROOT.glob("examples/*/README.md")]
)
HEADER = re.compile(r"x-batchway-[a-z]+(?:-[a-z]+)*")


def page(name: str) -> str:
    """The text of one page."""
    return (ROOT / name).read_text("utf-8")


def rows(name: str, columns: int) -> list[list[str]]:
    """The cells of every table row of a page that has so many columns."""
    lines = [line for line in page(name).splitlines() if line.startswith("| ") and not line.startswith("|---")]
    cells = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in lines]
    return [row for row in cells if len(row) == columns]


def test_the_table_of_endings_is_the_codes() -> None:
    """Every code with its status, type, headers and meaning is on the page, in order, and no other."""
    expected = []
    for code, rule in ENDINGS.items():
        retry = "-" if rule.should_retry is None else str(rule.should_retry).lower()
        after = "-" if rule.retry_after is None else str(rule.retry_after)
        expected.append([f"`{code}`", str(rule.status), f"`{rule.type}`", retry, after, rule.when])
    found = [row for row in rows("docs/server-behavior.md", 6) if row[0] != "code"]

    assert found == expected


def test_every_metric_is_described() -> None:
    """The table of metrics is what a gateway describes of itself, and the advice names no other."""
    expected = [
        [f"`{each.name}`", each.type, ", ".join(f"`{label}`" for label in each.labels) or "-", each.meaning]
        for each in Metrics().describe()
    ]
    found = [row for row in rows("docs/metrics.md", 4) if row[0] != "metric"]
    named = {name for path in PAGES for name in re.findall(r"batchway_[a-z_]+", path.read_text("utf-8"))}

    assert found == expected
    assert named <= {each.name for each in Metrics().describe()}


@cache
def headers_of_the_code() -> frozenset[str]:
    """Every header of ours that a string in the gateway's own code is, or names."""
    found: set[str] = set()
    for path in ROOT.glob("gateway/endpoints/*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(HEADER.findall(node.value))
    return frozenset(found)


def test_every_header_is_described() -> None:
    """The headers the code reads and writes are in the tables, and no page names one that the code does not know."""
    tables = " ".join(row[0] for row in [*rows("docs/server-behavior.md", 2)])
    named = {header for path in PAGES for header in HEADER.findall(path.read_text("utf-8"))}

    assert headers_of_the_code() <= set(HEADER.findall(tables))
    assert named <= headers_of_the_code()


@cache
def events_of_the_code() -> frozenset[tuple[str, str]]:
    """Every event that the gateway's own code logs, with its level."""
    levels = {word: word for word in ("debug", "info", "warning", "error", "critical")}
    levels |= {"exception": "error", "_say": "warning"}
    found: set[tuple[str, str]] = set()
    for path in ROOT.glob("gateway/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            event, level = node.args[0], levels.get(node.func.attr)
            if level is not None and isinstance(event, ast.Constant) and isinstance(event.value, str):
                found.add((event.value, level))
    return frozenset(found)


def test_the_events_that_are_described_are_logged() -> None:
    """What the page of the log explains is an event of the code, and comes at the level that it says."""
    described: set[tuple[str, str]] = set()
    for names, levels, _ in rows("docs/log.md", 3):
        events, words = re.findall(r"`(\w+)`", names), levels.split(", ")
        times = 1 if len(events) == len(words) else max(len(events), len(words))
        described |= set(zip(events * times, words * times, strict=False)) if events else set()

    assert len(described) > 70
    assert described - events_of_the_code() == set()


def test_every_command_and_option_is_described() -> None:
    """Each command has its section, and each section the options of its command and no other."""
    sections = dict(
        re.findall(r"^## `batchway ([\w-]+)`\n(.*?)(?=^## |\Z)", page("docs/commands.md"), re.MULTILINE | re.DOTALL)
    )
    context = click.Context(main)
    documented = {
        name: set(re.findall(r"--[a-z-]+", " ".join(re.findall(r"^\| (`--.*?) \|", text, re.MULTILINE))))
        for name, text in sections.items()
    }
    expected = {}
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        expected[name] = {word for option in options for word in option.opts}

    assert documented == expected


def test_the_readme_names_every_command() -> None:
    """Whoever reads only the first page has seen every command, and none that is not there."""
    text = page("README.md")

    assert set(re.findall(r"`batchway ([\w-]+)", text)) == set(COMMANDS)


def test_every_path_is_described() -> None:
    """The paths of the front door are in the table of paths, and no other."""
    from gateway.app import add_routes

    app = web.Application()

    class Anything:
        def __getattr__(self, name: str) -> object:
            async def handler(_request: web.Request) -> web.Response:
                return web.Response()

            return handler

    add_routes(app, Anything(), Anything(), Anything())  # type: ignore[arg-type]
    routes = {
        f"{route.method} {route.resource.canonical}"
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    below_run = {route.replace("/run/{run}", "") for route in routes if "/run/" in route}
    plain = {route for route in routes if "/run/" not in route}
    found = set(
        re.findall(r"`((?:GET|POST|DELETE) /[^`?]+)`", " ".join(r[0] for r in rows("docs/server-behavior.md", 2)))
    )

    assert found == plain
    assert below_run == {route for route in plain if "/ops" not in route}


def test_every_hook_is_described() -> None:
    """A plugin author finds each hook by name where plugins are explained."""
    hooks = [name for name, each in vars(hookspecs).items() if hasattr(each, "batchway_spec")]

    assert hooks != []
    assert [hook for hook in hooks if f"`{hook}`" not in page("ARCHITECTURE.md")] == []


def test_the_sandbox_page_has_every_setting_and_fault() -> None:
    """What can be set and ordered on a simulator is on its page."""
    text = page("docs/sandbox.md")
    names = [*SandboxSettings.__dataclass_fields__, *FaultKind, *Fault.__dataclass_fields__, *WORDS]

    assert [name for name in names if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", text)] == []


def test_the_drawings_of_states_are_the_codes() -> None:
    """Every move a request or a batch can make is drawn, and no other."""
    drawings = re.findall(r"```mermaid\n(.*?)```", page("docs/state-machine.md"), re.DOTALL)
    drawn = [set(re.findall(r"^ +(\w+) --> (\w+):", drawing, re.MULTILINE)) for drawing in drawings]
    tables = [
        {(before.value, after.value) for before, moves in table.items() for after in moves}
        for table in (REQUEST_MOVES, BATCH_MOVES)
    ]

    assert drawn == tables


def test_every_promise_names_tests_that_exist() -> None:
    """Each of the twelve promises says when it holds, what shows it and what is open, and its tests are there."""
    sections = re.findall(r"^## (P\d+):.*?\n(.*?)(?=^## |\Z)", page("docs/promises.md"), re.MULTILINE | re.DOTALL)
    tests = {test for _, text in sections for test in re.findall(r"`(\S+?\.py::test_\w+)`", text)}
    missing = [test for test in sorted(tests) if f"def {test.partition('::')[2]}(" not in page(test.partition("::")[0])]

    assert [name for name, _ in sections] == [f"P{number}" for number in range(1, 13)]
    assert [
        name
        for name, text in sections
        if not re.search(r"\*\*Holds\*\*.*\*\*Shown by\*\*.*\*\*Open\*\*", text, re.DOTALL)
    ] == []
    assert missing == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Every link to a file of this repository leads to one, and to a heading that is there."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path

        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def anchors(path: Path) -> set[str]:
    """The names of a page's headings, as they are linked to."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_python_in_the_pages_can_be_read() -> None:
    """Every Python example is Python."""
    for path in PAGES:
        for code in re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL):
            ast.parse(code)


def configurations(path: Path) -> list[str]:
    """Every TOML example of a page with a provider in it; one that names no kind goes on where the page's first one ended."""
    shown = re.findall(r"```toml\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
    examples = [text for text in shown if "[providers." in text]
    return [text if re.search(r"^kind = ", text, re.MULTILINE) else examples[0] + text for text in examples]


def test_toml_in_the_pages_is_a_configuration(tmp_path: Path) -> None:
    """Every TOML example with a provider is a configuration without a mistake, once its variables are set."""
    from gateway.cli.inspection import inspect

    checked = 0
    for path in PAGES:
        for text in configurations(path):
            file = tmp_path / "config.toml"
            file.write_text(text, encoding="utf-8")
            checked += 1

            assert inspect(file, dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "x")).mistakes == (), (
                f"{path.name}: {text}"
            )
    assert checked
