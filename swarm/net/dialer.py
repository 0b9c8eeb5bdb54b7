"""Dial several endpoints of one peer: the next starts when one fails or hesitates, the first wins.

Names are resolved by the system, with its hosts file and its name servers: what works for ssh works here.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey

from swarm.endpoint import Endpoint, Scope
from swarm.errors import NoPeerReachable
from swarm.reach.reach_limits import DIRECT_HEAD_START, NEAR_HEAD_START

HEAD_START = 0.3
"""Seconds that an address has for itself before the next one is tried beside it (RFC 8305)."""

MOST_OF_A_NAME = 8
"""IP addresses of one name that are tried."""


class Telling(IntEnum):
    """How much the reason of a failed dial says about what is wrong; the last says most."""

    NOTHING = 0
    TIMEOUT = 1
    """Nobody answered: a wrong address, a firewall, or a machine that is off."""
    UNREACHABLE = 2
    """This machine knows no way to the address."""
    UNKNOWN_NAME = 3
    REFUSED = 4
    """The machine is there, and nobody listens on the port."""
    NO_PEER = 5
    """Something answered that is no peer, or that hung up."""
    ANOTHER_PEER = 6
    """A peer answered that has another id: it lost its identity, or the address is another's now."""
    OURSELVES = 7
    """This node is the one that cannot or will not."""


_UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.EHOSTDOWN}

_FAMILIES = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}

_FAILURES = (
    BaseLibp2pError,
    OSError,
    trio.TooSlowError,
    trio.BrokenResourceError,
    ValueError,
    NoPeerReachable,
)


async def dial_any(
    where: Sequence[Endpoint], dial: Callable[[Endpoint], Awaitable[None]], deadline: float
) -> Endpoint:
    """Return the endpoint of ``where`` whose ``dial`` succeeded first.

    Raises NoPeerReachable with the most telling reason when all failed or ``deadline`` seconds passed.
    """
    winners: list[Endpoint] = []
    reasons: list[NoPeerReachable] = []
    with trio.move_on_after(deadline):
        async with trio.open_nursery() as nursery:

            async def attempt(address: Endpoint, settled: trio.Event) -> None:
                try:
                    await dial(address)
                except _FAILURES as error:
                    reasons.append(_reason(address, error))
                else:
                    winners.append(address)
                    nursery.cancel_scope.cancel()
                finally:
                    settled.set()

            for address in where:
                settled = trio.Event()
                nursery.start_soon(attempt, address, settled)
                with trio.move_on_after(HEAD_START):
                    await settled.wait()
    if winners:
        return winners[0]
    if reasons and (len(reasons) == len(where) or _most(reasons).telling > Telling.TIMEOUT):
        raise _most(reasons)
    if where:
        raise NoPeerReachable(f"{where[0]}: no answer within {deadline:g} s", telling=Telling.TIMEOUT)
    raise NoPeerReachable("no address is known", telling=Telling.NOTHING)


def head_start(where: Sequence[Endpoint], mine: Sequence[Endpoint]) -> float:
    """Seconds that dials to ``where`` have for themselves; ``mine`` are the addresses of this machine."""
    if any(Scope.of(endpoint) is Scope.PUBLIC for endpoint in where):
        return DIRECT_HEAD_START
    if any(endpoint.is_beside(own) for endpoint in where for own in mine):
        return NEAR_HEAD_START
    return 0.0


async def resolved(endpoint: Endpoint) -> list[Endpoint]:
    """Return the IP endpoints behind a host name; an IP endpoint as it is.

    Raises OSError when the name has none.
    """
    if endpoint.is_ip:
        return [endpoint]
    family = _FAMILIES[endpoint.kind]
    found = await trio.socket.getaddrinfo(
        endpoint.host, endpoint.port, family=family, type=socket.SOCK_STREAM
    )
    kinds = {socket.AF_INET: "ip4", socket.AF_INET6: "ip6"}
    unique = dict.fromkeys((kinds[family], str(where[0])) for family, _, _, _, where in found)
    hosts = [(kind, host) for kind, host in unique if "%" not in host][:MOST_OF_A_NAME]
    return [Endpoint(kind, host, endpoint.transport, endpoint.port) for kind, host in hosts]


def _most(reasons: Sequence[NoPeerReachable]) -> NoPeerReachable:
    return max(reasons, key=lambda reason: reason.telling)


def _reason(address: Endpoint, error: BaseException) -> NoPeerReachable:
    """The innermost reason in one line: libp2p and trio wrap it several times."""
    inner = max(_innermost(error), key=_telling)
    telling = _telling(inner)
    text = str(inner).strip() or type(inner).__name__
    if isinstance(inner, PeerIDMismatchesPubkey):
        text = "another peer answers there, not the one that was asked for"
    elif isinstance(inner, OSError) and inner.errno is not None and inner.errno in errno.errorcode:
        # Not trio's text, which repeats the address.
        text = os.strerror(inner.errno)
    elif isinstance(inner, OSError) and inner.strerror:
        text = inner.strerror
    if telling is Telling.NO_PEER:
        text = f"no peer answers there, or it hung up ({text})"
    return NoPeerReachable(f"{address}: {text.splitlines()[0][:160]}", telling=telling)


def _innermost(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _innermost(each)]
    return [error] if error.__cause__ is None else _innermost(error.__cause__)


_KINDS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Telling], ...] = (
    (PeerIDMismatchesPubkey, Telling.ANOTHER_PEER),
    (socket.gaierror, Telling.UNKNOWN_NAME),
    (ConnectionRefusedError, Telling.REFUSED),
    ((TimeoutError, trio.TooSlowError), Telling.TIMEOUT),
)


def _telling(error: BaseException) -> Telling:
    if isinstance(error, NoPeerReachable):
        return Telling(error.telling)
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return Telling.UNREACHABLE
    return next((telling for kind, telling in _KINDS if isinstance(error, kind)), Telling.NO_PEER)
