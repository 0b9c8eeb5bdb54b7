"""Limits on multistream-select, the negotiation that runs before the peer is authenticated.

py-libp2p 0.8.1 reads a message of any claimed length into memory, and a message that is not UTF-8 ends
the host with a UnicodeDecodeError. Both are fixed in the one function that reads the messages of every
negotiation (security, muxer, stream).
"""

from __future__ import annotations

from collections.abc import Sequence

import trio
from libp2p.abc import IMultiselectCommunicator
from libp2p.custom_types import TProtocol
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IOException
from libp2p.protocol_muxer.exceptions import MultiselectClientError, MultiselectCommunicatorError
from libp2p.protocol_muxer.multiselect import DEFAULT_NEGOTIATE_TIMEOUT, MULTISELECT_PROTOCOL_ID
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.utils.varint import decode_uvarint_from_stream

from swarm.net.libp2p.internals import propose_with, read_negotiations_with

MAX_NEGOTIATION_MESSAGE_BYTES = 1024
"""The longest multistream-select message accepted; js-libp2p has the same limit."""


async def _read_message(self: MultiselectCommunicator) -> str:
    try:
        size = await decode_uvarint_from_stream(self.read_writer)
        if not 0 < size <= MAX_NEGOTIATION_MESSAGE_BYTES:
            raise MultiselectCommunicatorError(f"a negotiation message of {size} bytes")
        body = bytearray()
        while len(body) < size:
            part = await self.read_writer.read(size - len(body))
            if not part:
                raise MultiselectCommunicatorError("the stream ended during negotiation")
            body += part
        text = body.decode("utf-8")
    except (ParseError, IOException, UnicodeDecodeError) as error:
        raise MultiselectCommunicatorError("not a multistream-select message") from error
    if not text.endswith("\n"):
        raise MultiselectCommunicatorError("a negotiation message without its newline")
    return text[:-1]


async def _select_one_of(
    self: MultiselectClient,
    protocols: Sequence[TProtocol],
    communicator: IMultiselectCommunicator,
    negotiate_timeout: int = DEFAULT_NEGOTIATE_TIMEOUT,
) -> TProtocol:
    """As libp2p's, but a single protocol is proposed with the greeting, without waiting for its answer.

    Both are answered in order, so this saves a round trip for each of security, muxer and stream; over a
    circuit these are long.
    """
    if len(protocols) != 1:
        return await _select_in_turn(self, protocols, communicator, negotiate_timeout)
    (protocol,) = protocols
    with trio.move_on_after(negotiate_timeout):
        try:
            await communicator.write(MULTISELECT_PROTOCOL_ID)
            await communicator.write(protocol)
            greeting, answer = await communicator.read(), await communicator.read()
        except MultiselectCommunicatorError as error:
            raise MultiselectClientError(f"the negotiation of {protocol} was cut off: {error}") from error
        if greeting != MULTISELECT_PROTOCOL_ID or answer != protocol:
            raise MultiselectClientError(f"{protocol} is not spoken there")
        return protocol
    raise MultiselectClientError(f"no answer about {protocol} within {negotiate_timeout} s")


_select_in_turn = MultiselectClient.select_one_of


def install() -> None:
    """Replace libp2p's reader with the bounded one, and its proposals, for the whole process; idempotent."""
    read_negotiations_with(_read_message)
    propose_with(_select_one_of)
