"""What finding and reaching peers costs at the start of `swarm share` and `swarm fetch`. Root.

    python -m tests.netns.bench_reach [--rounds 9] [--other CHECKOUT]

At home behind a router that maps ports, with a meeting point in the Internet, by turns: 1 KiB is shared and
fetched with everything off (``--no-lan --no-map-port``), with one of LAN, mapping and ``--meet``, and with
all of them; with --other also by a version that may know none of it. Prints medians, of the share until its
link and of the whole fetch: seconds, processor seconds, peak memory, and how much more than with everything
off.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
from pathlib import Path

from tests.benchmarks.measuring import MB, compile_program, table
from tests.benchmarks.two_ends import HERE, End, Spent, fresh
from tests.netns.nats import PUBLIC
from tests.netns.test_port_mapping import Home, home

NO_LAN, NO_MAPPING = "--no-lan", "--no-map-port"
KINDS = ("off", "lan", "mapping", "meeting", "all")


def turn(
    here: Home, checkout: Path, source: Path, folder: Path, options: tuple[str, ...]
) -> tuple[Spent, Spent]:
    """Share until the link, then fetch."""
    fresh(folder)
    before = here.nats.inside("a")
    sharing = End(checkout, folder, before)
    link = sharing.share(source, *options)
    shared = sharing.so_far()
    fetched = End(checkout, folder, before).fetch(link, *options)
    sharing.stop()
    return shared, fetched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--other", type=Path, help="a checkout of another version")
    given = parser.parse_args()
    checkouts = dict.fromkeys(KINDS, HERE) | ({"other": given.other.resolve()} if given.other else {})
    for checkout in set(checkouts.values()):
        compile_program(checkout)
    turns: dict[str, list[tuple[Spent, Spent]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as temporary, home(Path(temporary)) as here:
        here.begin_router("PCP")
        meet = here.swarm("public", "meet", "-l", "/ip4/0.0.0.0/tcp/4001", name="meet")
        meeting = meet.line(rf"(/ip4/{re.escape(PUBLIC)}/\S+)").group(1)
        met = ("--meet", meeting)
        options = {
            "off": (NO_LAN, NO_MAPPING),
            "lan": (NO_MAPPING,),
            "mapping": (NO_LAN,),
            "meeting": (*met, NO_LAN, NO_MAPPING),
            "all": met,
            "other": (),
        }
        source = Path(temporary) / "tiny.bin"
        source.write_bytes(bytes(1024))
        for number in range(given.rounds + 1):
            for name in list(checkouts) if number % 2 else reversed(list(checkouts)):
                found = turn(here, checkouts[name], source, Path(temporary) / "work", options[name])
                # The first one fills caches.
                turns[name] += [found] * bool(number)
    for end, what in enumerate(("share, until its link", "fetch, whole")):
        print(f"{what}; medians of {given.rounds}\n")
        print(
            table(("reach", "wall s", "processor s", "peak MB", "processor", "memory MB"), _rows(turns, end))
        )
        print()


def _rows(turns: dict[str, list[tuple[Spent, Spent]]], end: int) -> list[tuple[str, ...]]:
    def median(name: str, figure: str) -> float:
        return statistics.median(getattr(each[end], figure) for each in turns[name])

    def row(name: str) -> tuple[str, ...]:
        wall, processor, peak = (median(name, figure) for figure in ("seconds", "processor", "peak"))
        more = peak - median("off", "peak")
        return (
            name,
            f"{wall:.3f}",
            f"{processor:.3f}",
            f"{peak / MB:.1f}",
            f"{processor / median('off', 'processor'):.3f}x",
            f"{more / MB:+.1f}",
        )

    return [row(name) for name in turns]


if __name__ == "__main__":
    main()
