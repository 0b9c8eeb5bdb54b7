"""Keeps a node's own addresses true: the announced ones, the router's port, and those of the interfaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from swarm.discovery.interfaces import InterfaceNews
from swarm.endpoint import Endpoint
from swarm.net.addresses import parse_endpoint
from swarm.net.host import Host
from swarm.node.keep_running import keep_running
from swarm.transfer.services import OwnAddresses

LEAST_PAUSE: Final = 5.0
"""Seconds between two looks at the interfaces: each change is told to all peer sources of all transfers."""


class AddressKeeper:
    """Owns the `OwnAddresses` of a node, ``own``: those that the user announces come first.

    Raises UsageError for a malformed one of them.
    """

    def __init__(self, host: Host, announced: Sequence[str]) -> None:
        self._host = host
        self._announced = tuple(parse_endpoint(text, "to announce") for text in announced)
        self._mapped: tuple[Endpoint, ...] = ()
        self.own = OwnAddresses(self._now())

    def mapped(self, at: Endpoint | None) -> None:
        """The router leads here from ``at`` from now on; None: from nowhere."""
        self._mapped = () if at is None else (at,)
        self.own.become(self._now())

    def follow_interfaces(self, nursery: trio.Nursery) -> None:
        """Follow the addresses of this machine until the nursery ends; one that the user chose stays."""
        if any(each.is_unspecified for each in self._host.listening):
            nursery.start_soon(keep_running, self._follow, "following the addresses of this machine")

    async def _follow(self) -> None:
        with InterfaceNews() as news:
            self.own.become(self._now())
            while True:
                await news.wait()
                before = self.own.now
                self.own.become(self._now())
                if self.own.now != before:
                    self._host.check_connections()
                await trio.sleep(LEAST_PAUSE)

    def _now(self) -> tuple[str, ...]:
        first = [f"{each}/p2p/{self._host.peer_id}" for each in (*self._announced, *self._mapped)]
        return tuple(dict.fromkeys((*first, *self._host.addresses)))
