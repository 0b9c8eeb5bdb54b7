"""The outlets: nobody waits for a reader, and what was left out is counted."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from cli.output import OPTIONAL_BYTES, WRITE_BYTES, Kind, NoReader, Outlet, Outputs
from cli.render.views import JsonView
from swarm.events import PieceStored, TransferEnded
from swarm.ids import SourceId, TransferId
from swarm.observe.jsonlines import decode
from swarm.observe.reports import CommandStarted, LinesLost
from tests.support.sinks import Sink


class Reader:
    """Something to write to that takes nothing until it is told to; errors are raised once each."""

    def __init__(self) -> None:
        self.data = b""
        self.errors: list[OSError] = []
        self.reads = threading.Event()

    def write(self, data: bytes) -> int:
        assert self.reads.wait(20)
        if self.errors:
            raise self.errors.pop(0)
        self.data += data
        return len(data)


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.reads.set()


def until_taken(outlet: Outlet) -> None:
    """Wait until the thread has taken what was queued, and hangs in its write."""
    deadline = time.monotonic() + 20
    while outlet._queue or not outlet._busy:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_lines_arrive_in_order(reader: Reader) -> None:
    outlet = Outlet(reader.write)
    reader.reads.set()
    for number in range(10_000):
        outlet.put(f"{number}\n")
    assert outlet.flush(20)
    assert reader.data.splitlines() == [str(number).encode() for number in range(10_000)]


def test_what_the_reader_misses_is_counted_where_it_stood(reader: Reader) -> None:
    outlet = Outlet(reader.write)
    outlet.put("first\n")
    until_taken(outlet)
    line = "x" * 1023 + "\n"
    for _ in range(OPTIONAL_BYTES // 1024 + 500):
        outlet.put(line, Kind.OPTIONAL)
    outlet.put("result\n")
    reader.reads.set()
    assert outlet.flush(20)
    outlet.put("later\n", Kind.OPTIONAL)
    assert outlet.flush(20)
    lines = reader.data.decode().splitlines()
    assert lines.count(line.rstrip()) == OPTIONAL_BYTES // 1024
    assert [each for each in lines if not each.startswith("x")] == [
        "first",
        "(500 lines left out)",
        "result",
        "later",
    ]


async def test_under_trio_results_never_wait(reader: Reader) -> None:
    outlet = Outlet(reader.write)
    for _ in range(3):
        outlet.put("x" * OPTIONAL_BYTES + "\n")
    reader.reads.set()
    assert outlet.flush(20)
    assert len(reader.data) == 3 * (OPTIONAL_BYTES + 1)


def test_progress_that_waits_is_replaced(reader: Reader) -> None:
    outlet = Outlet(reader.write)
    outlet.put("first\n")
    until_taken(outlet)
    for number in range(100):
        outlet.put(f"{number}%\n", Kind.LATEST)
        outlet.frame([f"[{number}]"])
    reader.reads.set()
    assert outlet.flush(20)
    assert reader.data == b"first\n99%\n[99]"


def test_lines_stand_above_the_frame(reader: Reader) -> None:
    outlet = Outlet(reader.write)
    reader.reads.set()
    outlet.frame(["bar", "table"])
    assert outlet.flush(20)
    outlet.put("line\n")
    assert outlet.flush(20)
    outlet.frame(())
    assert outlet.flush(20)
    erase = b"\r\x1b[2K\x1b[1A\x1b[2K"
    assert reader.data == b"bar\ntable" + erase + b"line\nbar\ntable" + erase


def test_a_full_disk_is_told_when_there_is_room_again(reader: Reader) -> None:
    outlet = Outlet(reader.write)
    reader.reads.set()
    reader.errors.append(OSError(errno.ENOSPC, "No space left on device"))
    outlet.put("one\ntwo\n")
    assert outlet.flush(20)
    outlet.put("three\n")
    assert outlet.flush(20)
    assert reader.data == b"(2 lines left out)\nthree\n"
    assert outlet.failure is not None
    assert not outlet.gone


@pytest.mark.parametrize("strict", [True, False])
def test_a_reader_that_has_gone_matters_only_to_who_prints(reader: Reader, strict: bool) -> None:
    outlet = Outlet(reader.write)
    outlet.strict = strict
    reader.reads.set()
    reader.errors.append(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    outlet.put("one\n")
    assert outlet.flush(20)
    assert outlet.gone
    if strict:
        with pytest.raises(NoReader):
            outlet.put("two\n")
    else:
        outlet.put("two\n")
    assert reader.data == b""


def test_a_reader_that_takes_nothing_is_given_up(reader: Reader) -> None:
    outlet = Outlet(reader.write)
    outlet.put("one\n")
    began = time.monotonic()
    assert not outlet.flush(0.2)
    assert time.monotonic() - began < 10


def test_a_slow_reader_is_waited_for() -> None:
    with Sink("unread") as sink:
        outlet = Outlet(lambda data: os.write(sink.descriptor, data))
        outlet.put("x" * 4 * WRITE_BYTES + "\n")
        assert not outlet.flush(0.2)
        sink._read(sink._descriptors[0])
        assert outlet.flush(20)


def test_a_descriptor_that_others_made_non_blocking_loses_nothing() -> None:
    with Sink("unread") as sink:
        os.set_blocking(sink.descriptor, False)
        with os.fdopen(sink.descriptor, "w", closefd=False) as stream:
            outputs = Outputs(stream, stream)
            outputs.out.put("x" * 100_000 + "\n")
            assert not outputs.out.flush(0.2)
            sink._read(sink._descriptors[0])
            assert outputs.out.flush(20)
            sink.close()
            assert sink.finish().count("x") == 100_000


def test_stdout_and_stderr_to_one_place_keep_their_order() -> None:
    with Sink("pipe") as sink, os.fdopen(sink.descriptor, "w", closefd=False) as stream:
        outputs = Outputs(stream, stream)
        with outputs.installed():
            for number in range(1000):
                print(2 * number)
                print(2 * number + 1, file=sys.stderr)
            outputs.flush(20)
        sink.close()
        assert [int(line) for line in sink.finish().split()] == list(range(2000))


def test_closed_streams_take_everything() -> None:
    outputs = Outputs(None, None)
    with outputs.installed():
        print("into nothing")
        assert not sys.stdout.isatty()
    outputs.flush(20)
    assert outputs.out.failure is None


def test_a_json_reader_that_comes_back_finds_results_and_marked_gaps(reader: Reader) -> None:
    outputs = Outputs(None, None)
    outputs.out = Outlet(reader.write)
    view = JsonView(outputs, pieces=True)
    view.event(CommandStarted("fetch", "1", 2, "now"), 0.0)
    until_taken(outputs.out)
    count = 50_000
    for piece in range(count):
        view.event(PieceStored(TransferId(1), piece, 1, SourceId("someone")), piece / 1000)
    view.event(TransferEnded(TransferId(1)), count / 1000)
    reader.reads.set()
    assert outputs.out.flush(20)
    told = [decode(line) for line in reader.data.decode().splitlines()]
    events = [each[0] for each in told if each is not None]
    assert isinstance(events[0], CommandStarted)
    assert isinstance(events[-1], TransferEnded)
    stored = [event.piece for event in events if isinstance(event, PieceStored)]
    lost = [event.lines for event in events if isinstance(event, LinesLost)]
    assert stored == sorted(set(stored))
    assert len(stored) + sum(lost) == count
    assert lost, "a pipe that nobody reads takes no megabytes"
    assert len(reader.data) < OPTIONAL_BYTES + 100_000
