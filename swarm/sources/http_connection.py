"""One connection to a web server: bytes out, bytes straight into the memory where they are wanted.

Nothing here knows HTTP. TLS is the standard library's, over memory: it decrypts straight into the caller's.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import trio

from swarm.errors import UsageError
from swarm.origin_url import OriginUrl

CONNECT_SECONDS = 10.0
HEAD_START_SECONDS = 0.25
"""So much later each further address of a server is dialled, or once the one before has failed."""
MAX_WAYS = 16
"""Addresses of one server that are dialled."""
TLS_BYTES = 256 * 1024
WAKE_BYTES = 128 * 1024
"""Bytes of a fast server that are waited for together,"""
FAST_SECONDS = 0.005
"""for so long at most."""
SILENT_SECONDS = 15.0
"""A server that sends nothing for so long while it is waited for is given up."""


class ConnectFault(Exception):
    """The server cannot be reached, or not trusted; the message is one short line."""


class ConnectionLost(Exception):
    """The connection ended or failed; the message is one short line."""


def tls_context(authorities: Path | None) -> ssl.SSLContext:
    """How servers are checked; with ``authorities``, a PEM file, by those alone. Raises UsageError."""
    try:
        context = ssl.create_default_context(cafile=None if authorities is None else str(authorities))
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it holds no certificate"
        raise UsageError(f"the certificate authorities in {authorities} cannot be used: {why}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


class HttpConnection:
    """An open connection to the server of a URL; made by `open`."""

    def __init__(self, stream: trio.socket.SocketType, url: OriginUrl, tls: ssl.SSLContext | None) -> None:
        self._socket = stream
        self.url = url
        self.used = False
        """Whether a response came over it."""
        self.idle_since = time.monotonic()
        self._incoming = self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._encrypted = memoryview(b"")
        self._low_water = 1
        self._fast = False
        if tls is not None:
            self._encrypted = memoryview(bytearray(TLS_BYTES))
            self._outgoing = ssl.MemoryBIO()
            self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_hostname=url.host)

    @classmethod
    async def open(
        cls, url: OriginUrl, tls: ssl.SSLContext | None, *, public_only: bool = False
    ) -> HttpConnection:
        """Connect, and check the server's certificate where the URL is ``https``. Raises `ConnectFault`."""
        with trio.move_on_after(CONNECT_SECONDS):
            stream = await _connect(url, public_only=public_only)
            try:
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = cls(stream, url, tls)
                await connection._shake_hands()
            except BaseException:
                stream.close()
                raise
            return connection
        raise ConnectFault(f"it does not answer within {CONNECT_SECONDS:g} s")

    async def _shake_hands(self) -> None:
        if self._tls is None:
            return
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                try:
                    await self._more()
                except ConnectionLost:
                    raise ConnectFault("it ends the connection before TLS begins") from None
            except ssl.SSLCertVerificationError as error:
                raise ConnectFault(f"its certificate is refused: {error.verify_message}") from None
            except ssl.SSLError:
                raise ConnectFault("it does not speak TLS as it should") from None
            else:
                await self._flush()
                return

    def serves(self, url: OriginUrl) -> bool:
        """Whether the URL is of this connection's server."""
        return self.url.same_server(url)

    async def send(self, data: bytes) -> None:
        """Send all of ``data``. Raises `ConnectionLost`."""
        if self._tls is None:
            await self._send(data)
            return
        try:
            self._tls.write(data)
        except ssl.SSLError:
            raise ConnectionLost("TLS failed") from None
        await self._flush()

    async def receive_into(self, memory: memoryview) -> int:
        """Receive some bytes; 0 at the end. Raises `ConnectionLost`."""
        if self._tls is None:
            return await self._receive_into(memory)
        while True:
            try:
                return self._decrypt(memory, self._tls)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._more()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return 0
            except ssl.SSLError:
                raise ConnectionLost("TLS failed") from None

    @staticmethod
    def _decrypt(memory: memoryview, tls: ssl.SSLObject) -> int:
        """As many records as are there."""
        size = _read_into(tls, memory)
        while 0 < size < len(memory):
            try:
                done = _read_into(tls, memory[size:])
            except ssl.SSLError:
                break  # the next call tells
            if not done:
                break
            size += done
        return size

    def receive_now(self, memories: Sequence[memoryview]) -> int | None:
        """Receive what has come, into one memory after the other; 0 at the end, None if there is nothing yet.

        Raises `ConnectionLost`.
        """
        if self._tls is None:
            return self._read_now(memories)
        size = 0
        for memory in memories:
            try:
                part = self._decrypt_now(memory, self._tls)
            except ConnectionLost:
                if not size:
                    raise
                break  # the next call tells
            if part is None:
                return size or None
            size += part
            if part < len(memory):
                break  # the next call tells
        return size

    def _decrypt_now(self, memory: memoryview, tls: ssl.SSLObject) -> int | None:
        size = 0
        while size < len(memory):
            try:
                part = _read_into(tls, memory[size:])
            except ssl.SSLWantReadError:
                if (came := self._read_now([self._encrypted])) is None:
                    return size or None
                if came:
                    self._incoming.write(self._encrypted[:came])
                else:
                    self._incoming.write_eof()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                break
            except ssl.SSLError:
                if not size:
                    raise ConnectionLost("TLS failed") from None
                break  # the next call tells
            else:
                if not part:
                    break
                size += part
        return size

    def _read_now(self, memories: Sequence[memoryview]) -> int | None:
        try:
            return os.readv(self._socket.fileno(), memories)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ConnectionLost(_words(error)) from None

    async def readable(self, due: int) -> None:
        """Wait until `receive_now` has something; ``due`` bytes are still to come. Raises `ConnectionLost`.

        From a fast server that is a good part of them: to wake up for each packet would cost more than all.
        """
        if self._outgoing.pending:
            await self._flush()
        least = min(due, WAKE_BYTES) if self._fast and self._tls is None else 1
        with trio.move_on_after(SILENT_SECONDS):
            began = time.monotonic()
            if least > 1:
                self._wake_at(least)
                with trio.move_on_after(FAST_SECONDS):
                    await trio.lowlevel.wait_readable(self._socket.fileno())
                    return
                self._fast = False
            self._wake_at(1)
            await trio.lowlevel.wait_readable(self._socket.fileno())
            self._fast = time.monotonic() - began < FAST_SECONDS
            return
        raise ConnectionLost(f"it sent nothing for {SILENT_SECONDS:g} s")

    def _wake_at(self, size: int) -> None:
        """Make the socket readable once it holds ``size`` bytes or has ended."""
        if size != self._low_water:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
            self._low_water = size

    async def receive(self, most: int = 64 * 1024) -> bytes:
        """Receive some bytes; empty at the end. Raises `ConnectionLost`."""
        memory = memoryview(bytearray(most))
        return bytes(memory[: await self.receive_into(memory)])

    async def _receive_into(self, memory: memoryview) -> int:
        # What comes may be shorter than what was waited for before.
        self._wake_at(1)
        with trio.move_on_after(SILENT_SECONDS):
            try:
                return await self._socket.recv_into(memory)
            except OSError as error:
                raise ConnectionLost(_words(error)) from None
        raise ConnectionLost(f"it sent nothing for {SILENT_SECONDS:g} s")

    async def _more(self) -> None:
        data = bytearray(TLS_BYTES)
        size = await self._receive_into(memoryview(data))
        if size:
            self._incoming.write(memoryview(data)[:size])
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._send(data)

    async def _send(self, data: bytes) -> None:
        left = memoryview(data)
        with trio.move_on_after(SILENT_SECONDS):
            try:
                while left:
                    left = left[await self._socket.send(left) :]
            except OSError as error:
                raise ConnectionLost(_words(error)) from None
            return
        raise ConnectionLost(f"it took no request for {SILENT_SECONDS:g} s")

    def close(self) -> None:
        """Close at once."""
        self._socket.close()


def _read_into(tls: ssl.SSLObject, memory: memoryview) -> int:
    return cast("int", tls.read(len(memory), cast("bytearray", memory)))


async def _connect(url: OriginUrl, *, public_only: bool) -> trio.socket.SocketType:
    try:
        found = await trio.socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ConnectFault("its name is not known") from None
    allowed = [each for each in found if not public_only or _is_public(str(each[4][0]))]
    if not allowed:
        raise ConnectFault("its address is not a public one, and only those are allowed")
    return await _race([(family, kind, protocol, where) for family, kind, protocol, _, where in allowed])


_Way = tuple[int, int, int, tuple[Any, ...]]


async def _race(ways: Sequence[_Way]) -> trio.socket.SocketType:
    """Connect by the way that answers first; each has a head start before the next (RFC 8305).

    `trio.open_tcp_stream` does that, too, but looks up the name itself: what was checked would not be what is
    dialled.
    """
    made: list[trio.socket.SocketType] = []
    faults: list[str] = []
    try:
        async with trio.open_nursery() as nursery:

            async def attempt(way: _Way, failed: trio.Event) -> None:
                family, kind, protocol, where = way
                stream = trio.socket.socket(family, kind, protocol)
                try:
                    await stream.connect(where)
                except OSError as error:
                    stream.close()
                    faults.append(_words(error))
                    failed.set()
                except BaseException:
                    stream.close()
                    raise
                else:
                    made.append(stream)
                    nursery.cancel_scope.cancel()

            for way in _alternating(ways)[:MAX_WAYS]:
                failed = trio.Event()
                nursery.start_soon(attempt, way, failed)
                with trio.move_on_after(HEAD_START_SECONDS):
                    await failed.wait()
    except BaseException:
        # Cancelled from outside just when it had connected.
        for each in made:
            each.close()
        raise
    for late in made[1:]:
        late.close()
    if not made:
        raise ConnectFault(faults[-1] if faults else "it cannot be reached")
    return made[0]


def _alternating(ways: Sequence[_Way]) -> list[_Way]:
    """The kinds of addresses in turn, that of the first in front: one of them may lead nowhere."""
    first = [way for way in ways if way[0] == ways[0][0]]
    others = [way for way in ways if way[0] != ways[0][0]]
    pairs = itertools.zip_longest(first, others)
    return [way for pair in pairs for way in pair if way is not None]


def _is_public(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_global


def _words(error: OSError) -> str:
    """What happened, without what it happened to."""
    return os.strerror(error.errno).lower() if error.errno else "the connection failed"
