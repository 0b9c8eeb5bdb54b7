"""Endpoints: what is read, what is refused, and what is asked of them."""

from __future__ import annotations

import pytest

from swarm.endpoint import Endpoint, PeerAddress, by_peer, public_only
from swarm.ids import PeerId

A, B = PeerId("A" * 40), PeerId("B" * 40)


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/192.0.2.1/tcp/4001",
        "/ip4/0.0.0.0/tcp/0",
        "/ip6/2001:db8::1/tcp/65535",
        "/dns/example.org/tcp/1",
        "/dns4/a-b_c.example.org./tcp/1",
        "/dns6/localhost/tcp/1",
    ],
)
def test_what_is_read_prints_as_it_was_written(text: str) -> None:
    endpoint = Endpoint.parse(text)
    assert str(endpoint) == text
    assert Endpoint.read(text) == endpoint
    _, kind, host, transport, port = text.split("/")
    assert endpoint == Endpoint(kind, host, transport, int(port))


def test_an_ip_address_has_one_spelling() -> None:
    assert str(Endpoint.parse("/ip6/2001:DB8:0:0::1/tcp/1")) == "/ip6/2001:db8::1/tcp/1"
    assert str(Endpoint.parse("/ip4/192.0.2.1/tcp/007")) == "/ip4/192.0.2.1/tcp/7"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "/ip4/192.0.2.1",
        "ip4/192.0.2.1/tcp/1",
        "/ip4/192.0.2.1/tcp/1/",
        "/ip4/192.0.2.1/tcp/1/p2p/" + A,
        "/ip4/192.0.2.1/udp/1",
        "/ip4/192.0.2.1/tcp/65536",
        "/ip4/192.0.2.1/tcp/-1",
        "/ip4/192.0.2.1/tcp/\u0661",
        "/ip4/192.0.2.1/tcp/",
        "/ip4/192.0.2.256/tcp/1",
        "/ip4/2001:db8::1/tcp/1",
        "/ip6/192.0.2.1/tcp/1",
        "/ip6/fe80::1%eth0/tcp/1",
        "/ip4/192.0.2.1\n/tcp/1",
        "/dns4//tcp/1",
        "/dns4/a..b/tcp/1",
        "/dns4/-bad/tcp/1",
        "/dns4/two words/tcp/1",
        "/dns4/" + "a" * 64 + "/tcp/1",
        "/dns4/" + "a." * 127 + "/tcp/1",
        "/dns4/\u00e9xample/tcp/1",
        "/unix/x/tcp/1",
        "/" * 5000,
    ],
)
def test_what_cannot_be_reached_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Endpoint.parse(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200
    assert Endpoint.read(text) is None


@pytest.mark.parametrize(
    ("text", "ip", "loopback", "unspecified"),
    [
        ("/ip4/127.9.9.9/tcp/1", True, True, False),
        ("/ip6/::1/tcp/1", True, True, False),
        ("/ip4/0.0.0.0/tcp/1", True, False, True),
        ("/ip6/::/tcp/1", True, False, True),
        ("/ip4/192.0.2.1/tcp/1", True, False, False),
        ("/dns4/LocalHost/tcp/1", False, True, False),
        ("/dns/example.org/tcp/1", False, False, False),
    ],
)
def test_what_kind_of_host_it_is(text: str, ip: bool, loopback: bool, unspecified: bool) -> None:
    endpoint = Endpoint.parse(text)
    assert (endpoint.is_ip, endpoint.is_loopback, endpoint.is_unspecified) == (ip, loopback, unspecified)


def test_the_same_port_at_another_host() -> None:
    inner = Endpoint.parse("/ip4/10.0.0.5/tcp/7")
    seen = Endpoint.parse("/ip6/2001:db8::9/tcp/51234")
    assert str(inner.at(seen)) == "/ip6/2001:db8::9/tcp/7"
    assert inner.at(seen).same_host(seen)
    assert not inner.same_host(seen)


def test_the_addresses_of_each_peer_keep_their_order_and_come_once() -> None:
    one, two = (Endpoint.parse(f"/ip4/192.0.2.{last}/tcp/1") for last in (1, 2))
    given = [PeerAddress(B, two), PeerAddress(A, one), PeerAddress(B, one), PeerAddress(B, two)]
    assert by_peer(given) == {B: [two, one], A: [one]}
    assert list(by_peer(given)) == [B, A]
    assert str(given[0]) == f"/ip4/192.0.2.2/tcp/1/p2p/{B}"


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("/ip4/5.5.5.1", True),
        ("/ip4/10.1.2.3", False),
        ("/ip4/100.64.0.1", False),
        ("/ip4/127.0.0.1", False),
        ("/ip4/169.254.1.1", False),
        ("/ip4/192.0.2.1", False),
        ("/ip4/224.0.0.251", False),
        ("/ip4/0.0.0.0", False),
        ("/ip6/2606:4700::1111", True),
        ("/ip6/fd00::1", False),
        ("/ip6/fe80::1", False),
        ("/ip6/::1", False),
        ("/ip6/ff02::fb", False),
        ("/ip6/::ffff:5.5.5.1", False),
        ("/ip6/64:ff9b::505:501", True),
        ("/ip6/64:ff9b::a01:203", False),
        ("/ip6/2002:505:501::1", True),
        ("/ip6/2002:a01:203::1", False),
        ("/ip6/2001:0:505:501::1", False),
        ("/dns4/example.org", False),
    ],
)
def test_what_a_public_address_is(host: str, public: bool) -> None:
    text = f"{host}/tcp/4001"
    assert Endpoint.parse(text).is_public is public
    of_a_peer = f"{text}/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"
    assert public_only([text, of_a_peer, f"{of_a_peer}/p2p-circuit"]) == (
        (text, of_a_peer, f"{of_a_peer}/p2p-circuit") if public else ()
    )
