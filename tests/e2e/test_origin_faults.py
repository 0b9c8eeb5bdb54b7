"""What a web server can do wrong: the right file where anybody else has it, and otherwise one line."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import swarm
from swarm.sources import origin_body, origin_source
from swarm.strategy.download import origins
from tests.support.nodes import loopback_node, observe, until
from tests.support.web_servers import Asked, ScriptedServer, serving

PIECE = 64 * 1024
SIZE = 24 * PIECE + 100
DATA = random.Random(3).randbytes(SIZE)
OLD = random.Random(4).randbytes(SIZE)
FLIPPED = DATA[:-50] + bytes([DATA[-50] ^ 1]) + DATA[-49:]


def good(asked: Asked) -> None:
    asked.part()


def truncated(asked: Asked) -> bool:
    where = f"Content-Range: bytes {asked.start}-{asked.stop - 1}/{SIZE}"
    body = DATA[asked.start : asked.start + 1000]
    asked.say("206 Partial Content", where, body=body, length=asked.stop - asked.start)
    return False


def dripping(asked: Asked) -> bool:
    where = f"Content-Range: bytes {asked.start}-{asked.stop - 1}/{SIZE}"
    asked.say("206 Partial Content", where, length=asked.stop - asked.start)
    for at in range(asked.start, asked.stop):
        asked.wire.sendall(DATA[at : at + 1])
        time.sleep(1)
    return False


def endless_head(asked: Asked) -> bool:
    asked.wire.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(100_000):
        asked.wire.sendall(b"X-%d: %s\r\n" % (number, b"x" * 100))
    return False


def garbage(asked: Asked) -> bool:
    asked.wire.sendall(random.Random(1).randbytes(4096))
    return False


FAULTS: dict[str, tuple[Callable[[Asked], object], str]] = {
    "flipped": (lambda asked: asked.part(FLIPPED), "does not match its hash"),
    "truncated": (truncated, "ended within the body"),
    "416": (
        lambda asked: asked.say("416 Range Not Satisfiable", "Content-Range: bytes */77"),
        f"the file there has 77 bytes, not {SIZE}",
    ),
    "404": (lambda asked: asked.say("404 Not Found", body=b"<p>no</p>"), r"does not give the file \(404\)"),
    "old version": (lambda asked: asked.part(OLD), "does not match its hash"),
    "503": (lambda asked: asked.say("503 Service Unavailable", "Retry-After: 1"), r"it is busy \(503\)"),
    "500": (lambda asked: asked.say("500 Internal Server Error"), r"it fails \(500\)"),
    "redirect loop": (
        lambda asked: asked.say("302 Found", f"Location: {asked.target}"),
        "redirects more than 5 times",
    ),
    "redirect to a file": (
        lambda asked: asked.say("302 Found", "Location: file:///etc/passwd"),
        "redirects to somewhere else",
    ),
    "redirect to no name": (
        lambda asked: asked.say("302 Found", f"Location: http://{'x' * 64}.example/"),
        "redirects to somewhere else",
    ),
    "another part": (
        lambda asked: asked.say(
            "206 Partial Content", f"Content-Range: bytes 1-{PIECE}/{SIZE}", body=DATA[1 : PIECE + 1]
        ),
        "another part",
    ),
    "no part": (lambda asked: asked.say("206 Partial Content", body=DATA[:PIECE]), "which part"),
    "gzip": (
        lambda asked: asked.part(None, "Content-Encoding: gzip"),
        "in an encoding that was not asked for",
    ),
    "dripping": (dripping, "less than 1024 bytes a second"),
    "endless head": (endless_head, "head of the response is too long"),
    "garbage": (garbage, "ended before the response|does not speak HTTP"),
    "silent": (lambda asked: False, "ended before the response"),
}


async def _envelope(node: swarm.Node, folder: Path) -> tuple[swarm.Transfer, swarm.Envelope]:
    content = folder / "content.bin"
    content.write_bytes(DATA)
    shared = await node.share(content, piece_length=PIECE)
    return shared, shared.envelope


def _options(server: ScriptedServer, **fields: Any) -> swarm.TransferOptions:
    return swarm.TransferOptions(origins=(server.url,), **fields)


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_nobody_else_has_ends_with_one_line_that_names_the_origin(
    tmp_path: Path, fault: str
) -> None:
    answer, reason = FAULTS[fault]
    async with loopback_node(tmp_path / "a") as sharer, loopback_node(tmp_path / "b") as node:
        shared, envelope = await _envelope(sharer, tmp_path)
        await shared.stop()
        with serving(DATA, answer) as server:
            options = _options(server, patience=2.0)
            async with node.fetch(envelope, into=tmp_path / "out", options=options) as transfer:
                with trio.fail_after(60), pytest.raises(swarm.SwarmError) as error:
                    await transfer.complete()
    assert error.value.exit_code in (4, 5)
    message = str(error.value)
    assert "\n" not in message
    if reason:
        assert f"origin {server.url}: " in message
        assert error.match(reason)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_peer_gives_what_the_origin_does_not_and_only_the_origin_is_blamed(
    tmp_path: Path, fault: str
) -> None:
    answer, _ = FAULTS[fault]
    async with (
        loopback_node(tmp_path / "a") as sharer,
        loopback_node(tmp_path / "b") as node,
        trio.open_nursery() as nursery,
    ):
        shared, _ = await _envelope(sharer, tmp_path)
        observed = await observe(node, nursery)
        with serving(DATA, answer) as server:
            await shared.pause()
            transfer = node.fetch(shared.link, into=tmp_path / "out", options=_options(server))
            async with transfer:
                await until(lambda: server.asked, "the origin is asked", 30)
                await shared.resume()
                with trio.fail_after(60):
                    path = await transfer.complete()
            assert path.read_bytes() == DATA
        banned = observed.of(swarm.SourceBanned)
        assert {event.source for event in banned} <= {f"origin {server.url}"}
        assert not node.is_banned(sharer.peer_id)
        await node.aclose()
    assert not [event for event in observed.of(swarm.PieceRefused) if event.source == sharer.peer_id]


WRONG_FIRST = bytes([DATA[0] ^ 1]) + DATA[1:]


@pytest.mark.parametrize("fault", ["a wrong piece", "404"])
async def test_a_fault_takes_its_file_from_the_origin_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The rest of the bad file is not asked for again, and what is on its way is not taken."""
    monkeypatch.setattr(origin_source, "RUN_BYTES", 2 * PIECE)
    kind = swarm.SourceFailed if fault == "404" else swarm.SourceBanned
    told = threading.Event()
    asked_after: list[str] = []

    def answer(asked: Asked) -> None:
        if told.is_set():
            asked_after.append(asked.target)
        if not asked.target.endswith("/a.bin"):
            # The bad file comes first. The others wait, so that most of them are asked for after the verdict.
            assert told.wait(30)
            asked.part()
        elif fault == "404":
            asked.say("404 Not Found")
        else:
            # The other worker may have asked for the next part: it is answered when the first is judged.
            if asked.start:
                assert told.wait(30)
            asked.part(WRONG_FIRST)

    folder = tmp_path / "content"
    folder.mkdir()
    for name in ("a.bin", "b.bin", "c.bin"):
        (folder / name).write_bytes(DATA)
    async with (
        loopback_node(tmp_path / "a") as sharer,
        loopback_node(tmp_path / "b") as node,
        trio.open_nursery() as nursery,
    ):
        shared = await sharer.share(folder, piece_length=PIECE)
        envelope = shared.envelope
        await shared.stop()
        observed = await observe(node, nursery)
        with serving(DATA, answer) as server:
            options = _options(server, patience=2.0, sequential=True)
            async with node.fetch(envelope, into=tmp_path / "out", options=options) as transfer:
                await until(lambda: observed.of(kind), "the fault is told", 30)
                told.set()
                with trio.fail_after(60), pytest.raises(swarm.Incomplete):
                    await transfer.complete()
                done = transfer.now().pieces_done
        await node.aclose()
    pieces = envelope.manifest.piece_count // 3
    # Of the first run of the bad file, its good second piece may have come before the verdict.
    assert 2 * pieces <= done <= 2 * pieces + (fault == "a wrong piece")
    assert not [target for target in asked_after if target.endswith("/a.bin")]
    assert asked_after
    [told_once] = observed.of(kind)
    assert ("a.bin" if fault == "404" else "does not match its hash") in told_once.reason


async def _fetched(
    tmp_path: Path, answer: Callable[[Asked], object], **fields: Any
) -> tuple[ScriptedServer, list[swarm.Event]]:
    """A fetch from such a server alone, which succeeds."""
    async with (
        loopback_node(tmp_path / "a") as sharer,
        loopback_node(tmp_path / "b") as node,
        trio.open_nursery() as nursery,
    ):
        shared, envelope = await _envelope(sharer, tmp_path)
        await shared.stop()
        observed = await observe(node, nursery)
        with serving(DATA, answer) as server:
            async with node.fetch(
                envelope, into=tmp_path / "out", options=_options(server, **fields)
            ) as transfer:
                with trio.fail_after(60):
                    path = await transfer.complete()
        assert path.read_bytes() == DATA
        await node.aclose()
    return server, observed.events


async def test_a_server_without_ranges_is_read_from_the_beginning_once(tmp_path: Path) -> None:
    server, _ = await _fetched(tmp_path, lambda asked: asked.say("200 OK", body=DATA))
    assert len(server.asked) == 1


def without_ranges(asked: Asked) -> None:
    """All of the file at a pace, so that more is asked for while it comes."""
    asked.say("200 OK", length=SIZE)
    for at in range(0, SIZE, PIECE):
        asked.wire.sendall(DATA[at : at + PIECE])
        time.sleep(0.02)


async def test_a_long_file_of_a_server_without_ranges_is_read_once_by_one_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin_source, "RUN_BYTES", 4 * PIECE)
    server, events = await _fetched(tmp_path, without_ranges)
    assert len(server.asked) == 1
    assert not [event for event in events if isinstance(event, swarm.SourceFailed)]


async def test_each_long_file_of_a_folder_is_read_once_from_a_server_without_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin_source, "RUN_BYTES", 4 * PIECE)
    folder = tmp_path / "content"
    folder.mkdir()
    names = ("a.bin", "b.bin", "c.bin")
    for name in names:
        (folder / name).write_bytes(DATA)
    async with loopback_node(tmp_path / "a") as sharer, loopback_node(tmp_path / "b") as node:
        shared = await sharer.share(folder, piece_length=PIECE)
        envelope = shared.envelope
        await shared.stop()
        with serving(DATA, without_ranges) as server:
            options = _options(server, patience=5.0)
            async with node.fetch(envelope, into=tmp_path / "out", options=options) as transfer:
                with trio.fail_after(60):
                    path = await transfer.complete()
    assert [(path / name).read_bytes() == DATA for name in names] == [True] * 3
    assert sorted(asked.target for asked in server.asked) == [f"/content/{name}" for name in names]


@pytest.mark.parametrize("status", ["503 Service Unavailable", "500 Internal Server Error"])
async def test_a_passing_fault_of_a_server_without_ranges_loses_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """The other worker has the next run of the file by then: it is not asked for from the middle."""
    monkeypatch.setattr(origin_source, "RUN_BYTES", 4 * PIECE)
    failed = threading.Event()

    def answer(asked: Asked) -> None:
        if asked.target.endswith("b.bin") and not failed.is_set():
            failed.set()
            time.sleep(0.3)  # meanwhile the other worker takes the next run
            asked.say(status, "Retry-After: 1")
        else:
            without_ranges(asked)

    folder = tmp_path / "content"
    folder.mkdir()
    names = ("a.bin", "b.bin")
    for name in names:
        (folder / name).write_bytes(DATA)
    async with (
        loopback_node(tmp_path / "a") as sharer,
        loopback_node(tmp_path / "b") as node,
        trio.open_nursery() as nursery,
    ):
        shared = await sharer.share(folder, piece_length=PIECE)
        envelope = shared.envelope
        await shared.stop()
        observed = await observe(node, nursery)
        with serving(DATA, answer) as server:
            options = _options(server, patience=8.0)
            async with node.fetch(envelope, into=tmp_path / "out", options=options) as transfer:
                with trio.fail_after(60):
                    path = await transfer.complete()
        await node.aclose()
    assert [(path / name).read_bytes() == DATA for name in names] == [True] * 2
    [told] = observed.of(swarm.SourceFailed)
    assert told.retry_in is not None, "the file is asked for again"
    assert [asked.start for asked in server.asked if asked.target.endswith("b.bin")] == [0, 0]


async def test_a_chunked_body_is_read(tmp_path: Path) -> None:
    def chunked(asked: Asked) -> None:
        body = DATA[asked.start : asked.stop]
        head = (
            f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {asked.start}-{asked.stop - 1}/{SIZE}\r\n"
        )
        asked.wire.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(body), 5000):
            chunk = body[at : at + 5000]
            asked.wire.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        asked.wire.sendall(b"0\r\n\r\n")

    await _fetched(tmp_path, chunked)


async def test_a_busy_server_is_left_alone_for_as_long_as_it_says(tmp_path: Path) -> None:
    busy: list[float] = []

    def answer(asked: Asked) -> None:
        if len(busy) < 2:
            busy.append(time.monotonic())
            asked.say("503 Service Unavailable", "Retry-After: 1")
        else:
            busy.append(time.monotonic())
            asked.part()

    _, events = await _fetched(tmp_path, answer)
    assert busy[1] - busy[0] >= 0.9
    assert busy[2] - busy[1] >= 0.9
    told = [event for event in events if isinstance(event, swarm.SourceFailed)]
    assert [(event.reason, event.retry_in) for event in told] == [("/content.bin: it is busy (503)", 1.0)] * 2


async def test_a_fault_of_one_connection_leaves_the_other_what_it_is_about_to_receive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else both would receive the same piece, and the memory of one be that of another piece meanwhile."""
    monkeypatch.setattr(origin_source, "RUN_BYTES", 8 * PIECE)
    monkeypatch.setattr(origin_body, "WINDOW_BYTES", 2 * PIECE)
    long_one, failed, again = threading.Event(), threading.Event(), threading.Event()
    given: list[range] = []

    def answer(asked: Asked) -> None:
        if long_one.is_set() and not failed.is_set():
            failed.set()
            asked.say("500 Internal Server Error")
            return
        if failed.is_set():
            again.set()
        given.append(range(asked.start, asked.stop))
        if long_one.is_set() or asked.stop - asked.start < 8 * PIECE:
            asked.part()
            return
        long_one.set()
        where = f"Content-Range: bytes {asked.start}-{asked.stop - 1}/{SIZE}"
        asked.say("206 Partial Content", where, length=asked.stop - asked.start)
        # The rest of it comes after the pause of the other connection, which may have asked again by then.
        asked.wire.sendall(DATA[asked.start : asked.start + PIECE])
        again.wait(8 * origin_source.FIRST_PAUSE)
        asked.wire.sendall(DATA[asked.start + PIECE : asked.stop])

    _, events = await _fetched(tmp_path, answer)
    assert sum(map(len, given)) == SIZE, "every byte was sent once"
    assert not [event for event in events if isinstance(event, swarm.PieceRefused | swarm.SourceBanned)]
    told = [event for event in events if isinstance(event, swarm.SourceFailed)]
    assert [event.reason for event in told] == ["/content.bin: it fails (500)"]


async def test_a_redirect_is_followed_and_the_file_asked_for_there(tmp_path: Path) -> None:
    def answer(asked: Asked) -> None:
        if asked.target == "/content.bin":
            asked.say("302 Found", "Location: /elsewhere?key=1")
        else:
            asked.part()

    server, _ = await _fetched(tmp_path, answer)
    assert {asked.target for asked in server.asked} == {"/content.bin", "/elsewhere?key=1"}
    assert sum(asked.target == "/content.bin" for asked in server.asked) <= 2


async def test_a_redirect_to_another_server_is_asked_of_that_one(tmp_path: Path) -> None:
    with serving(DATA, good) as other:

        def answer(asked: Asked) -> None:
            if asked.target == "/content.bin":
                asked.say("302 Found", f"Location: {other.url}moved.bin")
            else:
                asked.say("404 Not Found")

        server, _ = await _fetched(tmp_path, answer)
        assert {asked.target for asked in server.asked} == {"/content.bin"}
        assert {asked.target for asked in other.asked} == {"/moved.bin"}
        assert {asked.headers["host"] for asked in other.asked} == {f"127.0.0.1:{other.port}"}


async def test_a_file_that_changes_meanwhile_is_noticed_before_its_bytes_are(tmp_path: Path) -> None:
    async with loopback_node(tmp_path / "a") as sharer, loopback_node(tmp_path / "b") as node:
        shared, envelope = await _envelope(sharer, tmp_path)
        await shared.stop()

        def answer(asked: Asked) -> None:
            if "if-range" in asked.headers:
                assert asked.headers["if-range"] == '"one"'
                asked.say("200 OK", 'ETag: "two"', body=OLD)
            else:
                asked.part()

        with serving(DATA, answer) as server:
            options = _options(server, patience=2.0)
            async with node.fetch(envelope, into=tmp_path / "out", options=options) as transfer:
                with trio.fail_after(60), pytest.raises(swarm.Incomplete, match="has changed meanwhile"):
                    await transfer.complete()
                kept = transfer.now().pieces_done
            assert kept


async def test_a_server_that_dies_half_way_leaves_what_came_and_the_fetch_goes_on_with_another(
    tmp_path: Path,
) -> None:
    async with loopback_node(tmp_path / "a") as sharer, loopback_node(tmp_path / "b") as node:
        shared, envelope = await _envelope(sharer, tmp_path)
        await shared.stop()

        def dies(asked: Asked) -> bool | None:
            if asked.start >= 4 * PIECE or asked.stop > 12 * PIECE:
                asked.stop = min(asked.stop, 12 * PIECE)
                body = DATA[asked.start : asked.stop]
                where = f"Content-Range: bytes {asked.start}-{SIZE - 1}/{SIZE}"
                asked.say("206 Partial Content", where, body=body, length=SIZE - asked.start)
                server.close()
                return False
            return asked.part()

        with serving(DATA, dies) as server:
            options = _options(server, patience=2.0)
            async with node.fetch(envelope, into=tmp_path / "out", options=options) as transfer:
                with trio.fail_after(60), pytest.raises(swarm.Incomplete, match="what was fetched is kept"):
                    await transfer.complete()
                kept = transfer.now().pieces_done
        assert kept
        with serving(DATA, good) as healthy:
            async with node.fetch(envelope, into=tmp_path / "out", options=_options(healthy)) as transfer:
                with trio.fail_after(30):
                    path = await transfer.complete()
        assert path.read_bytes() == DATA
        sent = sum(asked.stop - asked.start for asked in healthy.asked)
        assert sent <= SIZE - (kept - 1) * PIECE


async def test_the_origin_fills_in_within_seconds_when_the_only_peer_stalls(tmp_path: Path) -> None:
    async with (
        loopback_node(tmp_path / "a", upload_limit=20_000) as sharer,
        loopback_node(tmp_path / "b") as node,
    ):
        shared, _ = await _envelope(sharer, tmp_path)
        with serving(DATA, good) as server:
            transfer = node.fetch(shared.link, into=tmp_path / "out", options=_options(server))
            async with transfer:
                began = trio.current_time()
                with trio.fail_after(60):
                    path = await transfer.complete()
        assert path.read_bytes() == DATA
        assert trio.current_time() - began < 60
        assert server.asked


@pytest.mark.parametrize("use", ["together", "fallback"])
async def test_the_origin_fills_in_when_the_peer_vanishes_half_way(tmp_path: Path, use: str) -> None:
    async with loopback_node(tmp_path / "b") as node:
        with serving(DATA, good) as server:
            async with loopback_node(tmp_path / "a", upload_limit=200_000) as sharer:
                shared, _ = await _envelope(sharer, tmp_path)
                options = _options(server, origin_use=use)
                transfer = node.fetch(shared.link, into=tmp_path / "out", options=options)
                await until(lambda: transfer.now().pieces_done >= 3, "the peer gives", 30)
            async with transfer:
                with trio.fail_after(30):
                    path = await transfer.complete()
            assert path.read_bytes() == DATA
            assert sum(asked.stop - asked.start for asked in server.asked if asked.ranged) < SIZE


async def test_an_origin_is_not_asked_for_what_a_good_peer_has_and_never_if_so_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine the session with the peer may take longer than an origin waits for one.
    monkeypatch.setattr(origins, "SLOW_START_SECONDS", 20.0)
    for use in ("together", "never"):
        async with loopback_node(tmp_path / "a") as sharer, loopback_node(tmp_path / f"b-{use}") as node:
            shared, _ = await _envelope(sharer, tmp_path)
            with serving(DATA, good) as server:
                options = _options(server, origin_use=use)
                async with node.fetch(shared.link, into=tmp_path / use, options=options) as transfer:
                    with trio.fail_after(30):
                        await transfer.complete()
            assert not [asked for asked in server.asked if asked.ranged]


async def test_private_addresses_can_be_refused(tmp_path: Path) -> None:
    async with loopback_node(tmp_path / "a") as sharer, loopback_node(tmp_path / "b") as node:
        shared, envelope = await _envelope(sharer, tmp_path)
        await shared.stop()
        with serving(DATA, good) as server:
            options = _options(server, patience=1.0, origin_public_only=True)
            async with node.fetch(envelope, into=tmp_path / "out", options=options) as transfer:
                with trio.fail_after(30), pytest.raises(swarm.NoPeerReachable, match="not a public one"):
                    await transfer.complete()
        assert not server.asked
