"""What `fetch -o -` makes of the moment in which its reader goes away; with a real pipe as stdout."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from cli.failures import PipeClosed
from cli.transfers import piping

DATA = b"x" * 3000


class Delivered:
    """A transfer of one file, the rest of which comes only if ``whole``."""

    files = (0,)
    size = len(DATA)

    def __init__(self, *, whole: bool) -> None:
        self._left = [DATA[:1000], DATA[1000:]] if whole else [DATA[:1000]]
        self._whole = whole

    async def opened(self) -> None:
        await trio.lowlevel.checkpoint()

    def chunks(self) -> Delivered:
        return self

    def __aiter__(self) -> Delivered:
        return self

    async def __anext__(self) -> memoryview:
        await trio.lowlevel.checkpoint()
        if self._left:
            return memoryview(self._left.pop(0))
        if not self._whole:
            await trio.sleep_forever()
        raise StopAsyncIteration


@contextmanager
def piped_stdout() -> Iterator[int]:
    """Stdout is a pipe for the block; its other end, which the block closes."""
    reading, writing = os.pipe()
    kept = os.dup(1)
    os.dup2(writing, 1)
    os.close(writing)
    try:
        yield reading
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@pytest.mark.parametrize("whole", [True, False])
async def test_a_reader_that_closes_as_soon_as_it_has_all_is_no_reader_that_went_away(
    whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def late(fd: int, data: Any) -> int:
        """The thread that writes gets no processor for a while, after the bytes are out."""
        count = real(fd, data)
        time.sleep(0.1)
        return count

    def read(fd: int) -> None:
        left = len(DATA) if whole else 1000
        while left and (got := os.read(fd, left)):
            left -= len(got)
        os.close(fd)

    monkeypatch.setattr(piping.os, "write", late)
    transfer: Any = Delivered(whole=whole)
    with piped_stdout() as fd:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, read, fd)
            with trio.fail_after(10):
                if whole:
                    await piping._deliver(transfer, transfer.opened)
                else:
                    with pytest.raises(PipeClosed):
                        await piping._deliver(transfer, transfer.opened)
