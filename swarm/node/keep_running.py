"""Runs what a node can do without: its failure ends neither the node nor the transfers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

logger = logging.getLogger(__name__)

FIRST_PAUSE: Final = 5.0
"""Seconds between a failure and the next start; twice as long after each failure that follows soon."""
LONGEST_PAUSE: Final = 600.0
"""What has run longer than this begins with the first pause again."""


async def keep_running(run: Callable[[], Awaitable[None]], what: str) -> None:
    """Run until it returns or is cancelled; begin again after a pause when it raises an exception.

    That is logged; ``what`` names what has failed.
    """
    pause = FIRST_PAUSE
    while True:
        began = trio.current_time()
        try:
            await run()
        except Exception:
            logger.exception("%s failed", what)
        else:
            return
        if trio.current_time() - began > LONGEST_PAUSE:
            pause = FIRST_PAUSE
        await trio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
