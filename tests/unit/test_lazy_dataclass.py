"""A lazy dataclass behaves as one of the standard library's."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from swarm import lazy_dataclass

Decorator = Callable[..., Any]


def _family(dataclass: Decorator) -> tuple[Any, Any, Any, Any]:
    @dataclass(frozen=True, slots=True)
    class Point:
        x: int
        tags: list[str] = dataclasses.field(default_factory=list, compare=False)
        count: ClassVar[int] = 7

        def shifted(self) -> Any:
            return dataclasses.replace(self, x=self.x + 1)

    @dataclass(frozen=True, slots=True)
    class Deep(Point):
        z: int = 3

        def plain(self) -> str:
            return "deep " + super().__repr__()

    @dataclass(slots=True)
    class Open:
        x: int
        y: int = 2

        def __post_init__(self) -> None:
            self.y += 1

    @dataclass(slots=True, eq=False)
    class Single:
        x: int

    return Point, Deep, Open, Single


@pytest.mark.parametrize("dataclass", [dataclasses.dataclass, lazy_dataclass.dataclass])
def test_it_behaves_like_the_standard_one(dataclass: Decorator) -> None:
    point, deep, opened, single = _family(dataclass)
    assert repr(deep(1)).endswith("Deep(x=1, tags=[], z=3)")
    assert deep(1) == deep(1, ["a"]) != deep(2)
    assert hash(deep(1)) == hash(deep(1, ["a"]))
    assert deep(1) != point(1)
    assert deep(1).shifted() == deep(2)
    assert [each.name for each in dataclasses.fields(deep)] == ["x", "tags", "z"]
    assert deep.__match_args__ == ("x", "tags", "z")
    assert dataclasses.asdict(deep(1)) == {"x": 1, "tags": [], "z": 3}
    assert point.count == 7
    for change in (lambda: setattr(deep(1), "x", 2), lambda: delattr(deep(1), "x")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    assert opened(1) == opened(1, 2)
    with pytest.raises(TypeError, match="unhashable"):
        hash(opened(1))
    with pytest.raises(AttributeError):
        opened(1).other = 2
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        point()
    assert single(1) != single(1)
    assert copy.deepcopy(deep(1, ["a"])).tags == ["a"]


def test_a_type_test_and_a_pattern_need_no_instance_first() -> None:
    point, deep, _, _ = _family(lazy_dataclass.dataclass)
    assert dataclasses.is_dataclass(deep)
    match deep(4):
        case point(x):  # type: ignore[misc]
            assert x == 4
        case _:
            pytest.fail("no match")


def test_super_means_the_class_with_slots() -> None:
    _, deep, _, _ = _family(lazy_dataclass.dataclass)
    assert deep(1).plain().endswith("Deep(x=1, tags=[])")


def test_threads_may_be_the_first_to_use_a_class() -> None:
    for _ in range(20):
        point, _, _, _ = _family(lazy_dataclass.dataclass)
        made: list[Any] = []
        barrier = threading.Barrier(4)

        def make(point: Any = point, made: list[Any] = made, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            made.append(point(1))

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert made == [point(1)] * 4


def test_events_can_be_pickled() -> None:
    from swarm.events import Warned

    assert pickle.loads(pickle.dumps(Warned("text"))) == Warned("text")  # noqa: S301


def test_the_methods_of_a_class_that_is_not_used_are_not_made() -> None:
    script = """
import builtins
made = []
real = builtins.exec
def counted(text, names, *rest):
    if isinstance(text, str):
        made.append(names["_set_message"].__self__.__objclass__.__name__)
    real(text, names, *rest)
builtins.exec = counted
import swarm.events
print(made)
swarm.events.Warned("text")
print(made)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['Warned']"]


def test_what_is_incomplete_can_be_completed_before_it_is_used() -> None:
    point, deep, _, _ = _family(lazy_dataclass.dataclass)
    assert {point, deep} <= set(lazy_dataclass.incomplete(__name__))
    assert lazy_dataclass.incomplete(__name__[:-1]) == []
    lazy_dataclass.complete(deep)
    lazy_dataclass.complete(deep)
    lazy_dataclass.complete(int)
    assert deep not in lazy_dataclass.incomplete(__name__)
    # Its base is another matter.
    assert point in lazy_dataclass.incomplete(__name__)
    assert deep(1) == deep(1)


def test_what_fields_says_does_not_depend_on_what_was_used_first() -> None:
    said = []
    for first in ("fields", "instance"):
        _, deep, _, _ = _family(lazy_dataclass.dataclass)
        if first == "instance":
            deep(1)
        said.append([(each.name, each.default, each.compare) for each in dataclasses.fields(deep)])
        assert dataclasses.asdict(deep(1)) == {"x": 1, "tags": [], "z": 3}
        assert deep(1) == deep(1, ["a"])
        point, _, _, _ = _family(lazy_dataclass.dataclass)
        if first == "fields":
            assert [each.name for each in dataclasses.fields(point)] == ["x", "tags"]
        assert dataclasses.asdict(point(1)) == {"x": 1, "tags": []}
        assert point(1) == point(1, ["a"])
    assert (
        said[0]
        == said[1]
        == [("x", dataclasses.MISSING, True), ("tags", dataclasses.MISSING, False), ("z", 3, True)]
    )
