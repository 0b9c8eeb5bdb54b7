"""Dial several endpoints of one peer: the next starts when one fails or hesitates, the first wins.

Names are resolved by the system, with its hosts file and its name servers: what works for ssh works here.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey

from swarm.endpoint import Endpoint
from swarm.errors import NoPeerReachable

HEAD_START = 0.3
"""Seconds that an address has for itself before the next one is tried beside it (RFC 8305)."""

MOST_OF_A_NAME = 8
"""IP addresses of one name that are tried."""

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

    Raises NoPeerReachable with the last reason when all failed or ``deadline`` seconds passed.
    """
    winners: list[Endpoint] = []
    reasons: list[str] = []
    with trio.move_on_after(deadline):
        async with trio.open_nursery() as nursery:

            async def attempt(address: Endpoint, settled: trio.Event) -> None:
                try:
                    await dial(address)
                except _FAILURES as error:
                    reasons.append(f"{address}: {_brief(error)}")
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
    if reasons:
        raise NoPeerReachable(reasons[-1])
    raise NoPeerReachable(f"no answer within {deadline:g} s" if where else "no address is known")


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


def _brief(error: BaseException) -> str:
    """The innermost reason in one line: libp2p and trio wrap it several times."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            break
    if isinstance(error, PeerIDMismatchesPubkey):
        return "another peer answers there"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()
    return (text or type(error).__name__).splitlines()[0][:160]
