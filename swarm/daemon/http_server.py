"""Serves the API on sockets: bounded connections, deadlines for whoever is slow, answers in order."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Final

import h11
import trio

from swarm.content.paths import printable
from swarm.daemon.api import Api, OpenedFile, failure
from swarm.daemon.file_ranges import PATH
from swarm.daemon.http_messages import CONTINUE, Answer, BadRequest, HttpConversation, HttpRequest
from swarm.errors import SwarmError

logger = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 64
"""Of one listening socket; another one is told so and closed."""
REQUEST_SECONDS: Final = 10.0
"""From the first byte of a request to its last; from the beginning of a connection, too."""
UPLOAD_SECONDS: Final = 60.0
"""The same for the body, once the head has been accepted: a ``.swarm`` file over a slow tunnel."""
IDLE_SECONDS: Final = 75.0
"""Between two requests of one connection."""
WRITE_SECONDS: Final = 20.0
"""For one write: whoever reads no more is dropped."""
READER_SECONDS: Final = 600.0
"""The same for a file: a player that is paused reads nothing."""
WRITE_BYTES: Final = 256 * 1024
HEARTBEAT_SECONDS: Final = 15.0
"""A stream of events on which nothing happens says so after this time."""
BATCH_SECONDS: Final = 0.1
"""Events are sent together for so long."""
READ_BYTES: Final = 64 * 1024
EVENTS_TYPE: Final = "text/event-stream"

Check = Callable[[HttpRequest], None]


class ApiServer:
    """One listening socket. ``check`` raises `BadRequest` for what is not allowed there."""

    def __init__(self, api: Api, check: Check) -> None:
        self._api = api
        self._check = check
        self._connections = 0

    async def serve(self, listener: trio.SocketListener) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            await trio.serve_listeners(self._accepted, [listener], handler_nursery=nursery)

    async def _accepted(self, stream: trio.SocketStream) -> None:
        self._connections += 1
        try:
            async with stream:
                served = _Served(stream, self._api, self._check)
                await served.run(full=self._connections > MAX_CONNECTIONS)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            # A client that goes away ends its own connection and nothing else. Files and events are sent by
            # several tasks, so this may come in a group.
            pass
        except* h11.LocalProtocolError:
            logger.exception("an answer of the API was out of order")
        finally:
            self._connections -= 1


class _Served:
    """One connection."""

    def __init__(self, stream: trio.SocketStream, api: Api, check: Check) -> None:
        self._stream = stream
        self._api = api
        self._check = check
        self._http = HttpConversation()
        self._overrun = False

    async def run(self, *, full: bool) -> None:
        """Answer requests until one side has had enough."""
        if full:
            await self._refuse(BadRequest(503, f"{MAX_CONNECTIONS} connections are open already"))
            return
        seconds = REQUEST_SECONDS
        while True:
            try:
                request = await self._read(seconds)
                self._check(request)
            except BadRequest as error:
                await self._refuse(error)
                return
            if request.method == "GET" and request.path == "/v1/events":
                await self._events(request)
                return
            if (file := PATH.fullmatch(request.path)) is not None and request.method in {"GET", "HEAD"}:
                if not await self._file(request, file[1], int(file[2])):
                    return
                self._http.begin_next()
                seconds = IDLE_SECONDS
                continue
            await self._answer(request)
            if not self._http.goes_on:
                return
            self._http.begin_next()
            seconds = IDLE_SECONDS

    async def _read(self, seconds: float) -> HttpRequest:
        """Read one whole request; ``seconds`` may pass before its first byte."""
        request = self._http.next_request()
        begun = trio.current_time() if self._http.is_reading else None
        deadline = trio.current_time() + (seconds if begun is None else REQUEST_SECONDS)
        while request is None:
            if self._http.has_head:
                # Whoever may not ask is not let send a body first.
                self._check(self._http.head())
                if begun is not None:
                    deadline = begun + UPLOAD_SECONDS
                if self._http.wants_continue:
                    await self._write(CONTINUE)
            data = None
            with trio.move_on_at(deadline):
                data = await self._stream.receive_some(READ_BYTES)
            if data is None:
                if begun is None:
                    raise EOFError
                raise BadRequest(408, "the request did not come in time")
            self._http.receive(bytes(data))
            request = self._http.next_request()
            if begun is None:
                begun = trio.current_time()
                deadline = begun + REQUEST_SECONDS
        return request

    async def _answer(self, request: HttpRequest) -> None:
        try:
            answer = await self._api.answer(request)
        except Exception:
            # The one guard of a connection: a fault in an answer must not end the daemon.
            logger.exception("the API failed at %s %s", request.method, printable(request.path))
            answer = failure(500, "the daemon has a fault here: see its log", 1)
        await self._write(self._http.answer(answer))

    async def _refuse(self, error: BadRequest) -> None:
        answer = failure(error.status, str(error), 2)
        await self._write(self._http.answer(answer, last=True))
        # Closing at once with bytes unread would reset the connection before the answer is read.
        await self._stream.send_eof()
        with trio.move_on_after(1.0):
            left = 1 << 20
            while left > 0 and (data := await self._stream.receive_some(READ_BYTES)):
                left -= len(data)

    async def _write(self, data: bytes, seconds: float = WRITE_SECONDS) -> None:
        with trio.move_on_after(seconds) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            raise EOFError

    # --- Files --------------------------------------------------------------------------------------

    async def _file(self, request: HttpRequest, name: str, number: int) -> bool:
        """Send bytes of a file as they are verified; says whether another request may follow."""
        opened = await self._api.open_file(request, name, number)
        if isinstance(opened, Answer):
            await self._write(self._http.answer(opened))
            return self._http.goes_on
        length = opened.bytes.stop - opened.bytes.start
        await self._write(self._http.begin_body(opened.status, opened.headers, length))
        if request.method != "HEAD":
            gone = await self._send_file(opened)
            if gone:
                return False
        await self._write(self._http.end())
        return self._http.goes_on and not self._overrun

    async def _send_file(self, opened: OpenedFile) -> bool:
        """Send the bytes; says whether they ended before they should, so that the connection has to."""
        sent = False
        async with trio.open_nursery() as nursery:
            # While it waits for a piece nothing is written: whether the reader has gone is noticed here.
            nursery.start_soon(self._keep_requests, nursery.cancel_scope)
            data = opened.transfer.read(opened.file, opened.bytes.start, opened.bytes.stop)
            try:
                async for part in data:
                    for start in range(0, len(part), WRITE_BYTES):
                        await self._write(
                            self._http.more(bytes(part[start : start + WRITE_BYTES])), READER_SECONDS
                        )
                sent = True
            except SwarmError as error:
                logger.info("a file is no longer sent: %s", error)
            finally:
                with trio.CancelScope(shield=True):
                    await data.aclose()
            nursery.cancel_scope.cancel()
        return not sent

    async def _keep_requests(self, scope: trio.CancelScope) -> None:
        """Keep what comes meanwhile for `_read`; cancel ``scope`` when the client has gone.

        Who sends more than is kept gets no answer to it: the connection ends with the file.
        """
        kept = 0
        while data := await self._stream.receive_some(READ_BYTES):
            # No checkpoint in between: nothing is lost when the file is sent meanwhile.
            if kept < READ_BYTES:
                self._http.receive(bytes(data))
            else:
                self._overrun = True
            kept += len(data)
        scope.cancel()

    # --- Events -------------------------------------------------------------------------------------

    async def _events(self, request: HttpRequest) -> None:
        ring = self._api.keeper.ring
        text = request.headers.get("last-event-id") or request.query.get("since") or ""
        known = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1
        if known == 0:
            known = ring.first - 1
        await self._write(self._http.begin_stream(EVENTS_TYPE))
        async with trio.open_nursery() as nursery:
            # Nothing more is to come from the client: its end is noticed here.
            nursery.start_soon(self._until_gone, nursery.cancel_scope)
            while True:
                if not ring.has_all_since(known):
                    known = ring.last
                    await self._send("snapshot", known, json.dumps(self._api.delta(None)))
                lines = None
                with trio.move_on_after(HEARTBEAT_SECONDS):
                    lines = await ring.since(known)
                if lines is None:
                    await self._write(self._http.more(b": still here\n\n"))
                    continue
                if ring.has_all_since(known):
                    await self._write(
                        self._http.more("".join(f"id: {n}\ndata: {line}\n\n" for n, line in lines).encode())
                    )
                    known = lines[-1][0]
                    await trio.sleep(BATCH_SECONDS)

    async def _send(self, name: str, number: int, data: str) -> None:
        await self._write(self._http.more(f"event: {name}\nid: {number}\ndata: {data}\n\n".encode()))

    async def _until_gone(self, scope: trio.CancelScope) -> None:
        while await self._stream.receive_some(READ_BYTES):
            pass
        scope.cancel()
