"""The rules of the house that no linter knows: names, cycles, constructors, sizes, and the top level."""

from __future__ import annotations

import ast
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("swarm", "cli")

# Soft limits are 600, 60 and 6; nothing may be beyond these.
MAX_MODULE_LINES = 650
MAX_FUNCTION_LINES = 80
MAX_PARAMETERS = 6
"""Of a constructor that is written out, besides ``self``. Generated ones belong to plain values."""

TOP_LEVEL = {
    "pyproject.toml", "README.md", "swarm", "cli", "tests", "sample_data",
    "Makefile", "LICENSE", "constraints.txt", "docs", ".ci", ".gitignore",
}  # fmt: skip

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(path: Path) -> str:
    """The name under which a module is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# --- Each module ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", modules(), ids=shown)
def test_a_module_and_its_functions_are_no_longer_than_they_may_be(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= MAX_MODULE_LINES
    for node in ast.walk(parse(path)):
        if isinstance(node, FUNCTIONS):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} at line {node.lineno}"


@pytest.mark.parametrize("path", modules(), ids=shown)
def test_no_check_is_an_assert(path: Path) -> None:
    """It would be gone under ``python -O``."""
    assert asserts(parse(path)) == []


@pytest.mark.parametrize("path", modules(), ids=shown)
def test_a_constructor_has_few_parameters(path: Path) -> None:
    assert crowded(parse(path)) == []


def asserts(tree: ast.AST) -> list[int]:
    """The lines with assert statements."""
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]


def crowded(tree: ast.AST) -> list[str]:
    """The classes whose ``__init__`` has too many parameters."""
    found = []
    for owner in ast.walk(tree):
        if isinstance(owner, ast.ClassDef):
            for node in owner.body:
                if isinstance(node, FUNCTIONS) and node.name == "__init__" and parameters(node):
                    found.append(f"{owner.name} has {parameters(node)}")
    return [each for each in found if int(each.rpartition(" ")[2]) > MAX_PARAMETERS]


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many there are besides ``self``; ``*args`` and ``**kwargs`` count as one each."""
    arguments = function.args
    named = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - 1
    return named + (arguments.vararg is not None) + (arguments.kwarg is not None)


# --- Names ----------------------------------------------------------------------------------------


def test_no_class_name_is_used_twice() -> None:
    assert twice(classes()) == {}


def test_no_module_name_is_used_twice() -> None:
    """Commands are in modules of their own names; ``__init__`` and ``__main__`` are no names of ours."""
    named: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        if path.stem not in {"__init__", "__main__"} and path.parent != ROOT / "cli" / "commands":
            named[path.stem].append(shown(path))
    assert twice(named) == {}


def classes() -> dict[str, list[str]]:
    """The modules in which a class of each name is defined."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(shown(path))
    return found


def twice(named: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: where for name, where in named.items() if len(where) > 1}


# --- Imports --------------------------------------------------------------------------------------


def test_no_modules_import_each_other() -> None:
    """Directly or through others. What is imported for the type checker alone does not count."""
    graph = {dotted(path): set(imported(path)) for path in modules()}
    assert cycles(graph) == []


def imported(path: Path) -> Iterator[str]:
    """The modules of ours that a module imports, at the top or in its functions."""
    known = {dotted(each) for each in modules()}
    for node in runtime_nodes(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in known:
                    yield inner
                elif node.module in known:
                    yield node.module


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield other
                yield from runtime_nodes(other)
            continue
        yield node
        yield from runtime_nodes(node)


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that reach each other, each sorted (Tarjan, SIAM J. Comput. 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in graph.get(name, ()):
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            at = stack.index(name)
            group, stack[at:] = stack[at:], []
            if len(group) > 1 or name in graph.get(name, ()):
                found.append(sorted(group))

    for name in graph:
        if name not in number:
            visit(name)
    return found


# --- The top level --------------------------------------------------------------------------------


def test_nothing_else_lies_at_the_top() -> None:
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        listed = None
    if listed is None or listed.returncode != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("git does not say what belongs to the project", pytrace=False)
        pytest.skip("this is no git checkout, or there is no git")
    assert {line.strip('"').split("/")[0] for line in listed.stdout.splitlines()} == TOP_LEVEL


# --- These checks themselves ----------------------------------------------------------------------

BAD = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import hidden
else:
    import seen

class Crowded:
    def __init__(self, a, b, c, *, d, e, f, g=1):
        assert a

class Sound:
    def __init__(self, a, b, c, *, d, e, f):
        import inner
"""


def test_the_checks_see_what_they_look_for() -> None:
    tree = ast.parse(BAD)
    assert asserts(tree) == [10]
    assert crowded(tree) == ["Crowded has 7"]
    names = [alias.name for n in runtime_nodes(tree) if isinstance(n, ast.Import) for alias in n.names]
    assert names == ["seen", "inner"]
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}, "e": {"a"}}) == [["b", "c"], ["d"]]
    assert cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert twice({"A": ["x"], "B": ["x", "y"]}) == {"B": ["x", "y"]}


def test_the_graph_of_imports_is_the_real_one() -> None:
    graph = {dotted(path): set(imported(path)) for path in modules()}
    assert "swarm.errors" in graph["swarm.node.node"]
    assert {"cli.app", "cli.interrupts"} <= graph["cli"]
    assert len(graph) > 100
