"""Two homes behind address translators, and one public host: Linux network namespaces, made and removed here.

    home A  192.168.1.10 ── router 5.5.5.2 ─┐
                                            ├─ wan ── public host 5.5.5.1
    home B  192.168.2.10 ── router 5.5.5.3 ─┘

A router translates with nftables' masquerade. It drops what nobody inside has asked for, or refuses it with
a reset. What goes to private addresses elsewhere vanishes, as with most providers. A router is a cone (one
mapping for each port inside, whoever is talked to) or symmetric (another mapping for each destination).
``delay`` makes each packet that passes between two homes or a home and the public host wait, half of the
round trip each way: netem is not in every kernel, so a process moves the frames.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.netns.network import Namespaces, NetworkUnavailable, _run

PUBLIC = "5.5.5.1"
SECOND_PUBLIC = "5.5.5.11"
"""Of the same host."""
ROUTERS = {"a": "5.5.5.2", "b": "5.5.5.3"}
HOMES = {"a": "192.168.1", "b": "192.168.2"}
CONE, SYMMETRIC = "", "fully-random"
DROPS, REFUSES = "drop", "reject with tcp reset"
"""What a router does with a SYN that nobody inside has asked for."""

_RULES = """
table ip nat {{
 chain post {{ type nat hook postrouting priority 100; oifname "wan0" masquerade {flags}; }}
 chain pre {{ type nat hook prerouting priority -100; }}
}}
table ip filt {{
 chain forwarding {{ type filter hook forward priority 0; policy drop;
  ct state established,related accept; ct status dnat accept; iifname "lan0" accept; }}
 chain incoming {{ type filter hook input priority 0; policy drop;
  iifname "lo" accept; iifname "lan0" accept; ct state established,related accept;
  meta l4proto tcp {strangers}; }}
}}
"""


class Nats(Namespaces):
    """Routers ``a`` and ``b`` are `CONE` or `SYMMETRIC`; ``round_trip`` is seconds between any two sides."""

    def __init__(
        self, a: str = CONE, b: str = CONE, *, round_trip: float = 0.0, strangers: str = DROPS
    ) -> None:
        super().__init__()
        self._strangers = strangers
        self._kinds = {"a": a, "b": b}
        self._round_trip = round_trip
        self._delays: list[subprocess.Popen[bytes]] = []

    def name(self, host: str) -> str:
        """The namespace of ``public``, ``wan``, home ``a`` or ``b``, or router ``ra`` or ``rb``."""
        return f"{self._tag}-{host}"

    def inside(self, host: str, *argv: str | Path) -> list[str]:
        """The command that runs ``argv`` there."""
        return ["ip", "netns", "exec", self.name(host), *map(str, argv)]

    def limit(self, host: str, bits: int) -> None:
        """Let home or host ``host`` send this many bits a second."""
        queue = ("rate", f"{bits}bit", "burst", "64kb", "latency", "100ms")
        _run("tc", "-netns", self.name(host), "qdisc", "add", "dev", "eth0", "root", "tbf", *queue)

    def _remove(self) -> None:
        for process in self._delays:
            process.send_signal(signal.SIGKILL)
            process.wait()
        super()._remove()

    def _make(self) -> None:
        if shutil.which("nft") is None:
            raise NetworkUnavailable("`nft` is not installed (Debian: apt-get install nftables)")
        self._add("wan")
        _run("ip", "-n", self.name("wan"), "link", "add", "br0", "type", "bridge", "stp_state", "0")
        _run("ip", "-n", self.name("wan"), "link", "set", "br0", "up")
        self._add("public")
        self._join("public", "eth0", PUBLIC)
        _run("ip", "-n", self.name("public"), "address", "add", f"{SECOND_PUBLIC}/24", "dev", "eth0")
        for home in HOMES:
            self._home(home)

    def _add(self, host: str) -> None:
        _run("ip", "netns", "add", self.name(host))
        _run("ip", "-n", self.name(host), "link", "set", "lo", "up")

    def _join(self, host: str, device: str, address: str) -> None:
        """Give a namespace a leg in the wan."""
        port, wan, inside = f"p{host}", self.name("wan"), self.name(host)
        _run("ip", "-n", wan, "link", "add", port, "type", "veth", "peer", "name", device, "netns", inside)
        _run("ip", "-n", inside, "address", "add", f"{address}/24", "dev", device)
        _run("ip", "-n", inside, "link", "set", device, "up")
        if not self._round_trip:
            _run("ip", "-n", wan, "link", "set", port, "master", "br0", "up")
            return
        # Two sides are joined by two such delays.
        side = f"d{host}"
        _run("ip", "-n", wan, "link", "set", port, "up")
        _run("ip", "-n", wan, "link", "add", side, "type", "veth", "peer", "name", f"{side}x")
        _run("ip", "-n", wan, "link", "set", side, "up")
        _run("ip", "-n", wan, "link", "set", f"{side}x", "master", "br0", "up")
        _run(*self.inside(host, "ethtool", "-K", device, "tso", "off", "gso", "off", "tx", "off"))
        program = [sys.executable, "-m", "tests.netns.delay", port, side, str(self._round_trip / 4)]
        self._delays.append(subprocess.Popen(self.inside("wan", *program)))

    def _home(self, home: str) -> None:
        router, lan = f"r{home}", HOMES[home]
        self._add(router)
        self._add(home)
        self._join(router, "wan0", ROUTERS[home])
        inside, outside = self.name(home), self.name(router)
        _run(
            "ip",
            "-n",
            outside,
            "link",
            "add",
            "lan0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            inside,
        )
        _run("ip", "-n", outside, "address", "add", f"{lan}.1/24", "dev", "lan0")
        _run("ip", "-n", outside, "link", "set", "lan0", "up")
        _run("ip", "-n", inside, "address", "add", f"{lan}.10/24", "dev", "eth0")
        _run("ip", "-n", inside, "link", "set", "eth0", "up")
        _run("ip", "-n", inside, "route", "add", "default", "via", f"{lan}.1")
        _run(*self.inside(router, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"))
        _run("ip", "-n", outside, "route", "add", "blackhole", "default")
        rules = _RULES.format(flags=self._kinds[home], strangers=self._strangers)
        subprocess.run(self.inside(router, "nft", "-f", "-"), input=rules.encode(), check=True)
