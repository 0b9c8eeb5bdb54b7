"""Deadlines that also hold while the surrounding scope is being cancelled."""

from __future__ import annotations

import trio


def shielded(seconds: float) -> trio.CancelScope:
    """Return a scope that outer cancellation does not enter and that ends after ``seconds``.

    For what must be finished properly but may never hold anybody up: closing, resetting, saving.
    """
    scope = trio.CancelScope(deadline=trio.current_time() + seconds)
    scope.shield = True
    return scope
