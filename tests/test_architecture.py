"""The walls of the house, read from the source: floors, borders, circles, sizes, and the promise on every test.

A new room in `gateway/` fails here until somebody writes down its floor.
"""

from __future__ import annotations

import ast
import functools
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: A room is a module or package directly under `gateway`; it imports only rooms of lower floors.
FLOORS = {
    "records": 0,
    "errors": 0,
    "clock": 0,
    "fingerprint": 0,
    # An address, written in one way.
    "places": 0,
    "provider": 1,
    "hookspecs": 1,
    # What failed calls mean, for authors of plugins: errors are all that it knows.
    "answered": 1,
    "failures": 1,
    "rows": 1,
    # For authors of plugins: objects as providers write them, lists of batches, files on their way.
    "reading": 1,
    "listing": 1,
    "transfers": 1,
    "config": 1,
    "logs": 1,
    "metrics": 1,
    "tasks": 1,
    "signals": 1,
    "prices": 1,
    # Whether an answer is what was asked for.
    "validation": 1,
    "patterns": 1,
    "store": 2,
    "plugins": 3,
    "configured": 3,
    "routing": 3,
    "accounts": 3,
    "listening": 1,
    "spool": 3,
    "lines": 3,
    "endings": 3,
    "judging": 3,
    "troubles": 3,
    "upstream": 3,
    "dissolving": 3,
    "unfound": 3,
    # What every way of settling tells callers, cache and metrics.
    "delivery": 3,
    "candidates": 3,
    "turns": 3,
    "merging": 3,
    "pipeline": 4,
    "endpoints": 5,
    "app": 6,
    "run": 7,
    "cli": 8,
    "__main__": 9,
}
#: Floors whose rooms are single modules and may lean on each other, as long as no circle comes of it.
OPEN_FLOORS = {0, 1, 3}
#: Public rooms beside the stairs: the highest floor each may import, and the other side rooms it may.
SIDE_ROOMS = {"chat": (0, frozenset[str]()), "sandbox": (1, frozenset[str]()), "testing": (3, frozenset({"sandbox"}))}
#: Who starts or checks simulators; nobody else knows that there are any.
SANDBOX_USERS = {"sandbox", "testing", "plugins", "routing", "app", "run", "cli"}
#: All that a plugin sees of the gateway.
PUBLIC_ROOMS = {
    *("records", "errors", "failures", "clock", "provider", "hookspecs", "rows", "reading", "listing", "transfers"),
    *("chat", "sandbox", "testing"),
}
#: Rooms that must work the same whoever the provider is.
PROVIDER_BLIND_ROOMS = {"pipeline", "store", "endpoints", "configured", "routing"}
PROVIDER_NAMES = {
    *("openai", "openai-compatible", "azure", "groq", "kluster"),
    *("anthropic", "gemini", "vertex", "together", "mistral"),
}

MAX_FILE_LINES = 400
MAX_MEDIAN_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
MAX_P90_FUNCTION_LINES = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One Python file, parsed: its path, its dotted name as importers write it, its tree and its length."""

    path: Path
    name: str
    tree: ast.Module
    line_count: int

    @property
    def room(self) -> str:
        """The part of `gateway` this file lies in; empty for `gateway/__init__.py` itself."""
        return room_of(self.name)

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))


def room_of(module: str) -> str:
    """The room a dotted name points into: `gateway.store.cache` is in `store`, `gateway` in the empty one."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def read(path: Path, base: Path) -> Source:
    """`path` parsed, named as Python names it when `base` is on its path."""
    text = path.read_text(encoding="utf-8")
    parts = path.relative_to(base).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Source(path=path, name=name, tree=ast.parse(text), line_count=text.count("\n"))


@functools.cache
def code_of_gateway() -> list[Source]:
    """Every file of `gateway`."""
    return [read(path, ROOT) for path in sorted(ROOT.glob("gateway/**/*.py"))]


@functools.cache
def code_of_plugins() -> list[Source]:
    """Every file that a plugin ships, the example of a third party's among them."""
    paths = sorted(path for place in ("plugins", "examples") for path in ROOT.glob(f"{place}/*/gateway_*/**/*.py"))
    return [read(path, ROOT.joinpath(*path.relative_to(ROOT).parts[:2])) for path in paths]


@functools.cache
def code_of_tests() -> list[Source]:
    """Every file of tests, the plugins' own among them."""
    roots = ("tests", "plugins/*/tests", "examples/*/tests")
    return [read(path, ROOT) for root in roots for path in sorted(ROOT.glob(f"{root}/**/*.py"))]


def imports(source: Source) -> Iterator[str]:
    """Dotted names of what `source` imports anywhere in it; `from package import name` gives `package.name`."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def gateway_imports(source: Source) -> Iterator[str]:
    """Dotted names of the gateway's own modules that `source` imports."""
    modules = {file.name for file in code_of_gateway()} | {
        f"gateway.{room}" for room in FLOORS.keys() | SIDE_ROOMS.keys()
    }
    for name in imports(source):
        if name == "gateway" or name.startswith("gateway."):
            yield name if name in modules else name.rpartition(".")[0]


def functions(sources: list[Source]) -> Iterator[tuple[Source, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function and method of `sources`, nested ones too."""
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield source, node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, the docstring not counted."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return total
    docstring = function.body[0]
    return total - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def may_import(room: str, other: str) -> bool:
    """Whether the plan of the house lets `room` import `other`."""
    if room == other:
        return True
    if other == "testing":
        return False
    if other == "sandbox":
        return room in SANDBOX_USERS
    if room in SIDE_ROOMS:
        ceiling, beside = SIDE_ROOMS[room]
        return other in beside or FLOORS.get(other, 1) <= ceiling
    floor, other_floor = FLOORS[room], FLOORS.get(other, 1)
    return other_floor < floor or (other_floor == floor and floor in OPEN_FLOORS)


def test_every_room_has_a_floor() -> None:
    """Each module directly under `gateway` has its floor written down here, so that a new one is decided on."""
    unknown = {source.room for source in code_of_gateway()} - {""} - FLOORS.keys() - SIDE_ROOMS.keys()

    assert unknown == set()


def test_rooms_import_only_lower_floors() -> None:
    """A room imports only what lies below it, and side rooms only what they are open to."""
    known = FLOORS.keys() | SIDE_ROOMS.keys()
    offences = [
        f"{source} imports {name}"
        for source in code_of_gateway()
        if source.room in known
        for name in gateway_imports(source)
        if not may_import(source.room, room_of(name))
    ]

    assert offences == []


def test_public_names_come_from_the_ground() -> None:
    """`import gateway` loads floors 0 and 1 only, so a plugin author's first import brings no pipeline."""
    [root] = [source for source in code_of_gateway() if source.name == "gateway"]
    offences = [name for name in gateway_imports(root) if FLOORS.get(room_of(name), 9) > 1]

    assert offences == []


def test_pipeline_stages_do_not_call_each_other() -> None:
    """A stage of the pipeline speaks to the next one through the ledger; only `waiters` is shared."""
    offences = []
    for source in code_of_gateway():
        for name in gateway_imports(source):
            if source.room == room_of(name) == "pipeline":
                stage, other = (dotted.split(".")[2:3] for dotted in (source.name, name))
                if other not in (stage, ["waiters"]):
                    offences.append(f"{source} imports {name}")

    assert offences == []


def test_pipeline_stages_say_what_they_take_and_leave() -> None:
    """Every stage's docstring says what it takes, what it leaves, and what a crash half-way means."""
    offences = []
    for source in code_of_gateway():
        if source.room == "pipeline" and source.name not in ("gateway.pipeline", "gateway.pipeline.waiters"):
            opening = " ".join((ast.get_docstring(source.tree) or "").split())
            if not re.search(r"Takes .*leaves .*if the process dies", opening, re.IGNORECASE):
                offences.append(str(source))

    assert offences == []


def test_no_import_circles() -> None:
    """No chain of imports leads back to where it began, lazy and type-only imports included."""
    graph = {source.name: set(gateway_imports(source)) - {source.name} for source in code_of_gateway()}
    circle: list[str] = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]

    assert circle == []


def test_plugins_see_only_the_public_face() -> None:
    """A plugin and its tests import nothing of the gateway but what is promised to plugin authors."""
    own_tests = [source for source in code_of_tests() if not source.path.is_relative_to(ROOT / "tests")]
    offences = [
        f"{source} imports {name}"
        for source in [*code_of_plugins(), *own_tests]
        for name in gateway_imports(source)
        if room_of(name) not in PUBLIC_ROOMS | {""}
    ]

    assert offences == []


def test_the_gateway_imports_no_plugin() -> None:
    """Plugins are found by entry point: no file of the gateway imports one."""
    offences = [
        f"{source} imports {name}"
        for source in code_of_gateway()
        for name in imports(source)
        if name.startswith("gateway_")
    ]

    assert offences == []


def test_core_names_no_provider() -> None:
    """No decision in pipeline, store, endpoints or routing is spelt with a provider's name."""
    offences = [
        f"{source}:{node.lineno} says {node.value!r}"
        for source in code_of_gateway()
        if source.room in PROVIDER_BLIND_ROOMS
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.lower() in PROVIDER_NAMES
    ]

    assert offences == []


def test_waiting_for_time_goes_through_the_clock() -> None:
    """Outside `clock.py` nothing sleeps in the loop for a time; giving way with `asyncio.sleep(0)` is all right."""
    offences = [
        f"{source}:{node.lineno}"
        for source in [*code_of_gateway(), *code_of_plugins()]
        if source.name != "gateway.clock"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "asyncio.sleep"
        if ast.unparse(node) != "asyncio.sleep(0)"
    ]

    assert offences == []


def test_web_is_imported_qualified() -> None:
    """Names of aiohttp are read as `web.Request`, so that `Request` is always the gateway's own record."""
    offences = [
        f"{source} imports {name}"
        for source in [*code_of_gateway(), *code_of_plugins(), *code_of_tests()]
        for name in imports(source)
        if name.startswith("aiohttp.web")
        if name != "aiohttp.web"
    ]

    assert offences == []


def test_files_are_small_enough_to_live_in() -> None:
    """No file is over 400 lines, tests included, and half of the gateway's are under 300."""
    offences = [
        f"{source}: {source.line_count} lines"
        for source in [*code_of_gateway(), *code_of_plugins(), *code_of_tests()]
        if source.line_count > MAX_FILE_LINES
    ]

    assert offences == []
    assert statistics.median(source.line_count for source in code_of_gateway()) <= MAX_MEDIAN_FILE_LINES


def test_functions_are_short() -> None:
    """No function is over 60 lines, and nine of ten in the shipped code are under 25."""
    offences = [
        f"{source}:{function.lineno} {function.name}: {length(function)} lines"
        for source, function in functions([*code_of_gateway(), *code_of_plugins(), *code_of_tests()])
        if length(function) > MAX_FUNCTION_LINES
    ]
    shipped = sorted(length(function) for _, function in functions([*code_of_gateway(), *code_of_plugins()]))

    assert offences == []
    assert shipped[len(shipped) * 9 // 10] < MAX_P90_FUNCTION_LINES


def test_every_test_states_its_promise() -> None:
    """Each test, and each one inherited from the gateway's own suites, has a docstring of one whole sentence."""
    offences = []
    for source, function in functions([*code_of_gateway(), *code_of_tests()]):
        if function.name.startswith("test_"):
            promise = " ".join((ast.get_docstring(function) or "").split())
            if not promise.endswith(".") or re.search(r"[.!?] [A-Z]", promise):
                offences.append(f"{source}:{function.lineno} {function.name}")

    assert offences == []
