"""Limits on multistream-select, the negotiation that runs before the peer is authenticated.

py-libp2p 0.8.1 reads a message of any claimed length into memory, and a message that is not UTF-8 ends
the host with a UnicodeDecodeError. Both are fixed in the one function that reads the messages of every
negotiation (security, muxer, stream).
"""

from __future__ import annotations

from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IOException
from libp2p.protocol_muxer.exceptions import MultiselectCommunicatorError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.utils.varint import decode_uvarint_from_stream

from swarm.net.libp2p.internals import read_negotiations_with

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


def install() -> None:
    """Replace libp2p's reader with the bounded one for the whole process; idempotent."""
    read_negotiations_with(_read_message)
