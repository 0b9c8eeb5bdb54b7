"""Which routers have answered nobody so far: a share does not wait for them again before it shows its link.

A router is told by its address and its hardware address, which the kernel knows of whoever it has talked to;
where it does not say, nothing is remembered.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from swarm.net.router_protocols import default_gateway

MAX_ROUTERS: Final = 32
"""Silent routers that are remembered; of more the last."""
_MAX_BYTES: Final = 64 * MAX_ROUTERS
_NEIGHBOURS: Final = Path("/proc/net/arp")
_UNKNOWN: Final = "00:00:00:00:00:00"


class RouterMemory:
    """The file of one home: a line for each silent router."""

    def __init__(self, path: Path, neighbours: Path = _NEIGHBOURS) -> None:
        self._path = path
        self._name = _name_of(default_gateway(), neighbours)
        self._neighbours = neighbours

    @property
    def is_silent(self) -> bool:
        """Whether the router of this network answered nobody the last time."""
        return self._name in self._read()

    def note(self, *, silent: bool) -> None:
        """Remember whether the router of now answered; nothing is written if that is known."""
        # Since the start the kernel may have met the router, or the machine may have moved to another one.
        self._name = _name_of(default_gateway(), self._neighbours)
        known = self._read()
        if not self._name or silent == (self._name in known):
            return
        kept = [each for each in known if each != self._name] + [self._name] * silent
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Not synced: what is lost costs half a second.
            self._path.write_text("".join(f"{each}\n" for each in kept[-MAX_ROUTERS:]), encoding="ascii")

    def _read(self) -> list[str]:
        with suppress(OSError), self._path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("ascii", "replace").splitlines()
        return []


def _name_of(gateway: str | None, neighbours: Path) -> str:
    with suppress(OSError, ValueError):
        for line in neighbours.read_text(encoding="ascii").splitlines()[1:]:
            address, _, _, hardware, *_ = line.split()
            if address == gateway and hardware != _UNKNOWN:
                return f"{address} {hardware}"
    return ""
