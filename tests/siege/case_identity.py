"""Dialers that offer no Noise or no Yamux, and a listener that is somebody else."""

from __future__ import annotations

import trio

from tests.siege.field import Gauge, attackers, battlefield
from tests.siege.outcome import Outcome
from tests.support.hostile import DIALERS
from tests.support.processes import Processes
from tests.support.sharing import MIB, random_file, share

NAME = "1 identity"
FIGURE = "dialers that offer only plaintext, secio or mplex; a wrong peer id: 0 connections"
NOT_REACHED = 4
COUNT = {True: 1, False: 20}


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    with battlefield() as (processes, folder):
        source = random_file(folder / "content.bin", MIB)
        seeder = share(processes, source)
        gauge = Gauge(seeder.process.pid)
        running = attackers(processes, DIALERS, seeder, count=COUNT[quick], persist=False)
        running.expect_exit(0, within=60)
        ended = running.events("cut_off")
        inside = [
            event["attack"] for event in ended if "let in" in event["why"] and "not" not in event["why"]
        ]
        wrong = wrong_identity(processes, seeder.address, share(processes, source).address, folder)
        gauge.stop()
        return Outcome(
            not inside and wrong and len(ended) == len(DIALERS) * COUNT[quick],
            f"{len(ended)} dialers with {', '.join(DIALERS)}: {len(inside)} connections; "
            f"fetch and ping of an address with another's id: {'refused' if wrong else 'NOT refused'}",
        )


def wrong_identity(processes: Processes, address: str, other: str, folder: object) -> bool:
    """Ping and fetch from one peer's address under another's name."""
    false = address.rpartition("/p2p/")[0] + "/p2p/" + other.rpartition("/p2p/")[2]
    ping = processes.swarm("ping", false)
    listing = processes.swarm("list", false)
    return ping.wait(within=30) == listing.wait(within=30) == NOT_REACHED and not ping.lines("pinged")
