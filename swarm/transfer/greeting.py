"""What a stream handler does before it knows which transfer a stream is for."""

from __future__ import annotations

from typing import cast

import trio

from swarm.content.paths import printable
from swarm.errors import LinkClosed, RemoteError
from swarm.ports import Link
from swarm.wire import limits
from swarm.wire.codec import HEADER_BYTES, HELLO, decode_body, decode_header, encode
from swarm.wire.messages import Goodbye, Hello

REFUSAL_TIMEOUT = 2.0
"""For one small GOODBYE to leave."""


async def meet(link: Link) -> Hello:
    """Read the HELLO with which the opener of a stream begins; the link is reset if it does not come.

    Raises RemoteError for anything else or after `limits.HELLO_TIMEOUT`, LinkClosed when the stream ends.
    """
    try:
        with trio.fail_after(limits.HELLO_TIMEOUT):
            return await _read_hello(link)
    except trio.TooSlowError as error:
        await link.reset()
        raise RemoteError(f"no greeting within {limits.HELLO_TIMEOUT:.0f} s") from error
    except RemoteError:
        await link.reset()
        raise


async def _read_hello(link: Link) -> Hello:
    kind, size = decode_header(await link.read_exactly(HEADER_BYTES))
    if kind != HELLO:
        raise RemoteError(f"message kind {kind} where HELLO belongs")
    return cast(Hello, decode_body(kind, await link.read_exactly(size)))


def goodbye(reason: str) -> Goodbye:
    """GOODBYE with as much of ``reason`` as it may carry."""
    line = printable(reason).encode("utf-8", "replace")[: limits.MAX_GOODBYE_BYTES]
    return Goodbye(line.decode("utf-8", "ignore"))


async def refuse(link: Link, reason: str) -> None:
    """Say GOODBYE on a stream that is not wanted, and close it; never waits long and never raises."""
    with trio.move_on_after(REFUSAL_TIMEOUT) as scope:
        try:
            await link.write(encode(goodbye(reason)))
            await link.close()
        except LinkClosed:
            return
    if scope.cancelled_caught:
        with trio.CancelScope(shield=True):
            await link.reset()
