"""What the news of changed interfaces make of what the system sends, and of what it loses."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from swarm.discovery import interfaces
from swarm.discovery.interfaces import MAX_NEWS, InterfaceNews


class ScriptedSocket:
    """Readable without end; each read gets what is next, the last for good."""

    def __init__(self, readable: socket.socket, *reads: bytes | OSError) -> None:
        self._readable = readable
        self.reads = list(reads)
        self.count = 0

    def fileno(self) -> int:
        return self._readable.fileno()

    def close(self) -> None:
        pass

    def recv(self, _size: int) -> bytes:
        self.count += 1
        read = self.reads.pop(0) if len(self.reads) > 1 else self.reads[0]
        if isinstance(read, OSError):
            raise read
        return read


@contextmanager
def system_that_sends(monkeypatch: pytest.MonkeyPatch, *reads: bytes | OSError) -> Iterator[ScriptedSocket]:
    here, there = socket.socketpair()
    with here, there:
        there.send(b"news")
        scripted = ScriptedSocket(here, *reads)
        monkeypatch.setattr(interfaces, "_listening", lambda: scripted)
        yield scripted


LOST = OSError(errno.ENOBUFS, "No buffer space available")
EMPTY = BlockingIOError(errno.EAGAIN, "nothing more")


async def test_news_that_were_lost_are_a_change_and_the_rest_is_read(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    with (
        system_that_sends(monkeypatch, LOST, b"one", ConnectionResetError(), b"two", EMPTY) as system,
        InterfaceNews() as news,
    ):
        await news.wait()
        assert system.count == 5
        assert system.reads == [EMPTY]


@pytest.mark.parametrize("read", [b"more", LOST])
async def test_a_read_has_an_end_whatever_comes(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, read: bytes | OSError
) -> None:
    with system_that_sends(monkeypatch, read) as system, InterfaceNews() as news:
        await news.wait()
        assert system.count == MAX_NEWS
