"""The fewest inputs, roughly, that run every line transition which a collection of inputs runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import swarm
from tests.fuzz.surfaces import Surface

_ROOT = str(Path(swarm.__file__).parent)
Steps = set[tuple[int, int, int]]


def steps_of(surface: Surface, data: bytes) -> Steps:
    """Which lines of swarm follow which when ``surface`` runs ``data``."""
    found: Steps = set()

    def enter(frame: FrameType, _event: str, _argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(_ROOT):
            return None
        code, before = id(frame.f_code), 0

        def step(inner: FrameType, _event: str, _argument: object) -> Any:
            nonlocal before
            found.add((code, before, inner.f_lineno))
            before = inner.f_lineno
            return step

        return step

    earlier = sys.gettrace()
    sys.settrace(enter)
    try:
        surface.run(data)
    finally:
        sys.settrace(earlier)
    return found


def minimised(surface: Surface, inputs: Iterable[bytes]) -> list[bytes]:
    """The shortest first, each kept that runs something which those before it do not."""
    kept, known = [], Steps()
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        new = steps_of(surface, data) - known
        if new:
            known |= new
            kept.append(data)
    return kept
