"""A body that is received into several pieces at once: over real sockets, with TLS and without."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from swarm.origin_url import OriginUrl
from swarm.protocol.http_range import Wish
from swarm.protocol.http_reader import HttpFault, ResponseReader
from swarm.sources import origin_body
from swarm.sources.http_connection import ConnectionLost, HttpConnection, tls_context
from swarm.sources.origin_body import OriginFault, PieceWindow, ResponseBody, first_bytes
from swarm.sources.origin_source import _head
from tests.support.contents import file_manifest
from tests.support.web_servers import certificate

PIECE = 65_536
CONTENT = os.urandom(40 * PIECE + 1000)
MANIFEST = file_manifest("f", CONTENT, piece_length=PIECE)
LAST = MANIFEST.piece_count - 1
WISH = Wish(0, len(CONTENT), len(CONTENT), "")
Serve = Callable[[trio.abc.Stream], Awaitable[None]]


class CountingDesk:
    """Keeps what is delivered; ``room`` pieces have memory at once, and ``unwanted`` are nobody's."""

    manifest = MANIFEST
    slice_bytes = 1 << 20

    def __init__(self, room: int = 100, unwanted: Sequence[int] = ()) -> None:
        self.room = room
        self.unwanted = frozenset(unwanted)
        self.open: dict[int, memoryview] = {}
        self.received_bytes = 0
        self.batches: list[list[int]] = []

    async def begin(self, piece: int) -> memoryview | None:
        return None if piece in self.unwanted else self._memory(piece)

    def begin_now(self, piece: int) -> memoryview | None:
        if piece in self.unwanted or len(self.open) >= self.room:
            return None
        return self._memory(piece)

    def _memory(self, piece: int) -> memoryview:
        return self.open.setdefault(piece, memoryview(bytearray(MANIFEST.layout.length(piece))))

    async def received(self, piece: int, size: int) -> None:
        assert piece in self.open
        self.received_bytes += size

    def deliver(self, pieces: Sequence[int]) -> None:
        for piece in pieces:
            start = piece * PIECE
            assert self.open.pop(piece) == CONTENT[start : start + PIECE]
        self.batches.append(list(pieces))


async def with_server(
    serve: Serve, talk: Callable[[HttpConnection], Awaitable[None]], folder: Path | None = None
) -> None:
    """Talk to a server of one connection; with a ``folder`` for its certificate it speaks TLS."""
    listeners: list[Any] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    trust = None
    if folder is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate(folder))
        listeners = [trio.SSLListener(listeners[0], context, https_compatible=True)]
        trust = tls_context(folder / "cert.pem")
    url = OriginUrl(f"{'https' if folder else 'http'}://127.0.0.1:{port}/")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.serve_listeners, serve, listeners))
            connection = await HttpConnection.open(url, trust)
            try:
                await talk(connection)
            finally:
                connection.close()
            nursery.cancel_scope.cancel()


def response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def received_all(desk: Any, connection: HttpConnection) -> ResponseReader:
    reader = await _head(connection, connection.url, WISH)
    window = PieceWindow(desk, ResponseBody(connection, reader), range(MANIFEST.piece_count))
    while window.waiting or not window.empty:
        if window.empty:
            await window.begin()
        window.begin_more()
        try:
            await window.fill()
        finally:
            if whole := window.take_whole():
                desk.deliver(whole)
    return reader


@pytest.mark.parametrize("encrypted", [False, True])
async def test_pieces_that_come_without_a_pause_are_handed_over_together(
    tmp_path: Path, *, encrypted: bool
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(response(CONTENT))
        await stream.receive_some()

    desk = CountingDesk(unwanted=[5, LAST])

    async def talk(connection: HttpConnection) -> None:
        reader = await received_all(desk, connection)
        assert reader.ended
        assert not reader.rest

    await with_server(serve, talk, tmp_path if encrypted else None)
    delivered = [piece for batch in desk.batches for piece in batch]
    assert delivered == [piece for piece in range(MANIFEST.piece_count) if piece not in desk.unwanted]
    assert max(map(len, desk.batches)) <= (1 << 20) // PIECE
    assert len(desk.batches) < len(delivered) / 2
    assert desk.received_bytes == len(CONTENT) - PIECE - 1000


async def test_whole_pieces_do_not_wait_for_those_that_follow_and_memory_is_not_waited_for() -> None:
    goes_on = trio.Event()

    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        data = response(CONTENT)
        # One and a half pieces; the rest comes once the first was delivered.
        await stream.send_all(data[: PIECE * 3 // 2])
        await goes_on.wait()
        await stream.send_all(data[PIECE * 3 // 2 :])
        await stream.receive_some()

    class Waiting(CountingDesk):
        def deliver(self, pieces: Sequence[int]) -> None:
            super().deliver(pieces)
            goes_on.set()

    desk = Waiting(room=3)

    async def talk(connection: HttpConnection) -> None:
        await received_all(desk, connection)

    await with_server(serve, talk)
    assert desk.batches[0] == [0]
    assert sum(map(len, desk.batches)) == MANIFEST.piece_count
    assert max(map(len, desk.batches)) <= 3


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("missing", [1, 3 * PIECE])
async def test_what_was_whole_before_the_connection_ended_is_kept(
    tmp_path: Path, missing: int, *, encrypted: bool
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(response(CONTENT)[:-missing])
        await stream.aclose()

    desk = CountingDesk()

    async def talk(connection: HttpConnection) -> None:
        with pytest.raises(HttpFault, match="within the body"):
            await received_all(desk, connection)

    await with_server(serve, talk, tmp_path if encrypted else None)
    whole = (len(CONTENT) - missing) // PIECE
    assert [piece for batch in desk.batches for piece in batch] == list(range(whole))


async def test_a_body_that_ends_early_is_the_fault_of_the_answer() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(response(CONTENT[: PIECE + 1]))
        await stream.receive_some()

    desk = CountingDesk()

    async def talk(connection: HttpConnection) -> None:
        with pytest.raises(OriginFault, match="less than was asked for"):
            await received_all(desk, connection)

    await with_server(serve, talk)
    assert desk.batches == [[0]]


async def test_a_short_answer_after_a_fast_body_is_not_waited_for_until_more_comes() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(response(CONTENT))
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await stream.receive_some()

    async def talk(connection: HttpConnection) -> None:
        await received_all(CountingDesk(), connection)
        connection._wake_at(1 << 17)
        with trio.fail_after(5):
            reader = await _head(connection, connection.url, WISH)
        assert reader.head is not None
        assert reader.head.status == 404

    await with_server(serve, talk)


async def test_a_chunked_body_that_comes_steadily_is_not_taken_for_one_that_drips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(origin_body, "SLOW_SECONDS", 0.1)

    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for start in range(0, len(CONTENT), PIECE):
            chunk = CONTENT[start : start + PIECE]
            # Together with the head: the first wait is for the second chunk.
            await stream.send_all(head + b"%x\r\n%s\r\n" % (len(chunk), chunk))
            head = b""
            await trio.sleep(0.02)
        await stream.send_all(b"0\r\n\r\n")

    desk = CountingDesk()

    async def talk(connection: HttpConnection) -> None:
        await received_all(desk, connection)

    await with_server(serve, talk)
    assert sum(map(len, desk.batches)) == MANIFEST.piece_count


async def test_a_chunked_body_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin_body, "SLOW_SECONDS", 0.1)

    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"1\r\nx\r\n")
            await trio.sleep(0.02)

    async def talk(connection: HttpConnection) -> None:
        with pytest.raises(ConnectionLost, match="less than 1024 bytes a second"):
            await received_all(CountingDesk(), connection)

    await with_server(serve, talk)


def test_memory_is_cut_to_what_may_be_received() -> None:
    some = [memoryview(bytearray(size)) for size in (3, 4, 5)]
    for most in range(1, 15):
        assert sum(map(len, first_bytes(some, most))) == min(most, 12)
    assert [len(each) for each in first_bytes(some, 7)] == [3, 4]
