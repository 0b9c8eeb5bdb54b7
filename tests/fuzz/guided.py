"""One surface under Atheris, in a process of its own: libFuzzer ends the process when it is done.

python -m tests.fuzz.guided SURFACE [LIBFUZZER-ARGUMENT]… CORPUS…
"""

from __future__ import annotations

import sys

import atheris

SAMPLE = 20_000
"""One execution in so many is also measured for its memory: tracing is slow."""


def main() -> None:
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["swarm"]):
        from tests.fuzz import surfaces
    surface = surfaces.SURFACES[name]
    done = 0

    def one_input(data: bytes) -> None:
        nonlocal done
        done += 1
        surface.run(data)
        if done % SAMPLE == 0:
            surfaces.check_memory(surface, data)

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
