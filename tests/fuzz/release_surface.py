"""The surface of releases: the record, its signature, the question for it, and the link of a series.

The first byte chooses which; the rest is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from swarm.content import cbor, release
from swarm.content.release import PatchOffer, ReleaseRecord, SignedRelease, series_of, sign_release
from swarm.content.series_link import SeriesLink, is_series_link
from swarm.errors import ManifestError, RemoteError, UsageError
from swarm.ids import ManifestId
from swarm.origin_url import OriginUrl
from swarm.protocol.release_question import QUESTION_BYTES, decode_question, encode_question

_KEY = bytes(range(32))
_SERIES = series_of(_KEY, "game")
_KINDS = 4


class NotTheSame(AssertionError):
    """Something was read that does not encode to what it was read from."""


def run_release(data: bytes) -> None:
    """Read ``data`` as what its first byte says."""
    (_read_body, _read_signed, _read_question, _read_link)[(data[0] if data else 0) % _KINDS](data[1:])


def release_seeds() -> Iterator[bytes]:
    """One sound input of each kind, and records with more in them."""
    for patches in (0, 1, 3):
        offers = tuple(
            PatchOffer(ManifestId(bytes([number]) * 32), ManifestId(bytes([9]) * 32), number)
            for number in range(patches)
        )
        origins = tuple(OriginUrl(f"https://example.org/{number}/") for number in range(patches))
        record = ReleaseRecord(_SERIES, 1 + patches, ManifestId(b"m" * 32), 1 << 40, offers, origins)
        yield b"\0" + record.encode()
        yield b"\1" + sign_release(_KEY, record).to_bytes()
    yield b"\2" + _SERIES.id.digest + bytes(8) + b"\0\x3c"
    peer = f"/ip4/192.0.2.1/tcp/4001/p2p/{_SERIES.key}"
    link = SeriesLink(_SERIES, (peer,), (peer,), (OriginUrl("https://example.org/a,b/"),))
    yield b"\3" + str(link).encode()
    yield b"\3" + link.bare().encode()


def _read_body(body: bytes) -> None:
    # Without the signature, which no mutation gets past.
    try:
        record = release._read_record(body)
    except (cbor.CborError, ManifestError, UsageError, ValueError):
        return
    if record.encode() != body:
        raise NotTheSame(body)


def _read_signed(data: bytes) -> None:
    for expected in (_SERIES, None):
        with suppress(ManifestError):
            if SignedRelease.from_bytes(data, expected).to_bytes() != data:
                raise NotTheSame(data)


def _read_question(data: bytes) -> None:
    if len(data) == QUESTION_BYTES:
        with suppress(RemoteError):
            if encode_question(decode_question(data)) != data:
                raise NotTheSame(data)


def _read_link(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        link = SeriesLink.pasted(text)
    except ManifestError:
        return
    if not is_series_link(text) or {SeriesLink.parse(str(link)), SeriesLink.parse(link.bare())} != {link}:
        raise NotTheSame(text)
