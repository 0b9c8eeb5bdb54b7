"""Which of a server's addresses are dialled, in which order and when: sockets and names are pretended."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
import trio
import trio.testing

from swarm.origin_url import OriginUrl
from swarm.sources.http_connection import (
    CONNECT_SECONDS,
    HEAD_START_SECONDS,
    SILENT_SECONDS,
    ConnectFault,
    ConnectionLost,
    HttpConnection,
)

SIX = [f"2606:2800:220:1::{number}" for number in (1, 2)]
FOUR = ["93.184.216.34", "93.184.216.35"]
HANGS = None


class Internet(trio.abc.HostnameResolver, trio.abc.SocketFactory):
    """One name with these addresses: seconds until each answers, an errno, or HANGS."""

    def __init__(self, ways: dict[str, float | int | None]) -> None:
        self.ways = ways
        self.dialled: list[tuple[float, str]] = []
        self.open: set[str] = set()
        self.began = trio.current_time()

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> Any:
        assert host == b"example.net"
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (each, int(port), 0, 0))
            if ":" in each
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, int(port)))
            for each in self.ways
        ]

    async def getnameinfo(self, *_: Any) -> Any:
        raise AssertionError

    def socket(self, *_: Any) -> Any:
        return Line(self)


class Line:
    """A socket of that Internet."""

    def __init__(self, internet: Internet) -> None:
        self.internet = internet
        self.host = ""

    async def connect(self, where: tuple[Any, ...]) -> None:
        self.host = where[0]
        self.internet.dialled.append((trio.current_time() - self.internet.began, self.host))
        self.internet.open.add(self.host)
        outcome = self.internet.ways[self.host]
        if outcome is HANGS:
            await trio.sleep_forever()
        elif isinstance(outcome, int):
            await trio.lowlevel.checkpoint()
            raise OSError(outcome, "no")
        else:
            await trio.sleep(outcome)

    async def recv_into(self, _memory: object) -> int:
        await trio.sleep_forever()
        raise AssertionError

    async def send(self, _data: object) -> int:
        await trio.sleep_forever()
        raise AssertionError

    def setsockopt(self, *_: object) -> None:
        pass

    def close(self) -> None:
        self.internet.open.discard(self.host)


async def test_a_server_that_falls_silent_is_not_waited_for_without_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    internet = Internet({FOUR[0]: 0.0})
    trio.socket.set_custom_hostname_resolver(internet)
    trio.socket.set_custom_socket_factory(internet)
    connection = await HttpConnection.open(OriginUrl("http://example.net/"), None)
    with pytest.raises(ConnectionLost, match="it sent nothing for 15 s"):
        await connection.receive()
    with pytest.raises(ConnectionLost, match="it took no request for 15 s"):
        await connection.send(b"GET")
    assert trio.current_time() - internet.began == pytest.approx(2 * SILENT_SECONDS)


async def dialled(ways: dict[str, float | int | None], **options: bool) -> tuple[Internet, str]:
    """Who was dialled when, and the fault or the host that was taken."""
    internet = Internet(ways)
    trio.socket.set_custom_hostname_resolver(internet)
    trio.socket.set_custom_socket_factory(internet)
    try:
        connection = await HttpConnection.open(OriginUrl("http://example.net/"), None, **options)
    except ConnectFault as fault:
        assert internet.open == set()
        return internet, str(fault)
    taken: Any = connection._socket
    assert internet.open == {taken.host}
    return internet, taken.host


async def test_an_address_that_leads_nowhere_costs_a_quarter_of_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    internet, taken = await dialled({SIX[0]: HANGS, SIX[1]: HANGS, FOUR[0]: 0.1, FOUR[1]: 0.0})
    assert taken == FOUR[0]
    # The kinds take turns, the system's favourite first.
    assert internet.dialled == [(0.0, SIX[0]), (HEAD_START_SECONDS, FOUR[0])]


async def test_one_that_is_refused_costs_nothing_and_a_slow_one_may_still_win(
    autojump_clock: trio.testing.MockClock,
) -> None:
    internet, taken = await dialled({FOUR[0]: errno.ECONNREFUSED, SIX[0]: 0.4, FOUR[1]: 0.3, SIX[1]: HANGS})
    assert taken == SIX[0]
    assert internet.dialled == [(0.0, FOUR[0]), (0.0, SIX[0]), (HEAD_START_SECONDS, FOUR[1])]


async def test_when_none_answers_the_fault_is_one_line(autojump_clock: trio.testing.MockClock) -> None:
    _, fault = await dialled({SIX[0]: errno.ENETUNREACH, FOUR[0]: errno.ECONNREFUSED})
    assert fault == "connection refused"
    internet, fault = await dialled({SIX[0]: HANGS, FOUR[0]: HANGS})
    assert fault == f"it does not answer within {CONNECT_SECONDS:g} s"
    assert trio.current_time() - internet.began == pytest.approx(CONNECT_SECONDS)


async def test_a_name_that_the_resolver_cannot_write_is_not_known(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise UnicodeError("label empty or too long")

    monkeypatch.setattr(Internet, "getaddrinfo", refuse)
    _, fault = await dialled({})
    assert fault == "its name is not known"


async def test_private_addresses_of_a_name_are_never_dialled_where_only_public_ones_are_allowed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ways = {"127.0.0.1": 0.0, "10.0.0.1": 0.0, "fd00::1": 0.0, "::1": 0.0, FOUR[0]: 1.0}
    internet, taken = await dialled(dict(ways), public_only=True)
    assert taken == FOUR[0]
    assert [host for _, host in internet.dialled] == [FOUR[0]]
    del ways[FOUR[0]]
    internet, fault = await dialled(dict(ways), public_only=True)
    assert "not a public one" in fault
    assert internet.dialled == []


async def test_a_connection_that_is_made_as_its_transfer_ends_is_closed(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    internet = Internet({FOUR[0]: 0.1})
    trio.socket.set_custom_hostname_resolver(internet)
    trio.socket.set_custom_socket_factory(internet)
    connect = Line.connect
    with trio.CancelScope() as transfer:

        async def at_the_end(line: Line, where: tuple[Any, ...]) -> None:
            await connect(line, where)
            transfer.cancel()

        monkeypatch.setattr(Line, "connect", at_the_end)
        await HttpConnection.open(OriginUrl("http://example.net/"), None)
    assert transfer.cancelled_caught
    assert internet.dialled == [(0.0, FOUR[0])]
    assert internet.open == set()
