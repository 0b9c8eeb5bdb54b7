"""One surface under random mutation, in this process: where Atheris does not install, and for numbers."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.mutate import mutated
from tests.fuzz.surfaces import Surface, check_memory

SAMPLE = 5_000
"""One execution in so many is also measured for its memory."""
CLOCK = 64
"""The clock is read once in so many executions."""


def fuzz(surface: Surface, corpus: Sequence[bytes], seconds: float, seed: int, crashes: Path) -> int:
    """Run mutations of ``corpus`` for ``seconds``; returns how many.

    The input of a fault is written into ``crashes`` before the fault is raised.
    """
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    done = 0
    while done % CLOCK or time.monotonic() < end:
        data = mutated(rng, corpus, surface.max_input)
        done += 1
        try:
            surface.run(data)
            if done % SAMPLE == 0:
                check_memory(surface, data)
        except BaseException:
            crashes.mkdir(parents=True, exist_ok=True)
            (crashes / f"blind-{seed}-{done}").write_bytes(data)
            raise
    return done
