"""What a siege case reports, and what a case is.

A case is a module ``tests/siege/case_*.py`` with

    NAME     str, its name in the table and for ``--only``
    FIGURE   str, the figure that is wanted
    async def run(quick: bool) -> Outcome      under trio; ``quick`` is the short form of `make test`
    LIMIT    float, optional: seconds after which the case counts as failed (`DEFAULT_LIMIT`)
    BESIDE   bool, optional: true if no figure of the case is a speed, so that another may run beside it

Each case runs in a process of its own, so that what it measures of itself is its own.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_LIMIT = 900.0
"""Seconds that one case may take."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``figures`` are the measured ones, one line; ``seconds`` is what the case took (0: the whole run)."""

    passed: bool
    figures: str
    seconds: float = 0.0
