"""How much of a circuit's limit one direction has used. Pure."""

from __future__ import annotations


class CircuitBudget:
    """Counts the bytes of one direction; ``size`` is the most, 0 for no limit."""

    def __init__(self, size: int) -> None:
        self._left = size or None

    def next_read(self, most: int) -> int:
        """Bytes that may be taken now, at most ``most``; 0 once the limit is reached."""
        return most if self._left is None else min(most, self._left)

    def carried(self, size: int) -> None:
        """So many bytes have been passed on."""
        if self._left is not None:
            self._left -= size
