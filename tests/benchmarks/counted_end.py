"""A swarm command that counts the calls of functions in its main thread; see `bench_profile`.

    python -m tests.benchmarks.counted_end TOLD share|fetch …

The count goes to the file TOLD when the command ends. Unlike a time, it hardly depends on what else runs.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import runpy
import sys
from pathlib import Path


def main() -> None:
    told, profile, leave = Path(sys.argv[1]).resolve(), cProfile.Profile(), os._exit

    def leaving(code: int) -> None:
        profile.disable()
        told.write_text(str(pstats.Stats(profile).total_calls))
        leave(code)

    os._exit = leaving  # type: ignore[assignment]
    sys.argv[:2] = ["swarm"]
    profile.enable()
    runpy.run_module("swarm", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
