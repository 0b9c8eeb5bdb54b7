"""HTTP/1.1 as the daemon speaks it. Pure: bytes in, requests out; answers in, bytes out.

h11 knows the protocol; here are the limits. Whatever breaks one of them, or the protocol, is a `BadRequest`
with the status to answer; nothing that is kept of a request is longer than they say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

from swarm.lazy_dataclass import dataclass, field

MAX_HEAD_BYTES: Final = 16 * 1024
"""Of the request line and all headers."""
MAX_BODY_BYTES: Final = 128 * 1024
"""Of JSON: a link has up to 64 KiB."""
MAX_MANIFEST_BYTES: Final = 8 * 1024 * 1024
"""Of a ``.swarm`` file; a longer one is named by its path."""
MANIFEST_TYPE: Final = "application/vnd.swarm.manifest"
MAX_TARGET_CHARS: Final = 4096
MAX_QUERY_FIELDS: Final = 32
MAX_JSON_DEPTH: Final = 8
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

REASONS: Final = {
    200: "OK", 201: "Created", 204: "No Content", 206: "Partial Content", 400: "Bad Request",
    401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 409: "Conflict", 413: "Content Too Large", 415: "Unsupported Media Type",
    416: "Range Not Satisfiable", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
    503: "Service Unavailable",
}  # fmt: skip


class BadRequest(Exception):
    """A request that is answered with ``status`` and one line; the connection ends after it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request: the path without escapes, the query, the headers in lower case, the whole body."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> dict[str, Any]:
        """The object in the body; raises `BadRequest` for anything else."""
        if self.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise BadRequest(415, "the body has to be JSON, and its Content-Type application/json")
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(400, "the body is not JSON") from error
        if not isinstance(found, dict) or _depth(found) > MAX_JSON_DEPTH:
            raise BadRequest(400, "the body is not a plain JSON object")
        return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: a whole body. A stream of events is begun with `HttpConversation.begin_stream`."""

    status: int
    body: bytes = b""
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = field(default=())


def json_answer(status: int, value: object) -> Answer:
    """An answer in JSON, in ASCII: names may hold what no encoding has."""
    return Answer(status, json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii"))


class HttpConversation:
    """One connection, as the server sees it."""

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._head: h11.Request | None = None
        self._head_only = False
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._limit = 0

    @property
    def is_reading(self) -> bool:
        """Whether part of a request has come, so that the rest is due."""
        return self._head is not None or bool(self._connection.trailing_data[0])

    @property
    def has_head(self) -> bool:
        """Whether the head of a request is here and its body is not."""
        return self._head is not None

    def head(self) -> HttpRequest:
        """The request so far, without its body."""
        return self._made(b"")

    @property
    def goes_on(self) -> bool:
        """Whether another request may follow after the answer."""
        return self._connection.our_state is h11.DONE and self._connection.their_state is h11.DONE

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for `CONTINUE` before it sends its body."""
        return self._connection.they_are_waiting_for_100_continue

    def receive(self, data: bytes) -> None:
        """Take bytes as they come; none at all for the end."""
        try:
            self._connection.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise _bad(error) from error

    def next_request(self) -> HttpRequest | None:
        """A request once it is whole, None until then; raises `BadRequest`, EOFError when no more comes."""
        try:
            return self._next()
        except h11.RemoteProtocolError as error:
            raise _bad(error) from error

    def _next(self) -> HttpRequest | None:
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                return None
            match event:
                case h11.Request():
                    self._begin(event)
                case h11.Data():
                    if len(self._body) + len(event.data) > self._limit:
                        raise BadRequest(413, f"a body has at most {self._limit} bytes")
                    self._body += event.data
                case h11.EndOfMessage():
                    return self._whole()
                case _:
                    raise EOFError

    def _begin(self, head: h11.Request) -> None:
        self._head_only = head.method == b"HEAD"
        headers: dict[str, str] = {}
        if len(head.target) + sum(len(name) + len(value) for name, value in head.headers) > MAX_HEAD_BYTES:
            # h11 measures what has not come whole yet.
            raise _too_long()
        for raw, value in head.headers:
            name = raw.decode("ascii")
            if name in headers and name in {"host", "origin", "authorization", "content-type", "range"}:
                raise BadRequest(400, f"there are several headers {name}")
            headers[name] = value.decode("latin-1")
        self._head, self._headers = head, headers
        self._body = bytearray()
        self._limit = MAX_BODY_BYTES
        if headers.get("content-type", "").lower() == MANIFEST_TYPE:
            self._limit = MAX_MANIFEST_BYTES
        length = headers.get("content-length", "0")
        if int(length) > self._limit:
            raise BadRequest(413, f"a body has at most {self._limit} bytes")

    def _whole(self) -> HttpRequest:
        body, self._body = bytes(self._body), bytearray()
        request = self._made(body)
        self._head = None
        return request

    def _made(self, body: bytes) -> HttpRequest:
        head = self._head
        if head is None:
            raise BadRequest(400, "a request has no head")
        target = head.target.decode("ascii", "replace")
        if len(target) > MAX_TARGET_CHARS or not target.startswith("/"):
            raise BadRequest(400, "the target of a request is a path of at most 4096 characters")
        try:
            parts = urlsplit(target)
            query = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS))
        except ValueError as error:
            raise BadRequest(400, "the query cannot be read") from error
        return HttpRequest(head.method.decode("ascii"), unquote(parts.path), query, self._headers, body)

    def begin_next(self) -> None:
        """The answer is sent, and `goes_on`: read the next request."""
        self._connection.start_next_cycle()
        self._head_only = False

    def answer(self, answer: Answer, *, last: bool = False) -> bytes:
        """The bytes of an answer, to HEAD without its body; ``last``: the connection ends with it."""
        headers = [
            ("content-type", answer.kind),
            ("content-length", str(len(answer.body))),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            *answer.headers,
        ]
        if last:
            headers.append(("connection", "close"))
        sent = self._send(h11.Response(status_code=answer.status, reason=_reason(answer), headers=headers))
        if answer.body and not self._head_only:
            sent += self._send(h11.Data(data=answer.body))
        return sent + self._send(h11.EndOfMessage())

    def begin_body(self, status: int, headers: Sequence[tuple[str, str]], length: int) -> bytes:
        """The head of an answer of so many bytes, which `more` sends and `end` ends."""
        fields = [("content-length", str(length)), ("x-content-type-options", "nosniff"), *headers]
        answer = Answer(status)
        return self._send(h11.Response(status_code=status, reason=_reason(answer), headers=fields))

    def end(self) -> bytes:
        """The end of an answer that was sent in parts."""
        return self._send(h11.EndOfMessage())

    def begin_stream(self, kind: str) -> bytes:
        """The head of an answer that has no end of its own."""
        headers = [
            ("content-type", kind),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ]
        return self._send(h11.Response(status_code=200, reason=b"OK", headers=headers))

    def more(self, data: bytes) -> bytes:
        """Further bytes of a stream."""
        return self._send(h11.Data(data=data))

    def _send(self, event: Any) -> bytes:
        return bytes(self._connection.send(event) or b"")


def _reason(answer: Answer) -> bytes:
    return REASONS.get(answer.status, "").encode("ascii")


def _bad(error: h11.RemoteProtocolError) -> BadRequest:
    status = error.error_status_hint
    if status == 431:
        return _too_long()
    return BadRequest(400, "this is not HTTP/1.1 as it should be")


def _too_long() -> BadRequest:
    return BadRequest(431, f"the head of a request has at most {MAX_HEAD_BYTES} bytes")


def _depth(value: object, above: int = 0) -> int:
    if above > MAX_JSON_DEPTH:
        return above
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max((_depth(each, above + 1) for each in inner), default=above)
