"""Limits on multistream-select, the negotiation that runs before the peer is authenticated.

py-libp2p 0.8.1 reads a message of any claimed length into memory, and a message that is not UTF-8 ends
the host with a UnicodeDecodeError. Both are fixed in the one function that reads the messages of every
negotiation (security, muxer, stream).
"""

from __future__ import annotations

from collections.abc import Sequence

import trio
from libp2p.custom_types import TProtocol
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IOException
from libp2p.protocol_muxer.exceptions import (
    MultiselectClientError,
    MultiselectCommunicatorError,
    ProtocolNotSupportedError,
)
from libp2p.protocol_muxer.multiselect import (
    DEFAULT_NEGOTIATE_TIMEOUT,
    MULTISELECT_PROTOCOL_ID,
    PROTOCOL_NOT_FOUND_MSG,
)
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.utils.varint import decode_uvarint_from_stream, encode_delim

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


async def propose(
    protocols: Sequence[TProtocol], communicator: MultiselectCommunicator, seconds: float, first: bytes = b""
) -> TProtocol:
    """Propose these protocols in their order; return the one that the other end speaks.

    The first one goes out with the greeting, without waiting for its answer. Both are answered in order, so
    this saves a round trip for each of security, muxer and stream; over a circuit these are long. With a
    single protocol ``first``, the first bytes of the stream, goes out with it, too: who does not speak the
    protocol takes it for proposals, and may end the stream before its answer is read. Raises
    MultiselectClientError, also after ``seconds``: ProtocolNotSupportedError if the other end says that it
    speaks none of them.
    """
    with trio.move_on_after(seconds):
        try:
            proposed, *others = protocols
            await _write(communicator, MULTISELECT_PROTOCOL_ID, proposed, first=first)
            if await communicator.read() != MULTISELECT_PROTOCOL_ID:
                raise MultiselectClientError("something else than multistream-select is spoken there")
            while (answer := await communicator.read()) != proposed:
                if answer != PROTOCOL_NOT_FOUND_MSG:
                    raise MultiselectClientError(f"{proposed} is answered with something else")
                if not others:
                    raise ProtocolNotSupportedError(f"{proposed} is not spoken there")
                proposed, *others = others
                await _write(communicator, proposed)
        except MultiselectCommunicatorError as error:
            raise MultiselectClientError(f"the negotiation of {protocols[0]} was cut off: {error}") from error
        return proposed
    raise MultiselectClientError(f"no answer about {protocols[0]} within {seconds} s")


async def _write(communicator: MultiselectCommunicator, *messages: str, first: bytes = b"") -> None:
    data = b"".join(encode_delim(message.encode()) for message in messages)
    try:
        await communicator.read_writer.write(data + first)
    except (IOException, AssertionError, ValueError) as error:
        raise MultiselectCommunicatorError("the stream ended during negotiation") from error


async def _select_one_of(
    self: MultiselectClient,  # noqa: ARG001 - it takes the place of a method
    protocols: Sequence[TProtocol],
    communicator: MultiselectCommunicator,
    negotiate_timeout: int = DEFAULT_NEGOTIATE_TIMEOUT,
) -> TProtocol:
    return await propose(protocols, communicator, negotiate_timeout)


def install() -> None:
    """Replace libp2p's reader with the bounded one, and its proposals, for the whole process; idempotent."""
    read_negotiations_with(_read_message)
    propose_with(_select_one_of)
