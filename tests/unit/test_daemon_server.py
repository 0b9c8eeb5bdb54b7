"""The daemon's server on one connection: requests that follow each other, and files between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from swarm.daemon.api import OpenedFile
from swarm.daemon.file_ranges import ByteRange
from swarm.daemon.http_messages import Answer, HttpConversation, HttpRequest, json_answer
from swarm.daemon.http_server import READ_BYTES, ApiServer

GET = b"GET /v1/transfers/a/files/0 HTTP/1.1\r\nHost: h\r\n\r\n"
POST = (
    b"POST /v1/transfers HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    % READ_BYTES
)


class SlowFile:
    """Content of 4 bytes, the last of which are there once ``allowed`` is set."""

    def __init__(self) -> None:
        self.allowed = trio.Event()

    async def read(self, _file: int, start: int, stop: int) -> AsyncIterator[memoryview]:
        yield memoryview(b"swarm"[start : start + 2])
        await self.allowed.wait()
        yield memoryview(b"swarm"[start + 2 : stop])


class FileApi:
    """Has one file; answers anything else with the length of the body."""

    def __init__(self, file: SlowFile) -> None:
        self._file: Any = file

    async def open_file(self, _request: HttpRequest, _name: str, number: int) -> OpenedFile:
        await trio.lowlevel.checkpoint()
        return OpenedFile(200, (), self._file, number, ByteRange(0, 4))

    async def answer(self, request: HttpRequest) -> Answer:
        await trio.lowlevel.checkpoint()
        return json_answer(200, len(request.body))


def server(file: SlowFile) -> Any:
    api: Any = FileApi(file)
    return ApiServer(api, lambda _request: None)


async def received(stream: trio.abc.ReceiveStream, end: bytes) -> bytes:
    data = b""
    with trio.move_on_after(30):
        while not data.endswith(end) and (more := await stream.receive_some(READ_BYTES)):
            data += more
    return data


async def test_a_request_that_comes_while_a_file_is_sent_is_answered_after_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    client, stream = trio.testing.memory_stream_pair()
    file = SlowFile()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server(file)._accepted, stream)
        await client.send_all(GET + GET[:9])
        await trio.testing.wait_all_tasks_blocked()
        await client.send_all(GET[9:])
        await trio.testing.wait_all_tasks_blocked()
        # The head of a request whose client waits until it may send the rest.
        await client.send_all(POST)
        await trio.testing.wait_all_tasks_blocked()
        file.allowed.set()
        got = await received(client, b"100 Continue\r\n\r\n")
        assert got.count(b"\r\n\r\nswar") == 2, got
        await client.send_all(b"x" * READ_BYTES)
        assert (await received(client, str(READ_BYTES).encode())).startswith(b"HTTP/1.1 200 OK")
        await client.aclose()


async def test_what_comes_while_a_file_is_sent_is_bounded(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = 0
    receive = HttpConversation.receive

    def counted(self: HttpConversation, data: bytes) -> None:
        nonlocal kept
        kept += len(data)
        receive(self, data)

    monkeypatch.setattr(HttpConversation, "receive", counted)
    client, stream = trio.testing.memory_stream_pair()
    file = SlowFile()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server(file)._accepted, stream)
        await client.send_all(GET)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(8):
            await client.send_all(b"x" * READ_BYTES)
            await trio.testing.wait_all_tasks_blocked()
        assert kept <= len(GET) + 2 * READ_BYTES
        file.allowed.set()
        assert (await received(client, b"swar")).endswith(b"\r\n\r\nswar")
        # What was not kept cannot be answered.
        assert await received(client, b"}}") == b""
        await client.aclose()


@pytest.mark.parametrize("before", [0, 3 * READ_BYTES], ids=["quiet", "after more than is kept"])
async def test_a_reader_that_goes_away_ends_the_wait_for_a_piece(
    autojump_clock: trio.testing.MockClock, before: int
) -> None:
    client, stream = trio.testing.memory_stream_pair()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server(SlowFile())._accepted, stream)
            await client.send_all(GET)
            await received(client, b"sw")
            if before:
                await client.send_all(b"x" * before)
                await trio.testing.wait_all_tasks_blocked()
            await client.aclose()
