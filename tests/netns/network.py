"""Hosts joined by a bridge, each with a limited uplink: Linux network namespaces, made and removed here.

Every host is a namespace with one interface, `eth0`, whose other end is on a bridge in a namespace of its
own. Nothing is made in the machine's own namespace. The queue of an uplink is a token bucket (`tbf`): what
is above its rate waits, what would wait longer than `QUEUE_SECONDS` is dropped. Downlinks have no limit.

The namespaces' names carry the process that made them. What a killed run has left behind is found by that
and removed before the next one begins.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

PREFIX = "swarmnet"
SUBNET = "198.18.0"
"""Of the network for benchmarks (RFC 2544): no program takes these addresses for a home's or an office's,
where libtorrent, for one, ignores its upload slots."""
BURST_BYTES = 32 * 1024
QUEUE_SECONDS = 0.1
CONGESTION_CONTROL = "cubic"
"""Linux's default, set with the route: a namespace may not choose it for itself."""
FRAME_BYTES = 1514
"""What a full packet counts for at an uplink: 1,500 bytes of IP and the Ethernet header."""
SEGMENT_BYTES = 1448
"""TCP payload of a full packet, timestamps on."""
COMMAND_SECONDS = 20


class NetworkUnavailable(Exception):
    """This machine or user cannot have network namespaces; the message is one line that says why."""


def payload_rate(bits: int) -> float:
    """Bytes a second of TCP payload that an uplink of ``bits`` a second carries at best."""
    return bits / 8 * SEGMENT_BYTES / FRAME_BYTES


def _run(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=COMMAND_SECONDS)
    except FileNotFoundError:
        raise NetworkUnavailable(f"`{argv[0]}` is not installed (Debian: apt-get install iproute2)") from None
    except subprocess.CalledProcessError as error:
        why = (error.stderr or error.stdout).strip().splitlines()
        raise NetworkUnavailable(f"`{' '.join(argv)}` failed: {why[-1] if why else error}") from None
    return done.stdout


def why_unavailable() -> str:
    """Return why there can be no namespaces here, in one line; an empty string if there can."""
    if os.name != "posix" or not Path("/proc/self/ns/net").exists():
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "network namespaces need `ip` and `tc` (Debian: apt-get install iproute2)"
    try:
        with Network(1, bits=10_000_000):
            return ""
    except NetworkUnavailable as error:
        return f"network namespaces cannot be made here: {error}"


def _started(pid: int) -> str | None:
    """Return when a process began, in ticks since boot; None when there is no such process."""
    try:
        # The name of the program, in brackets, may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _all_namespaces() -> list[str]:
    listed = _run("ip", "-json", "netns", "list").strip()
    return [each["name"] for each in json.loads(listed or "[]")]


def _remove(namespace: str) -> None:
    """Kill what runs in the namespace and delete it, with its interfaces."""
    try:
        for pid in _run("ip", "netns", "pids", namespace).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        _run("ip", "netns", "delete", namespace)
    except NetworkUnavailable:
        # Another process may have found the same leftover.
        if namespace in _all_namespaces():
            raise


def remove_leftovers() -> list[str]:
    """Remove the namespaces of runs that are no more; return their names."""
    removed = []
    for namespace in _all_namespaces():
        prefix, _, rest = namespace.partition("-")
        owner, _, rest = rest.partition("-")
        began = rest.partition("-")[0]
        if prefix == PREFIX and owner.isdigit() and _started(int(owner)) != began:
            _remove(namespace)
            removed.append(namespace)
    return removed


def namespace_tag() -> str:
    """What begins the names of the namespaces of one network of this process."""
    Network._made += 1
    return f"{PREFIX}-{os.getpid()}-{_started(os.getpid())}-{Network._made}"


def remove_tagged(tag: str) -> None:
    """Remove the namespaces of one network."""
    for namespace in _all_namespaces():
        if namespace.startswith(f"{tag}-"):
            _remove(namespace)


class Namespaces(ABC):
    """Namespaces that are made together and removed together; leftovers of killed runs go first."""

    def __init__(self) -> None:
        self._tag = namespace_tag()

    def __enter__(self) -> Self:
        remove_leftovers()
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @abstractmethod
    def _make(self) -> None:
        """Make them."""

    def _remove(self) -> None:
        """Remove what was made, also when that is not all."""
        remove_tagged(self._tag)


class Network(Namespaces):
    """``size`` hosts, numbered from 0, whose uplinks carry ``bits`` a second; removed when left.

    Raises NetworkUnavailable.
    """

    _made = 0

    def __init__(self, size: int, *, bits: int) -> None:
        super().__init__()
        self.size = size
        self.bits = bits

    def name(self, host: int) -> str:
        """The namespace of a host."""
        return f"{self._tag}-{host}"

    @staticmethod
    def address(host: int) -> str:
        """The IPv4 address of a host."""
        return f"{SUBNET}.{host + 1}"

    def inside(self, host: int, *argv: str | Path) -> list[str]:
        """The command that runs ``argv`` on a host; it becomes ``argv``, with the same process id."""
        return ["ip", "netns", "exec", self.name(host), *map(str, argv)]

    def socket(self, host: int, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this process that is in the network of a host."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/self/ns/net") as own, open(f"/run/netns/{self.name(host)}") as other:
            if libc.setns(other.fileno(), 0):
                raise NetworkUnavailable(f"setns failed: {os.strerror(ctypes.get_errno())}")
            try:
                return socket.socket(family, kind, protocol)
            finally:
                libc.setns(own.fileno(), 0)

    def sent(self, host: int) -> int:
        """Bytes that have left a host by its uplink, headers included."""
        told = json.loads(
            _run("ip", "-netns", self.name(host), "-json", "-statistics", "link", "show", "eth0")
        )
        return int(told[0]["stats64"]["tx"]["bytes"])

    @property
    def _switch(self) -> str:
        return f"{self._tag}-switch"

    def _make(self) -> None:
        _run("ip", "netns", "add", self._switch)
        self._on_switch("link", "add", "br0", "type", "bridge", "stp_state", "0")
        self._on_switch("link", "set", "br0", "up")
        for host in range(self.size):
            self._join(host)

    def _on_switch(self, *arguments: str) -> None:
        _run("ip", "-netns", self._switch, *arguments)

    def _join(self, host: int) -> None:
        name, port = self.name(host), f"port{host}"
        _run("ip", "netns", "add", name)
        self._on_switch("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        self._on_switch("link", "set", port, "master", "br0", "up")
        _run("ip", "-netns", name, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
        _run("ip", "-netns", name, "link", "set", "lo", "up")
        _run("ip", "-netns", name, "link", "set", "eth0", "up")
        route = ("route", "change", f"{SUBNET}.0/24", "dev", "eth0", "src", self.address(host))
        _run("ip", "-netns", name, *route, "congctl", CONGESTION_CONTROL)
        limit = ("rate", f"{self.bits}bit", "burst", str(BURST_BYTES), "latency", f"{QUEUE_SECONDS}s")
        _run("tc", "-netns", name, "qdisc", "add", "dev", "eth0", "root", "tbf", *limit)
