"""Small files from a web server, beside the content: the manifest of an id, and the record of a series.

Of a folder's URL the manifest is ``<URL><name>.swarm``, of a file's ``<URL>.swarm``; its id is checked.
The newest release record is ``<URL><name>.swarm-release`` or ``<URL>.swarm-release``; it is signed.
"""

from __future__ import annotations

import ssl

import trio

from swarm.content.envelope import MAX_ENVELOPE_BYTES, Envelope
from swarm.content.release import MAX_RECORD_BYTES, Series, SignedRelease
from swarm.errors import ManifestError, UsageError
from swarm.ids import ManifestId
from swarm.origin_url import OriginUrl
from swarm.protocol.http_range import REDIRECTS
from swarm.protocol.http_reader import HttpFault, ResponseReader, request_bytes
from swarm.sources.http_connection import ConnectFault, ConnectionLost, HttpConnection, tls_context
from swarm.sources.origin_source import MAX_REDIRECTS, OriginSettings, request_headers

MANIFEST_SUFFIX = ".swarm"
RELEASE_SUFFIX = ".swarm-release"
BEGIN_BYTES = 1 << 20
TOTAL_SECONDS = 600.0
"""For all of a manifest; one of a million files has 100 MB."""
RECORD_SECONDS = 20.0


class ManifestFault(Exception):
    """The origin does not give the manifest or the record; the message is one short line."""


def manifest_url(origin: OriginUrl, name: str | None) -> OriginUrl | None:
    """Where the manifest lies; None if that needs the name and it is not known."""
    if not origin.is_folder:
        return origin.beside(MANIFEST_SUFFIX)
    return None if name is None else origin.below((name + MANIFEST_SUFFIX,))


async def manifest_of(
    origin: OriginUrl, name: str | None, manifest: ManifestId, settings: OriginSettings
) -> Envelope:
    """Fetch the manifest; raises `ManifestFault`, and UsageError for unusable certificate authorities."""
    url = manifest_url(origin, name)
    if url is None:
        raise ManifestFault("where its manifest lies cannot be told without its name: the link has none")
    try:
        with trio.fail_after(TOTAL_SECONDS):
            data = await _whole(url, settings, MAX_ENVELOPE_BYTES, "manifest")
        return await trio.to_thread.run_sync(Envelope.from_bytes, data, manifest)
    except (ConnectFault, ConnectionLost, HttpFault) as error:
        raise ManifestFault(str(error)) from None
    except ManifestError:
        raise ManifestFault("what lies there is not the manifest of this id") from None
    except trio.TooSlowError:
        raise ManifestFault(f"it did not send the manifest within {TOTAL_SECONDS:g} s") from None


async def release_of(origin: OriginUrl, series: Series, settings: OriginSettings) -> SignedRelease:
    """Fetch the newest release record of a series.

    Raises `ManifestFault`, ManifestError for what is no record of this series, and UsageError for unusable
    certificate authorities.
    """
    folder = origin.is_folder
    url = origin.below((series.name + RELEASE_SUFFIX,)) if folder else origin.beside(RELEASE_SUFFIX)
    try:
        with trio.fail_after(RECORD_SECONDS):
            data = await _whole(url, settings, MAX_RECORD_BYTES, "release record")
    except (ConnectFault, ConnectionLost, HttpFault) as error:
        raise ManifestFault(str(error)) from None
    except trio.TooSlowError:
        raise ManifestFault(f"it did not send the release record within {RECORD_SECONDS:g} s") from None
    try:
        return SignedRelease.from_bytes(data, series)
    except ManifestError as error:
        raise ManifestError(f"the release record from {origin} is refused: {error}") from error


async def _whole(url: OriginUrl, settings: OriginSettings, most: int, what: str) -> bytes:
    """The body at a URL, of at most ``most`` bytes; ``what`` it is, for messages."""
    tls: ssl.SSLContext | None = None
    for _ in range(MAX_REDIRECTS + 1):
        if url.scheme == "https" and tls is None:
            tls = await trio.to_thread.run_sync(tls_context, settings.authorities)
        async with settings.connections:
            secure = tls if url.scheme == "https" else None
            connection = await HttpConnection.open(url, secure, public_only=settings.public_only)
            try:
                answer = await _answer(connection, url, most, what)
            finally:
                connection.close()
        if isinstance(answer, bytes):
            return answer
        try:
            url = url.moved(answer)
        except UsageError as error:
            raise ManifestFault(str(error)) from None
    raise ManifestFault(f"it redirects more than {MAX_REDIRECTS} times")


async def _answer(connection: HttpConnection, url: OriginUrl, most: int, what: str) -> bytes | str:
    """The body, or where it is to be had."""
    await connection.send(request_bytes(url.target, request_headers(url, None)))
    reader = ResponseReader()
    while reader.head is None:
        reader.feed(await connection.receive())
    head = reader.head
    if head.status in REDIRECTS and head.get("location"):
        return head.get("location")
    if head.status != 200:
        raise ManifestFault(f"it does not give the {what} ({head.status})")
    if head.get("content-encoding").strip().lower() not in ("", "identity"):
        raise ManifestFault(f"it sends the {what} in an encoding that was not asked for")
    if (head.length or 0) > most:
        raise ManifestFault(f"what lies there is too long for a {what}")
    body = bytearray()
    memory = memoryview(bytearray(BEGIN_BYTES))
    while not reader.ended:
        size = reader.take(memory)
        body += memory[:size]
        if len(body) > most:
            raise ManifestFault(f"what lies there is too long for a {what}")
        if not size and not reader.ended:
            reader.feed(await connection.receive(BEGIN_BYTES))
    return bytes(body)
