"""Reads one HTTP/1.1 response after the other from the bytes of a connection. Pure.

h11 parses the heads, and bodies that are chunked. The body of a known length goes round it: `ResponseReader`
says how many bytes are left, and whoever owns the socket receives them straight into the memory where they
are wanted. Source: RFC 9110 and RFC 9112.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import h11

from swarm.lazy_dataclass import dataclass

MAX_HEAD_BYTES = 16 * 1024
"""Of one head; also of the trailers of a chunked body."""
MAX_HEADERS = 100
MAX_INTERIM = 4
"""Heads with a status of 1xx before the real one."""
MAX_LENGTH = 1 << 62


class HttpFault(Exception):
    """What a server sends is not a response that can be used; the message is one short line."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """``headers`` have lower-case names; of one that is repeated the values are joined by commas.

    ``length`` is that of the body in bytes, None if it is chunked or goes on to the end of the connection.
    """

    status: int
    headers: Mapping[str, str]
    length: int | None
    chunked: bool
    keep_alive: bool

    def get(self, name: str) -> str:
        """The value of a header, empty if it is not there."""
        return self.headers.get(name, "")


class ResponseReader:
    """Reads one response; give `feed` what the socket gives, until `head` is there.

    Then `take` hands out the body. ``bodiless``: the request was a HEAD.
    """

    def __init__(self, *, bodiless: bool = False) -> None:
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        request = h11.Request(method="HEAD" if bodiless else "GET", target="/", headers=[("Host", "x")])
        self._parser.send(request)
        self._parser.send(h11.EndOfMessage())
        self._interim = 0
        self._fed = 0
        self._closed = False
        self._ready = memoryview(b"")
        self.head: ResponseHead | None = None
        self.ended = False
        """Whether all of the body was handed out."""
        self.left: int | None = None
        """Bytes of the body that were not handed out yet, if that is known."""

    @property
    def direct(self) -> bool:
        """Whether the next bytes of the socket are the next ones of the body."""
        return self.head is not None and self.left is not None and not self._ready and not self.ended

    @property
    def rest(self) -> bytes:
        """Bytes behind the response; there are none unless the server sends what nobody asked for."""
        return bytes(self._ready) if self.ended else b""

    def feed(self, data: bytes) -> None:
        """Take bytes of the socket; empty when the server has closed the connection. Raises `HttpFault`.

        Only while there is no `head`, and later while `take` has nothing and the body is not `direct`.
        """
        if not data:
            self._closed = True
        if self.head is not None and self.left is not None:
            self._feed_known(data)
            return
        try:
            self._parser.receive_data(data)
            if self.head is None:
                self._read_head(len(data))
            elif not self._ready:
                self._read_chunks()
        except h11.RemoteProtocolError as error:
            raise HttpFault(self._reason(error)) from None

    def _feed_known(self, data: bytes) -> None:
        if not data and self.left:
            raise HttpFault("the connection ended within the body")
        self._ready = memoryview(bytes(self._ready) + data)

    def take(self, into: memoryview) -> int:
        """Move what has come of the body into ``into``; returns how many bytes. Raises `HttpFault`."""
        if self.head is None:
            return 0
        if self.left is None and not self._ready and not self.ended:
            try:
                self._read_chunks()
            except h11.RemoteProtocolError as error:
                raise HttpFault(self._reason(error)) from None
        size = min(len(self._ready), len(into))
        if self.left is not None:
            size = min(size, self.left)
        if size:
            into[:size] = self._ready[:size]
            self._ready = self._ready[size:]
            self.arrived(size)
        return size

    def arrived(self, size: int) -> None:
        """``size`` bytes of the body were taken, perhaps straight from the socket."""
        if self.left is not None:
            self.left -= size
            self.ended = self.left == 0

    def _read_head(self, size: int) -> None:
        self._fed += size
        while True:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                if self._fed > MAX_HEAD_BYTES * (self._interim + 1):
                    raise HttpFault("the head of the response is too long")
                return
            if isinstance(event, h11.InformationalResponse):
                self._interim += 1
                if event.status_code == 101 or self._interim > MAX_INTERIM:
                    raise HttpFault("it sends no response")
                continue
            if not isinstance(event, h11.Response):
                raise HttpFault("the connection ended before the response")
            self.head = self._make_head(event)
            self._begin_body()
            return

    def _make_head(self, response: h11.Response) -> ResponseHead:
        if len(response.headers) > MAX_HEADERS:
            raise HttpFault(f"the response has more than {MAX_HEADERS} headers")
        headers: dict[str, str] = {}
        for raw_name, raw_value in response.headers:
            name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        chunked = "transfer-encoding" in headers
        length = None
        if self._parser.our_state is not h11.DONE and self._parser.our_state is not h11.MUST_CLOSE:
            raise HttpFault("it sends no response")
        if response.status_code in (204, 304) or self._is_bodiless:
            length, chunked = 0, False
        elif not chunked and "content-length" in headers:
            length = _length(headers["content-length"])
        return ResponseHead(
            response.status_code, headers, length, chunked, self._parser.our_state is h11.DONE
        )

    @property
    def _is_bodiless(self) -> bool:
        return self._parser.their_state is h11.DONE

    def _begin_body(self) -> None:
        head = self.head
        if head is not None and head.length is not None:
            self.left = head.length
            # A copy: what is behind the head is taken from the parser, which sees no more of this response.
            self._ready = memoryview(bytes(self._parser.trailing_data[0]))
            self.ended = not self.left

    def _read_chunks(self) -> None:
        while not self._ready and not self.ended:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                return
            if isinstance(event, h11.Data):
                self._ready = memoryview(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self.ended = True
            else:
                raise HttpFault("the connection ended within the body")

    def _reason(self, error: h11.RemoteProtocolError) -> str:
        """A line that repeats nothing of what the server sent."""
        if self._closed:
            return f"the connection ended {'within the body' if self.head else 'before the response'}"
        if error.error_status_hint == 431:
            return "the head of the response is too long"
        return "it does not speak HTTP/1.1 correctly"


def _length(text: str) -> int:
    values = {each.strip() for each in text.split(",")}
    value = values.pop()
    if values or not (value.isascii() and value.isdigit()) or len(value) > 19 or int(value) > MAX_LENGTH:
        raise HttpFault("the length of the response is malformed")
    return int(value)


def request_bytes(target: str, headers: Sequence[tuple[str, str]], *, method: str = "GET") -> bytes:
    """The bytes of a request without a body. ``target`` and values are URLs' and servers' own text.

    Raises HttpFault if one of them could be taken for more than it is.
    """
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if any("\r" in line or "\n" in line or "\0" in line for line in lines):
        raise HttpFault("a header that must not be sent")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
