"""How many numbers the strategy is tuned by."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import swarm.strategy

MOST_CONSTANTS = 60
ROOM = Path(swarm.strategy.__file__).parent


def constants(module: Path) -> list[str]:
    """The names that the module sets to an expression with a number in it."""
    names: list[str] = []
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        else:
            continue
        if any(
            isinstance(part, ast.Constant) and type(part.value) in (int, float)
            for part in ast.walk(node.value)
        ):
            for target in targets:
                names += [part.id for part in ast.walk(target) if isinstance(part, ast.Name)]
    return names


def test_there_are_at_most_sixty_constants() -> None:
    found = {module: constants(module) for module in sorted(ROOM.rglob("*.py"))}
    assert sum(map(len, found.values())) <= MOST_CONSTANTS, found


def test_each_constant_is_followed_by_its_reason() -> None:
    bare = []
    for module in ROOM.rglob("*.py"):
        body = ast.parse(module.read_text()).body
        for node, after in zip(body, [*body[1:], None], strict=True):
            alone = isinstance(node, ast.Assign) and not (
                isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            )
            if alone and {part.id for part in node.targets} & set(constants(module)):
                bare.append((module.name, node.lineno))
    assert bare == []


def test_no_two_classes_of_the_room_have_one_name() -> None:
    names = Counter(
        node.name
        for module in ROOM.rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []
