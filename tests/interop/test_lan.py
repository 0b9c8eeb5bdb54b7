"""Other programs in one network: js-libp2p and py-libp2p find ours and are found, avahi is not disturbed."""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.protocol.dns_message import A, DnsMessage, Question, decode_message, encode_message, name_of
from tests.interop.conftest import INSTALLED, NODE_PACKAGES, installed
from tests.netns.network import Network, why_unavailable
from tests.support.processes import Processes, Running
from tests.support.requirements import MAY_INSTALL, require, require_program

pytestmark = [pytest.mark.interop, MAY_INSTALL]
SUPPORT = Path(__file__).resolve().parents[1] / "support"
BITS = 200_000_000
AVAHI = """
[server]
host-name=printer
enable-dbus=no
[wide-area]
enable-wide-area=no
[publish]
publish-hinfo=no
"""


@pytest.fixture
def network() -> Iterator[Network]:
    why = why_unavailable()
    require(not why, why)
    with Network(2, bits=BITS) as made:
        for host in range(made.size):
            # The others send where the default route leads.
            subprocess.run(made.inside(host, "ip", "route", "add", "default", "dev", "eth0"), check=True)
        yield made


def swarm(network: Network, processes: Processes, host: int, *arguments: str | Path, name: str) -> Running:
    argv = network.inside(host, sys.executable, "-m", "swarm", *arguments)
    return processes.command(argv, name=name, env={"SWARM_NO_LAN": "0"})


def program(kind: str, folder: Path) -> list[str | Path]:
    """The command of a peer of another implementation, without the address that it listens on."""
    if kind == "py":
        return [sys.executable, "-m", "tests.support.lan_peer"]
    modules = INSTALLED / "js" / "node_modules"
    node = installed("js", modules / NODE_PACKAGES.get(platform.machine(), "node") / "bin" / "node")
    (folder / "node_modules").symlink_to(modules)
    return [node, shutil.copy(SUPPORT / "lan_peer.mjs", folder)]


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("js", "ours"),
        ("py", "theirs"),
        pytest.param("js", "theirs", marks=pytest.mark.slow),
        pytest.param("py", "ours", marks=pytest.mark.slow),
    ],
)
def test_each_finds_the_other(
    network: Network, processes: Processes, tmp_path: Path, kind: str, first: str
) -> None:
    path = processes.work("ours") / "file.bin"
    path.write_bytes(b"something to share")
    command = [*program(kind, tmp_path), f"/ip4/{network.address(0)}/tcp/4001"]

    def begin_theirs() -> Running:
        running = processes.command(network.inside(0, *command), name="theirs")
        running.address()
        return running

    theirs = begin_theirs() if first == "theirs" else None
    share = swarm(network, processes, 1, "share", path, "--json", name="ours")
    share.event("path_shared")
    theirs = theirs or begin_theirs()
    me = share.event("node_listening")["peer"]
    found = theirs.line(rf"found {me} (.*)")
    assert f"/ip4/{network.address(1)}/tcp/" in found.group(1)
    near = swarm(network, processes, 1, "peers", "--json", "--for", "4s", name="looking")
    near.expect_exit(0)
    peer = theirs.address().rpartition("/")[2]
    (seen,) = [each for each in near.events("peer_seen") if each["peer"] == peer]
    assert seen["source"] == "libp2p"
    assert f"/ip4/{network.address(0)}/tcp/4001" in seen["addresses"]
    assert seen["seconds"] is not None
    # To fetch, nobody asks a program that cannot have anything.
    fetch = swarm(network, processes, 1, "fetch", "b" + "a" * 58, "--patience", "1", name="fetching")
    fetch.wait()
    assert peer not in fetch.errors()


def test_two_processes_beside_avahi(network: Network, processes: Processes, tmp_path: Path) -> None:
    avahi = require_program("avahi-daemon")
    config = tmp_path / "avahi.conf"
    config.write_text(AVAHI)
    # A /run of its own: the machine may have a daemon, too.
    start = f"mount -t tmpfs none /run && exec {avahi} --no-drop-root --no-chroot -f {config}"
    daemon = processes.command(
        network.inside(0, "unshare", "--mount", "sh", "-c", start), name="avahi", cwd=tmp_path
    )
    daemon.line("Server startup complete", stderr=True)
    for name in ("one", "two"):
        path = processes.work(name) / f"{name}.bin"
        path.write_bytes(name.encode())
    one = swarm(network, processes, 0, "share", processes.work("one") / "one.bin", "--json", name="one")
    two = swarm(network, processes, 0, "share", processes.work("two") / "two.bin", "--json", name="two")
    ids = [str(each.event("path_shared")["manifest"]) for each in (one, two)]
    for host in (0, 1):
        for number, manifest in enumerate(ids):
            fetch = swarm(network, processes, host, "fetch", manifest, name=f"fetch{host}{number}")
            fetch.expect_exit(0)
    assert _address_of(network, "printer.local") == network.address(0)


def _address_of(network: Network, name: str) -> str:
    """Ask for the address of a name as a plain resolver does: from another port, answered to it alone."""
    with network.socket(1, socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(10)
        asking.sendto(
            encode_message(DnsMessage(response=False, questions=(Question(name_of(name), A),))),
            (network.address(0), 5353),
        )
        answer = decode_message(asking.recv(9000))
    (address,) = [record.value for record in answer.records if record.kind == A]
    assert isinstance(address, bytes)
    return socket.inet_ntoa(address)
