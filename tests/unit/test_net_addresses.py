"""Which addresses a node listens on, and which of them it names to others, best first."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ifaddr
import pytest
import trio

import swarm
from swarm.endpoint import Endpoint
from swarm.errors import NoPeerReachable, UsageError
from swarm.net import addresses, host
from swarm.net.addresses import concrete, of_others, parse_listen_address, parse_peer_address
from swarm.net.host import at_one_port, open_host
from tests.support.nodes import node_options

PEER = "12D3KooWD3bfmNbuuuVCYwkjnFt3ukm3qaB3hDED3peHHXawvRAi"
EVERYWHERE = ("/ip4/0.0.0.0/tcp/7", "/ip6/::/tcp/7")


@dataclass
class Entry:
    ip: str | tuple[str, int, int]


@dataclass
class Adapter:
    ips: list[Entry]


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with addresses of every kind, the ones of containers first."""
    four = ["127.0.0.1", "169.254.3.4", "172.17.0.1", "192.168.1.5", "100.64.0.9", "93.184.215.14"]
    six = ["::1", "fe80::1", "fd00::5", "2606:2800:21f:cb07::aa", "2606:2800:21f:cb07::1"]
    found = [Adapter([Entry(ip) for ip in four]), Adapter([Entry((ip, 0, 0)) for ip in six])]
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: found)
    routes = {"ip4": "192.168.1.5", "ip6": "2606:2800:21f:cb07::aa"}
    monkeypatch.setattr(addresses, "route_source", routes.get)
    monkeypatch.setattr(addresses, "_short_lived", lambda: {"2606:2800:21f:cb07::aa"})


def listed(*listening: str) -> list[str]:
    return [endpoint.host for endpoint in concrete(map(Endpoint.parse, listening))]


@pytest.mark.usefixtures("interfaces")
def test_the_best_address_comes_first_and_loopback_last() -> None:
    assert listed(*EVERYWHERE) == [
        "93.184.215.14",
        "2606:2800:21f:cb07::1",
        "2606:2800:21f:cb07::aa",
        "100.64.0.9",
        "192.168.1.5",
        "172.17.0.1",
        "fd00::5",
        "169.254.3.4",
        "127.0.0.1",
        "::1",
    ]


@pytest.mark.usefixtures("interfaces")
def test_a_link_names_loopback_only_where_there_is_nothing_else() -> None:
    texts = [f"{endpoint}/p2p/{PEER}" for endpoint in concrete(map(Endpoint.parse, EVERYWHERE))]
    assert of_others(texts) == tuple(texts[:-2])
    assert of_others(texts[-2:]) == tuple(texts[-2:])
    assert of_others([f"/dns4/localhost/tcp/1/p2p/{PEER}", texts[3]]) == (texts[3],)


def sockets_at(port: int) -> dict[str, int]:
    """Whether something listens on the port on 127.0.0.1 and on ::1."""
    found = {}
    for family, where in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as probe:
            found[where] = probe.connect_ex((where, port))
    return found


async def test_a_node_listens_on_both_families_at_one_port_and_keeps_it(tmp_path: Path) -> None:
    ports = set()
    for _ in range(2):
        async with swarm.open_node(swarm.NodeOptions(home=tmp_path)) as node:
            endpoints = [Endpoint.parse(text.partition("/p2p/")[0]) for text in node.addresses]
            assert {endpoint.kind for endpoint in endpoints} == {"ip4", "ip6"}
            (port,) = {endpoint.port for endpoint in endpoints}
            assert sockets_at(port) == {"127.0.0.1": 0, "::1": 0}
            ports.add(port)
    assert len(ports) == 1
    assert ports.pop() in host.LISTEN_PORTS


async def test_the_socket_for_ipv6_takes_no_ipv4_connections() -> None:
    async with open_host(secrets.token_bytes(32), ["/ip6/::/tcp/0"]) as only_six:
        found = sockets_at(only_six.ports[0])
        assert found == {"127.0.0.1": errno.ECONNREFUSED, "::1": 0}


async def test_a_machine_without_ipv6_listens_on_ipv4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.socket

    def without(family: int = -1, *arguments: Any, **keywords: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *arguments, **keywords)

    monkeypatch.setattr(host, "socket", SimpleNamespace(**{**vars(socket), "socket": without}))
    async with swarm.open_node(swarm.NodeOptions(home=tmp_path)) as node:
        assert node.addresses
        assert not [address for address in node.addresses if address.startswith("/ip6/")]
    with pytest.raises(UsageError, match="cannot listen on /ip6/::/tcp/0"):
        async with swarm.open_node(swarm.NodeOptions(home=tmp_path, listen=("/ip6/::/tcp/0",))):
            pass


def test_a_port_that_is_taken_in_one_family_is_no_port_for_both() -> None:
    wanted = [parse_listen_address(text) for text in ("/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0")]
    free = at_one_port(wanted, 0)
    assert free[0].port == free[1].port != 0
    assert at_one_port(wanted, free[0].port) == free
    with socket.create_server(("::1", free[0].port), family=socket.AF_INET6):
        other = at_one_port(wanted, free[0].port)
    assert other[0].port == other[1].port != free[0].port
    mixed = [parse_listen_address(text) for text in ("/ip4/127.0.0.1/tcp/4001", "/ip6/::1/tcp/0")]
    assert at_one_port(mixed, free[0].port)[0].port == 4001


@pytest.mark.parametrize(
    "text", ["/ip6zone/eth0/ip6/fe80::1/tcp/4001", "/ip6zone/wlp2s0.5/ip6/fe80::1/tcp/1"]
)
def test_an_address_with_a_zone_is_read_and_written(text: str) -> None:
    endpoint = parse_peer_address(f"{text}/p2p/{PEER}").endpoint
    assert str(endpoint) == text
    assert endpoint.zone == text.split("/")[2]
    assert endpoint.is_link_local


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/ip6/fe80::1/tcp/4001", "Write /ip6zone/<interface>/ip6/fe80::1/tcp/4001/p2p"),
        ("/ip6/fe80::1%eth0/tcp/4001", "write the zone as /ip6zone/<interface>/ip6/fe80::"),
        ("/ip6zone/eth0/ip6/2001:db8::1/tcp/4001", "only a link-local address"),
        ("/ip6zone/eth0/ip4/169.254.1.1/tcp/4001", "only a link-local address"),
        ("/ip6zone/e th0/ip6/fe80::1/tcp/4001", "is not the name of a network interface"),
        ("/ip6zone/eth0/tcp/4001", "use a multiaddr such as"),
    ],
)
def test_a_zone_that_is_missing_or_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_peer_address(f"{text}/p2p/{PEER}")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_dial_with_a_zone_reaches_the_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled: list[Sequence[Any]] = []

    async def open_tcp_stream(*where: Any) -> None:
        dialled.append(where)
        await trio.lowlevel.checkpoint()
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(trio, "open_tcp_stream", open_tcp_stream)
    async with open_host(secrets.token_bytes(32)) as client:
        where = parse_peer_address(f"/ip6zone/eth9/ip6/fe80::1/tcp/4001/p2p/{PEER}")
        with pytest.raises(NoPeerReachable, match="No route to host"):
            await client.connect(where.peer, [where.endpoint])
    assert dialled == [("fe80::1%eth9", 4001)]


async def test_a_peer_with_ones_own_key_is_explained(tmp_path: Path) -> None:
    """The state folder of one machine was copied to another."""
    (tmp_path / "a" / "home").mkdir(parents=True)
    (tmp_path / "b" / "home").mkdir(parents=True)
    for name in "ab":
        (tmp_path / name / "home" / "identity").write_bytes(bytes(range(32)))
    async with (
        swarm.open_node(node_options(tmp_path / "a")) as one,
        swarm.open_node(node_options(tmp_path / "b")) as other,
    ):
        assert one.peer_id == other.peer_id
        with pytest.raises(NoPeerReachable, match=r"another with the same key.*was copied.*remove the copy"):
            await other.list(one.addresses[0])
