"""The peak memory of `swarm share` and `swarm fetch` for a large file, against their limit.

    python -m tests.benchmarks.bench_memory [--size 2GiB] [--no-page]

Exits 1 when either goes over. The result goes into docs/performance.md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.benchmarks.contenders import CONTENDERS, Content
from tests.benchmarks.measuring import MIB, machine, parse_size, table, write_random_file, write_section
from tests.support.processes import Processes

LIMIT = 250 * MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", default="2GiB")
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md as it is")
    arguments = parser.parse_args()
    size = parse_size(arguments.size)
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        path = Path(folder) / "content.bin"
        content = Content(path, size, write_random_file(path, size))
        with Processes(Path(folder)) as processes:
            transfer = CONTENDERS["swarm"].run(processes, content, Path(folder))
    peaks = {"swarm fetch": transfer.receiver_rss, "swarm share": transfer.sender_rss}
    limit = f"{LIMIT // MIB}"
    text = table(
        ("process", "peak RSS MiB", "limit MiB"),
        [(name, f"{peak / MIB:.0f}", limit) for name, peak in peaks.items()],
    )
    print(text)
    if not arguments.no_page:
        command = f"python -m tests.benchmarks.bench_memory --size {arguments.size}"
        write_section("bench_memory", f"`{command}`: one file of {arguments.size}; {machine()}.\n\n{text}")
    over = [name for name, peak in peaks.items() if peak > LIMIT]
    if over:
        raise SystemExit(f"over the limit of {limit} MiB: {', '.join(over)}")


if __name__ == "__main__":
    main()
