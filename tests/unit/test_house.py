"""The rules of the house that no linter knows: small modules, small functions, no asserts as checks."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 40
TOP_LEVEL = {
    "pyproject.toml", "README.md", "swarm", "cli", "tests", "sample_data",
    "Makefile", "LICENSE", "constraints.txt", "docs", ".ci", ".gitignore",
}  # fmt: skip


def modules() -> Iterator[Path]:
    for package in ("swarm", "cli"):
        yield from sorted((ROOT / package).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", list(modules()), ids=name)
def test_a_module_fits_the_house(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_MODULE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} at line {node.lineno}"
        assert not isinstance(node, ast.Assert), f"an assert at line {node.lineno} is gone under python -O"


def test_nothing_else_lies_at_the_top() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode != 0:
        pytest.skip("this is no git checkout")
    assert {line.strip('"').split("/")[0] for line in tracked.stdout.splitlines()} == TOP_LEVEL
