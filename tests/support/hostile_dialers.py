"""Dialers of stock py-libp2p that offer what must not be accepted. Run by hostile.py.

Each tries once, and raises `Refused` when it was not let in; getting in is `LetIn`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import multiaddr
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.rsa import create_new_key_pair as create_rsa
from libp2p.peer.id import ID
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.stream_muxer.mplex.mplex import MPLEX_PROTOCOL_ID, Mplex

from swarm.errors import SwarmError
from swarm.net.libp2p.noise_session import noise_security
from tests.support.hostile_connections import Door

DEADLINE = 12


class Refused(SwarmError):
    """The victim did not take it."""


class LetIn(SwarmError):
    """The victim took it."""


async def _dial(door: Door, **options: Any) -> None:
    host = new_host(**options)
    async with host.run([]):
        try:
            with trio.fail_after(DEADLINE):
                address = multiaddr.Multiaddr(f"/ip4/{door.host}/tcp/{door.port}")
                await host.get_network().dial_addr(address, ID.from_base58(door.peer))
        except Exception as error:
            raise Refused(f"refused: {error!r}"[:200]) from None
        finally:
            with trio.CancelScope(shield=True):
                await host.close()
    raise LetIn("let in")


async def plaintext(door: Door) -> None:
    keys = create_new_key_pair()
    await _dial(door, key_pair=keys, sec_opt={PLAINTEXT_PROTOCOL_ID: InsecureTransport(keys)})


async def secio(door: Door) -> None:
    from libp2p.security.secio import transport

    keys = create_rsa(2048)
    await _dial(door, key_pair=keys, sec_opt={transport.ID: transport.Transport(keys)})


async def mplex(door: Door) -> None:
    keys = create_new_key_pair()
    await _dial(door, key_pair=keys, sec_opt=noise_security(keys), muxer_opt={MPLEX_PROTOCOL_ID: Mplex})


DIALERS: dict[str, Callable[[Door], Awaitable[None]]] = {
    dialer.__name__: dialer for dialer in (plaintext, secio, mplex)
}
