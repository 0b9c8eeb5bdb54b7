"""Which addresses are told in a network, and which are believed from there."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from swarm.discovery.lan_scope import Interface, believed, told_on
from swarm.endpoint import Endpoint

ETH = Interface(
    2, "eth0", tuple(map(ip_interface, ("192.168.1.5/24", "fe80::5/64", "fd00::5/64", "169.254.3.4/16")))
)
DOCKER = Interface(3, "docker0", (ip_interface("172.17.0.1/16"),))
LOOPBACK = Interface(1, "lo", (ip_interface("127.0.0.1/8"), ip_interface("::1/128")))
ANYWHERE = [Endpoint.parse("/ip4/0.0.0.0/tcp/4001"), Endpoint.parse("/ip6/::/tcp/4002")]


def texts(endpoints: tuple[Endpoint, ...]) -> list[str]:
    return list(map(str, endpoints))


def test_a_network_is_told_the_addresses_in_it_alone() -> None:
    assert texts(told_on(ETH, ANYWHERE)) == [
        "/ip4/192.168.1.5/tcp/4001",
        "/ip6/fd00::5/tcp/4002",
        "/ip4/169.254.3.4/tcp/4001",
        "/ip6/fe80::5/tcp/4002",
    ]
    assert texts(told_on(DOCKER, ANYWHERE)) == ["/ip4/172.17.0.1/tcp/4001"]
    assert texts(told_on(LOOPBACK, ANYWHERE)) == ["/ip4/127.0.0.1/tcp/4001", "/ip6/::1/tcp/4002"]


def test_a_node_that_listens_at_one_address_is_announced_where_that_is() -> None:
    here = [Endpoint.parse("/ip4/127.0.0.1/tcp/4001")]
    assert texts(told_on(LOOPBACK, here)) == ["/ip4/127.0.0.1/tcp/4001"]
    assert told_on(ETH, here) == ()


@pytest.mark.parametrize(
    ("named", "becomes"),
    [
        ("/ip4/192.168.1.9/tcp/1", "/ip4/192.168.1.9/tcp/1"),
        ("/ip4/0.0.0.0/tcp/1", "/ip4/192.168.1.9/tcp/1"),
        ("/ip6/fd00::9/tcp/1", "/ip6/fd00::9/tcp/1"),
        ("/ip6/fe80::9/tcp/1", "/ip6zone/eth0/ip6/fe80::9/tcp/1"),
        ("/ip4/169.254.9.9/tcp/1", "/ip4/169.254.9.9/tcp/1"),
        ("/ip4/192.168.2.9/tcp/1", None),
        ("/ip4/172.17.0.2/tcp/1", None),
        ("/ip4/5.5.5.5/tcp/1", None),
        ("/ip4/127.0.0.1/tcp/1", None),
        ("/ip6/::1/tcp/1", None),
        ("/ip6/2606:4700::1/tcp/1", None),
        ("/ip4/224.0.0.251/tcp/1", None),
        ("/ip4/192.168.1.9/tcp/0", None),
        ("/dns4/router.lan/tcp/80", None),
        ("/ip6zone/wg0/ip6/fe80::9/tcp/1", None),
    ],
)
def test_an_answer_names_addresses_of_its_own_network_alone(named: str, becomes: str | None) -> None:
    expected = [] if becomes is None else [becomes]
    assert texts(believed(ETH, [Endpoint.parse(named)], "192.168.1.9")) == expected


def test_the_loopback_is_believed_of_this_machine_alone() -> None:
    local = [Endpoint.parse("/ip4/127.0.0.1/tcp/1")]
    assert believed(LOOPBACK, local, "127.0.0.1") == tuple(local)
    assert believed(ETH, local, "192.168.1.5") == ()


def test_what_comes_from_afar_is_not_of_this_network() -> None:
    near = ["192.168.1.9", "fe80::1", "fd00::7", "169.254.9.9"]
    far = ["192.168.2.9", "5.5.5.5", "2606:4700::1", "127.0.0.1", "224.0.0.251"]
    assert [ETH.reaches(ip_address(text)) for text in (*near, *far)] == [True] * 4 + [False] * 5
