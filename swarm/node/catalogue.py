"""The two small protocols beside the exchange: what a peer offers, and a manifest by its id.

Specified in docs/protocol.md. Both are one answer on one stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import trio

from swarm.content.envelope import MAX_ENVELOPE_BYTES, Envelope
from swarm.errors import LinkClosed, ManifestError, RemoteError
from swarm.ids import DIGEST_BYTES, ManifestId
from swarm.ports import Link
from swarm.wire import limits
from swarm.wire.advert import (
    LENGTH_BYTES,
    Advert,
    decode_adverts,
    decode_length,
    encode_adverts,
    encode_length,
)

ADVERTISE_PROTOCOL: Final = "/swarm/advertise/1.0.0"
MANIFEST_PROTOCOL: Final = "/swarm/manifest/1.0.0"
CHUNK_BYTES: Final = 1 << 16
"""A manifest is read and sent in parts of this size: memory follows what arrives, not what is claimed."""


async def ask_adverts(link: Link) -> tuple[Advert, ...]:
    """Return what the peer offers.

    Raises RemoteError for a malformed answer, LinkClosed when none comes in `limits.ANSWER_TIMEOUT`.
    """
    with trio.move_on_after(limits.ANSWER_TIMEOUT):
        size = decode_length(await link.read_exactly(LENGTH_BYTES), limits.MAX_ADVERTS_BYTES)
        return decode_adverts(await link.read_exactly(size))
    raise LinkClosed("the peer did not say in time what it offers")


async def ask_manifest(link: Link, manifest: ManifestId) -> Envelope | None:
    """Return the manifest with that id and its signature, or None when the peer does not know it.

    The answer is checked against the id before it is parsed. Raises RemoteError when it is not that
    manifest, LinkClosed when the peer falls silent.
    """
    body = bytearray()
    await link.write(manifest.digest)
    size = decode_length(await _in_time(link, LENGTH_BYTES), MAX_ENVELOPE_BYTES)
    while len(body) < size:
        body += await _in_time(link, min(CHUNK_BYTES, size - len(body)))
    if not size:
        return None
    try:
        return await trio.to_thread.run_sync(Envelope.from_bytes, bytes(body), manifest)
    except ManifestError as error:
        raise RemoteError(f"the manifest from {link.peer} is not to be used: {error}") from error


async def _in_time(link: Link, size: int) -> bytes:
    with trio.move_on_after(limits.ANSWER_TIMEOUT):
        return await link.read_exactly(size)
    raise LinkClosed("the peer fell silent while it sent a manifest")


class Catalogue:
    """Answers both protocols from what this node shares; never more than a bounded answer each."""

    def __init__(
        self,
        adverts: Callable[[], Sequence[Advert]],
        envelope: Callable[[ManifestId], Envelope | None],
    ) -> None:
        self._adverts = adverts
        self._envelope = envelope

    async def advertise(self, link: Link) -> None:
        """Tell the peer what this node offers."""
        body = encode_adverts(self._adverts()[: limits.MAX_ADVERTS])
        await _send(link, body)

    async def manifest(self, link: Link) -> None:
        """Send the manifest whose id the peer names; an empty answer when it is not known here."""
        digest = await _in_time(link, DIGEST_BYTES)
        envelope = self._envelope(ManifestId(digest))
        await _send(link, b"" if envelope is None else envelope.to_bytes())


async def _send(link: Link, body: bytes) -> None:
    await link.write(encode_length(len(body)))
    view = memoryview(body)
    for start in range(0, len(view), CHUNK_BYTES):
        # A peer that does not take its answer is dropped; nothing is held for it for long.
        with trio.move_on_after(limits.ANSWER_TIMEOUT) as scope:
            await link.write(view[start : start + CHUNK_BYTES])
        if scope.cancelled_caught:
            raise LinkClosed("the peer does not read the answer that it asked for")
