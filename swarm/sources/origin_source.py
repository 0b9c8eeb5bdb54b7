"""A web server that has the content (an origin): pieces are taken from it by ranges of its files.

A piece lies in one file, so a run of pieces is one range of one URL, and a wrong piece is the fault of
exactly that URL. Two workers, each with one connection, take runs from the desk; the body goes from the
socket into the memory of the pieces. What goes wrong is sorted by `swarm.protocol.http_range` into what the
file, the server or the answer is to blame for; each has its line in an event.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from swarm.bits import PieceSet
from swarm.content.manifest import Manifest
from swarm.errors import UsageError
from swarm.ids import SourceId
from swarm.lazy_dataclass import dataclass
from swarm.origin_url import OriginUrl
from swarm.ports import OriginDesk, RequestDesk
from swarm.protocol.http_range import Concerns, Fault, Moved, Part, Wish, judge, validator_of
from swarm.protocol.http_reader import HttpFault, ResponseHead, ResponseReader, request_bytes
from swarm.sources.http_connection import ConnectFault, ConnectionLost, HttpConnection, tls_context
from swarm.sources.origin_body import OriginFault, PieceWindow, ResponseBody

CONNECTIONS = 2
"""At one origin."""
RUN_BYTES = 16 << 20
"""Of one request."""
MAX_REDIRECTS = 5
IDLE_SECONDS = 4.0
"""A connection that is not used is closed before most servers close it."""
FAULTS = 3
"""Faults in a row after which an origin is left alone for longer and longer."""
FIRST_PAUSE, LONG_PAUSE, LONGEST_PAUSE = 0.25, 5.0, 60.0
HEAD_SECONDS = 30.0
"""A head takes no longer than this, however it drips."""
STREAM_SECONDS = 3.0
"""How long the rest of a whole file that nobody asked for yet is kept waiting."""
SMALL_BODY = 64 * 1024
"""A body of no use that is read to its end, so that the connection can be used again."""
AGENT = "swarm/0.1"


@dataclass(frozen=True, slots=True)
class OriginSettings:
    """What all origins of a transfer have in common; ``connections`` bounds them all together."""

    connections: trio.CapacityLimiter
    authorities: Path | None = None
    public_only: bool = False


class _Whole:
    """A worker reads a file of a server that ignores ranges; it goes on at piece ``next``."""

    def __init__(self, stop: int) -> None:
        self.next = stop
        self.run: range | None = None
        self.waiting = False
        """For ``run``, which begins at ``next``."""
        self.given = trio.Event()
        self.moved = trio.Event()

    def tell(self) -> None:
        """It waits for the next run, or has ended."""
        self.moved.set()
        self.moved = trio.Event()


class OriginSource:
    """A `swarm.ports.SharedSource`. ``others`` are the ids that are taken already."""

    def __init__(self, url: OriginUrl, settings: OriginSettings, others: tuple[SourceId, ...] = ()) -> None:
        self._url = url
        self._settings = settings
        name, number = f"origin {url}", 2
        while name in others:
            name, number = f"origin {url} ({number})", number + 1
        self.id = SourceId(name)
        """``origin`` and the URL, without its secrets."""
        self._tls: ssl.SSLContext | None = None
        self._usable: PieceSet | None = None
        self._desk: OriginDesk | None = None
        self._dropped: set[int] = set()
        self._validators: dict[int, str] = {}
        self._places: dict[int, OriginUrl] = {}
        self._faults = 0
        self._resting = 0
        self._ignores_ranges = False
        self._wholes: dict[int, _Whole] = {}
        self._used_up = trio.Event()

    @property
    def description(self) -> str:
        """The URL, without its secrets."""
        return str(self._url)

    # --- For the transfer ---------------------------------------------------------------------------

    async def deliver(self, desk: RequestDesk) -> None:
        """Serve requests until cancelled, or until no file of the origin is what it should be."""
        if not isinstance(desk, OriginDesk):
            raise TypeError("an origin needs an OriginDesk")
        self._desk = desk
        manifest = desk.manifest
        if manifest.folder:
            self._url.require_folder()
        if self._usable is None:
            self._usable = PieceSet.all(manifest.piece_count)
        self._resting, self._wholes, self._used_up = 0, {}, trio.Event()
        if not self._usable:
            # As it was found out before a pause.
            self._used_up.set()
        if self._url.scheme == "https" and self._tls is None:
            self._tls = await trio.to_thread.run_sync(tls_context, self._settings.authorities)
        desk.offer(self._usable)
        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS):
                nursery.start_soon(_Worker(self, desk, self._settings).run)
            await self._used_up.wait()
            nursery.cancel_scope.cancel()

    def piece_refused(self, piece: int) -> None:
        """The piece did not match its hash: its file is not taken from here any more."""
        if self._desk is not None:
            self.drop_file(self._desk.manifest.layout.span(piece).file)

    # --- For its workers ----------------------------------------------------------------------------

    def url_of(self, manifest: Manifest, file: int) -> OriginUrl:
        """Where a file of the manifest lies."""
        parts = manifest.files[file].path if manifest.folder else ()
        return self._url.below((manifest.name, *parts))

    def place_of(self, manifest: Manifest, file: int) -> OriginUrl:
        """Where the last request for the file was led to, or else where it lies."""
        return self._places.get(file) or self.url_of(manifest, file)

    def found(self, file: int, place: OriginUrl, head: ResponseHead) -> None:
        """The file is at ``place``; its validator is that of the response."""
        if len(self._places) > 1024:
            self._places.clear()
        self._places[file] = place
        if len(self._validators) > 1024:
            self._validators.clear()
        self._validators[file] = validator_of(head)

    def forget_place(self, file: int) -> None:
        """What the file was last led to is no longer good."""
        self._places.pop(file, None)

    def validator(self, file: int) -> str:
        """What earlier answers about the file had."""
        return self._validators.get(file, "")

    def tls_for(self, url: OriginUrl) -> ssl.SSLContext | None:
        """How the server of the URL is checked; None without TLS."""
        if url.scheme != "https":
            return None
        if self._tls is None:
            self._tls = tls_context(self._settings.authorities)
        return self._tls

    def drop_file(self, file: int) -> None:
        """Take nothing of the file from here any more."""
        if self._desk is None or self._usable is None:
            return
        self._dropped.add(file)
        own = self._desk.manifest.layout.pieces_of(file)
        self._usable -= PieceSet.between(self._usable.size, own.start, own.stop)
        self._desk.offer(self._usable)
        if not self._usable:
            self._used_up.set()

    def is_dropped(self, file: int) -> bool:
        """Whether the file is not taken from here any more."""
        return file in self._dropped

    @property
    def is_resting(self) -> bool:
        """Whether the origin is left alone after a fault; what is given back meanwhile is asked for later."""
        return self._resting > 0

    def delivered(self) -> None:
        """A piece came whole."""
        self._faults = 0

    async def deal_with(self, fault: Fault, file: int, desk: OriginDesk, taken: _Taken) -> None:
        """Tell what went wrong, give back what was ``taken``, and leave the origin alone if need be."""
        where = self.url_of(desk.manifest, file)
        said = fault.reason if where == self._url else f"{where.path}: {fault.reason}"
        if fault.concerns is Concerns.FILE:
            # Both workers may find the same out.
            if not self.is_dropped(file):
                desk.trouble(said, None)
                self.drop_file(file)
            taken.give_back(desk)
            return
        self._faults += 1
        pause = fault.retry_after
        if fault.concerns is Concerns.ANSWER:
            late = self._faults - FAULTS
            pause = FIRST_PAUSE if late < 0 else min(LONG_PAUSE * 2.0 ** min(late, 10), LONGEST_PAUSE)
        desk.trouble(said, pause)
        self._resting += 1
        desk.pause()
        taken.give_back(desk)
        try:
            await trio.sleep(pause)
        finally:
            self._resting -= 1
            if not self._resting:
                desk.unpause()

    # --- Servers that ignore ranges -----------------------------------------------------------------

    @contextmanager
    def reading(self, file: int, stop: int) -> Iterator[_Whole]:
        """A worker asks for a run of the file that ends before piece ``stop``, and reads it.

        If the server is known to ignore ranges, other runs of the file wait for that worker.
        """
        whole = _Whole(stop)
        if self._ignores_ranges:
            self._wholes[file] = whole
        try:
            yield whole
        finally:
            self._forget_whole(file, whole)

    def answered(self, file: int, whole: _Whole, *, ignores_ranges: bool) -> None:
        """The server sends the whole file, or only what was asked for."""
        self._ignores_ranges = ignores_ranges
        if ignores_ranges:
            self._wholes[file] = whole
        else:
            self._forget_whole(file, whole)

    def _forget_whole(self, file: int, whole: _Whole) -> None:
        if self._wholes.get(file) is whole:
            del self._wholes[file]
        whole.tell()

    def is_read_whole(self, file: int) -> bool:
        """Whether a worker reads the file from a server that ignores ranges."""
        return file in self._wholes

    async def passes_on(self, run: range, file: int) -> bool:
        """Whether another worker, who reads the whole file, takes the run: waits until it is so far, or ends.

        A request of its own would be answered from the beginning of the file.
        """
        while (whole := self._wholes.get(file)) is not None and run.start >= whole.next:
            if whole.waiting:
                if run.start != whole.next:
                    return False  # what lies between is with nobody
                whole.run, whole.next, whole.waiting = run, run.stop, False
                whole.given.set()
                return True
            await whole.moved.wait()
        return False

    @staticmethod
    async def next_of_whole(whole: _Whole) -> range | None:
        """The run that goes on where the last one ended, in a file that the server sends whole."""
        whole.run, whole.waiting, whole.given = None, True, trio.Event()
        whole.tell()
        with trio.move_on_after(STREAM_SECONDS):
            await whole.given.wait()
        whole.waiting = False
        return whole.run


class _Worker:
    """One connection at a time, and one run at a time."""

    def __init__(self, origin: OriginSource, desk: OriginDesk, settings: OriginSettings) -> None:
        self._origin = origin
        self._desk = desk
        self._settings = settings
        self._connection: HttpConnection | None = None
        self._token: object = None

    async def run(self) -> None:
        """Serve runs until cancelled."""
        try:
            while True:
                run = await self._next_run()
                file = self._desk.manifest.layout.span(run.start).file
                if self._origin.is_read_whole(file):
                    self._close()  # while it waits another may need the place
                    if await self._origin.passes_on(run, file):
                        continue
                # While it waited, the other may have failed: the file is asked for from its beginning later.
                if self._origin.is_dropped(file) or self._origin.is_resting:
                    _Taken(run).give_back(self._desk)
                else:
                    await self._serve(run, file)
        finally:
            self._close()

    async def _next_run(self) -> range:
        if self._connection is not None:
            with trio.move_on_after(IDLE_SECONDS):
                if self._settings.connections.statistics().tasks_waiting == 0:
                    return await self._desk.next_run(RUN_BYTES)
            self._close()
        return await self._desk.next_run(RUN_BYTES)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._settings.connections.release_on_behalf_of(self._token)

    async def _serve(self, run: range, file: int) -> None:
        fault: Fault | None = None
        taken = _Taken(run)
        try:
            with self._origin.reading(file, run.stop) as whole:
                await self._fetch(taken, file, whole)
        except OriginFault as error:
            fault = error.fault
        except (ConnectFault, ConnectionLost, HttpFault) as error:
            fault = Fault(Concerns.ANSWER, str(error))
        finally:
            if not taken.sound:
                self._close()
            if fault is None:
                taken.give_back(self._desk)
        if fault is not None:
            self._origin.forget_place(file)
            await self._origin.deal_with(fault, file, self._desk, taken)

    # --- One request --------------------------------------------------------------------------------

    async def _fetch(self, taken: _Taken, file: int, whole: _Whole) -> None:
        layout = self._desk.manifest.layout
        first, last = layout.span(taken.run.start), layout.span(taken.run.stop - 1)
        wish = Wish(
            first.offset, last.offset + last.length, layout.file_length(file), self._origin.validator(file)
        )
        reader, part, place = await self._ask(wish, file)
        head = reader.head
        if head is None:
            raise HttpFault("it sends no response")
        self._origin.found(file, place, head)
        self._origin.answered(file, whole, ignores_ranges=part.whole)
        body = ResponseBody(self._connected(place), reader)
        wanted = await self._receive(taken, body, file)
        while wanted and part.whole and not reader.ended:
            run = await self._origin.next_of_whole(whole)
            if run is None:
                return  # the rest of the file is cut off
            taken.go_on(run)
            wanted = await self._receive(taken, body, file)
        taken.sound = reader.ended and head.keep_alive and not reader.rest

    def _connected(self, url: OriginUrl) -> HttpConnection:
        if self._connection is None or not self._connection.serves(url):
            raise ConnectionLost("the connection ended")
        return self._connection

    async def _ask(self, wish: Wish, file: int) -> tuple[ResponseReader, Part, OriginUrl]:
        place = self._origin.place_of(self._desk.manifest, file)
        for _ in range(MAX_REDIRECTS + 1):
            reader = await self._response(place, wish)
            if reader.head is None:
                raise HttpFault("it sends no response")
            verdict = judge(reader.head, wish)
            if isinstance(verdict, Part):
                return reader, verdict, place
            await self._finish(reader)
            if isinstance(verdict, Fault):
                raise OriginFault(verdict)
            place = _moved(place, verdict)
        raise OriginFault(Fault(Concerns.FILE, f"it redirects more than {MAX_REDIRECTS} times"))

    async def _finish(self, reader: ResponseReader) -> None:
        """Make the connection good for another request, or close it."""
        head, connection = reader.head, self._connection
        if head is None or connection is None or not head.keep_alive or (reader.left or 0) > SMALL_BODY:
            self._close()
            return
        body, seen = ResponseBody(connection, reader), 0
        scratch = memoryview(bytearray(4096))
        try:
            while not reader.ended and seen <= SMALL_BODY:
                seen += await body.receive([scratch])
        except (ConnectionLost, HttpFault, OriginFault):
            self._close()
            return
        if not reader.ended or reader.rest:
            self._close()

    async def _response(self, place: OriginUrl, wish: Wish) -> ResponseReader:
        """Send the request and read the head; once more if a kept connection turns out to be closed."""
        while True:
            connection = await self._open(place)
            kept = connection.used
            try:
                with trio.fail_after(HEAD_SECONDS):
                    return await _head(connection, place, wish)
            except ConnectionLost:
                self._close()
                if not kept:
                    raise
            except HttpFault as error:
                self._close()
                if not (kept and "ended before" in str(error)):
                    raise
            except trio.TooSlowError:
                self._close()
                raise ConnectionLost(f"it sent no response within {HEAD_SECONDS:g} s") from None

    async def _open(self, place: OriginUrl) -> HttpConnection:
        if self._connection is not None and self._connection.serves(place):
            return self._connection
        self._close()
        token = self._token = object()
        await self._settings.connections.acquire_on_behalf_of(token)
        try:
            tls = self._origin.tls_for(place)
            connection = await HttpConnection.open(place, tls, public_only=self._settings.public_only)
        except BaseException:
            self._settings.connections.release_on_behalf_of(token)
            raise
        self._connection = connection
        return connection

    # --- The body -----------------------------------------------------------------------------------

    async def _receive(self, taken: _Taken, body: ResponseBody, file: int) -> bool:
        """Receive the pieces of the run; one that is no longer wanted is read past.

        Says whether all of it was read: nothing is read past at the end, nor once the file is not wanted.
        """
        window = PieceWindow(self._desk, body, taken.left())
        while window.waiting or not window.empty:
            if self._origin.is_dropped(file):
                return False
            if window.empty and (piece := await window.begin()) is not None:
                taken.done(piece)
                if not any(map(self._desk.wants, window.waiting)):
                    return False
            window.begin_more()
            try:
                await window.fill()
            finally:
                # Also those that came before a fault.
                if whole := window.take_whole():
                    self._desk.deliver(whole)
                    taken.done(*whole)
                    self._origin.delivered()
        return True


class _Taken:
    """The pieces of a run that were taken from the desk, and which are not answered yet."""

    def __init__(self, run: range) -> None:
        self.run = run
        self._left = dict.fromkeys(run)
        self.sound = False
        """Whether the connection can be used for another request."""

    def left(self) -> tuple[int, ...]:
        """The pieces that are not answered."""
        return tuple(self._left)

    def done(self, *pieces: int) -> None:
        """The pieces are answered."""
        for piece in pieces:
            self._left.pop(piece, None)

    def give_back(self, desk: OriginDesk) -> None:
        """Answer what is left: it does not come from here now."""
        for piece in self.left():
            self.done(piece)
            desk.abandon(piece)

    def go_on(self, run: range) -> None:
        """Another run follows in the same body."""
        self.run = run
        self._left.update(dict.fromkeys(run))


async def _head(connection: HttpConnection, place: OriginUrl, wish: Wish) -> ResponseReader:
    await connection.send(request_bytes(place.target, request_headers(place, wish)))
    reader = ResponseReader()
    while reader.head is None:
        reader.feed(await connection.receive())
    connection.used = True
    return reader


def request_headers(place: OriginUrl, wish: Wish | None) -> list[tuple[str, str]]:
    """The headers of a request for a part of a file, or for a whole one."""
    headers = [
        ("Host", place.authority),
        ("User-Agent", AGENT),
        ("Accept", "*/*"),
        ("Accept-Encoding", "identity"),
    ]
    if wish is not None:
        headers.append(("Range", wish.header))
        if wish.validator:
            headers.append(("If-Range", wish.validator))
    if (authorization := place.authorization) is not None:
        headers.append(("Authorization", authorization))
    return headers


def _moved(place: OriginUrl, verdict: Moved) -> OriginUrl:
    try:
        return place.moved(verdict.location)
    except UsageError as error:
        raise OriginFault(Fault(Concerns.FILE, str(error))) from None
