"""Keeps the garbage collector away from what other tests have left."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def frozen_heap() -> Iterator[None]:
    """What exists now is not looked at by the collector meanwhile; what is made meanwhile is, as ever.

    A full collection of the heap of a long test run takes a tenth of a second and more. It would be counted
    as time of the code that happens to run then.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
