"""How long the program takes to begin: imports with and without the parts of libp2p that it does not use.

    python -m tests.benchmarks.bench_start [--rounds 7]

In turns: the import of the node, whole and partial (docs/decisions/0007); `swarm --help` and `swarm ping` of
a local peer as whole processes. Prints medians: wall and processor seconds, and the peak size of the process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.contenders import LOOPBACK, START_DEADLINE
from tests.benchmarks.measuring import MIB, compile_program, table
from tests.support.processes import Processes, Running

WHOLE = "import swarm.node"
PARTIAL_IMPORT = """
from swarm.net.libp2p import partial_import
with partial_import.importing():
    import swarm.node
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    compile_program()
    with tempfile.TemporaryDirectory(prefix="bench") as folder, Processes(Path(folder)) as processes:
        listener = processes.swarm("listen", "--listen", LOOPBACK, name="listener")
        commands = {
            "python -c 'pass'": [sys.executable, "-c", "pass"],
            "import swarm": [sys.executable, "-c", "import swarm"],
            "import swarm.node": [sys.executable, "-c", WHOLE],
            "import swarm.node, partial": [sys.executable, "-c", PARTIAL_IMPORT],
            "swarm --help": [sys.executable, "-m", "swarm", "--help"],
            "swarm ping, 5 round trips": [
                sys.executable, "-m", "swarm", "ping", listener.address(START_DEADLINE),
            ],
        }  # fmt: skip
        runs: dict[str, list[Running]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, argv in commands.items():
                process = processes.command(argv, name="command")
                process.expect_exit(0)
                runs[name].append(process)
        rows = [_row(name, ended) for name, ended in runs.items()]
    print(table(("what", "wall s", "processor s", "peak MiB"), rows))


def _row(name: str, ended: list[Running]) -> list[str]:
    usages = [process.usage() for process in ended]
    return [
        name,
        f"{statistics.median(process.elapsed() for process in ended):.2f}",
        f"{statistics.median(usage.cpu_seconds for usage in usages):.2f}",
        f"{statistics.median(usage.peak_rss / MIB for usage in usages):.0f}",
    ]


if __name__ == "__main__":
    main()
