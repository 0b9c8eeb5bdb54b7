"""Dialling names: they are the system's to resolve, and each of their addresses is tried."""

from __future__ import annotations

import errno
import socket

import pytest
import trio
import trio.testing
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey

from swarm.endpoint import Endpoint
from swarm.errors import NoPeerReachable
from swarm.net.dialer import MOST_OF_A_NAME, dial_any, head_start, resolved
from swarm.reach.reach_limits import DIRECT_HEAD_START, NEAR_HEAD_START


class _Names(trio.abc.HostnameResolver):
    """A resolver that knows one name, with the addresses that it was given."""

    def __init__(self, *hosts: str) -> None:
        self.hosts = hosts

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # type: ignore[no-untyped-def]  # noqa: A002
        await trio.lowlevel.checkpoint()
        found = [(socket.AF_INET6 if ":" in each else socket.AF_INET, each) for each in self.hosts]
        chosen = [(kind, type, 6, "", (each, port)) for kind, each in found if family in (0, kind)]
        if host != b"example.org" or not chosen:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return chosen

    async def getnameinfo(self, sockaddr, flags):  # type: ignore[no-untyped-def]
        raise NotImplementedError


def _with(*hosts: str) -> None:
    trio.socket.set_custom_hostname_resolver(_Names(*hosts))


async def _found(address: str) -> list[str]:
    return [str(endpoint) for endpoint in await resolved(Endpoint.parse(address))]


async def test_a_name_stands_for_its_addresses_of_the_asked_family() -> None:
    _with("192.0.2.1", "2001:db8::1", "192.0.2.1", "fe80::1%eth0")
    assert await _found("/dns/example.org/tcp/7") == ["/ip4/192.0.2.1/tcp/7", "/ip6/2001:db8::1/tcp/7"]
    assert await _found("/dns4/example.org/tcp/7") == ["/ip4/192.0.2.1/tcp/7"]
    assert await _found("/dns6/example.org/tcp/7") == ["/ip6/2001:db8::1/tcp/7"]
    assert await _found("/ip4/198.51.100.2/tcp/9") == ["/ip4/198.51.100.2/tcp/9"]


async def test_a_name_with_very_many_addresses_is_cut() -> None:
    _with(*(f"192.0.2.{last}" for last in range(100)))
    assert len(await _found("/dns4/example.org/tcp/7")) == MOST_OF_A_NAME


async def test_the_hosts_file_is_read() -> None:
    assert await _found("/dns4/localhost/tcp/7") == ["/ip4/127.0.0.1/tcp/7"]


async def test_an_unknown_name_is_one_clear_reason() -> None:
    _with("192.0.2.1")

    async def dial(endpoint: Endpoint) -> None:
        await resolved(endpoint)

    with pytest.raises(NoPeerReachable, match=r"^/dns4/example\.net/tcp/7: Name or service not known$"):
        await dial_any([Endpoint.parse("/dns4/example.net/tcp/7")], dial, deadline=5)


async def test_the_address_that_answers_wins_over_one_that_refuses_and_one_that_hangs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def dial(endpoint: Endpoint) -> None:
        if endpoint.host == "192.0.2.1":
            raise ConnectionRefusedError(111, "Connection refused")
        if endpoint.host == "192.0.2.2":
            await trio.sleep_forever()

    where = [Endpoint.parse(f"/ip4/192.0.2.{last}/tcp/7") for last in (1, 2, 3)]
    assert await dial_any(where, dial, deadline=5) == where[2]


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
NO_ROUTE = OSError(errno.EHOSTUNREACH, "No route to host")
NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
WRONG_PEER = PeerIDMismatchesPubkey("another key")


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ([REFUSED, NO_ROUTE, trio.TooSlowError()], "/ip4/192.0.2.1/tcp/7: Connection refused"),
        ([NO_ROUTE, trio.TooSlowError()], "/ip4/192.0.2.1/tcp/7: No route to host"),
        ([WRONG_PEER, REFUSED, NO_NAME], "/ip4/192.0.2.1/tcp/7: another peer answers there"),
        ([NO_NAME, NO_ROUTE], "/ip4/192.0.2.1/tcp/7: Name or service not known"),
        ([ValueError("no Noise"), REFUSED], "/ip4/192.0.2.1/tcp/7: no peer answers there"),
        ([REFUSED, None], "/ip4/192.0.2.1/tcp/7: Connection refused"),
        ([None, None], "/ip4/192.0.2.1/tcp/7: no answer within 5 s"),
        ([ExceptionGroup("", [NO_ROUTE, REFUSED]), NO_ROUTE], "/ip4/192.0.2.1/tcp/7: Connection refused"),
    ],
)
async def test_the_most_telling_reason_is_told_and_not_the_last(
    autojump_clock: trio.testing.MockClock, errors: list[Exception | None], told: str
) -> None:
    where = [Endpoint.parse(f"/ip4/192.0.2.{last + 1}/tcp/7") for last in range(len(errors))]

    async def dial(endpoint: Endpoint) -> None:
        error = errors[where.index(endpoint)]
        if error is None:
            await trio.sleep_forever()
        raise OSError("connecting failed") from error

    with pytest.raises(NoPeerReachable) as raised:
        await dial_any(where, dial, deadline=5)
    assert str(raised.value).startswith(told)


def test_only_addresses_that_may_answer_have_a_head_start() -> None:
    mine = [Endpoint("ip4", "192.168.2.10", "tcp", 4001), Endpoint("ip6", "fd00:1::1", "tcp", 4001)]
    far = Endpoint("ip4", "192.168.1.10", "tcp", 4001)
    assert head_start([far], mine) == 0
    assert head_start([far, Endpoint("ip4", "192.168.2.77", "tcp", 1)], mine) == NEAR_HEAD_START
    assert head_start([Endpoint("ip6", "fd00:1::2", "tcp", 1)], mine) == NEAR_HEAD_START
    assert head_start([Endpoint("ip6", "fd00:2::2", "tcp", 1)], mine) == 0
    assert head_start([far, Endpoint("ip4", "5.5.5.1", "tcp", 1)], mine) == DIRECT_HEAD_START
