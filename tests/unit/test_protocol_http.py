"""Responses of web servers: read in any parts, and judged."""

from __future__ import annotations

import pytest

from swarm.protocol.http_range import (
    MOST_RETRY_SECONDS,
    Concerns,
    Fault,
    Moved,
    Part,
    Wish,
    judge,
    validator_of,
)
from swarm.protocol.http_reader import (
    MAX_HEAD_BYTES,
    HttpFault,
    ResponseHead,
    ResponseReader,
    request_bytes,
)

WISH = Wish(10, 20, 100)


def read(data: bytes, size: int) -> tuple[ResponseHead | None, bytes, bool]:
    reader, body, into = ResponseReader(), bytearray(), memoryview(bytearray(3))
    for start in range(0, len(data), size):
        if not reader.ended:
            reader.feed(data[start : start + size])
        while taken := reader.take(into):
            body += into[:taken]
    return reader.head, bytes(body), reader.ended


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
def test_a_response_is_the_same_in_whatever_parts_it_comes(body: bytes, size: int) -> None:
    head, got, ended = read(
        b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 206 Partial\r\nETag: "x"\r\n' + body, size
    )
    assert head is not None
    assert (head.status, head.get("etag"), got, ended) == (206, '"x"', b"hello", True)


def test_the_body_of_a_known_length_can_be_received_past_the_reader() -> None:
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    memory = memoryview(bytearray(10))
    assert not reader.direct
    assert reader.take(memory) == 3
    assert reader.direct
    assert reader.left == 7
    reader.arrived(7)
    assert reader.ended


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * (2 * MAX_HEAD_BYTES),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 9,
        b"HTTP/1.1 101 Switch\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"",
    ],
)
def test_what_is_no_whole_response_is_refused_in_words_of_our_own(data: bytes) -> None:
    reader, into = ResponseReader(), memoryview(bytearray(1000))
    with pytest.raises(HttpFault) as fault:
        for start in range(0, len(data), 4096):
            reader.feed(data[start : start + 4096])
            while reader.take(into):
                pass
        reader.feed(b"")
    assert str(fault.value).isascii()


def head(status: int, length: int | None = 10, **headers: str) -> ResponseHead:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ResponseHead(status, named, length, chunked=False, keep_alive=True)


def test_a_part_is_what_was_asked_for_or_its_beginning() -> None:
    assert judge(head(206, content_range="bytes 10-19/100"), WISH) == Part(10, whole=False)
    assert judge(head(206, 5, content_range="bytes 10-14/*"), WISH) == Part(5, whole=False)
    assert judge(head(200, 100), Wish(0, 20, 100)) == Part(100, whole=True)
    assert judge(head(302, location="/x"), WISH) == Moved("/x")


@pytest.mark.parametrize(
    ("answer", "concerns"),
    [
        (head(206, content_range="bytes 11-19/100"), Concerns.FILE),
        (head(206, content_range="bytes 10-20/100"), Concerns.FILE),
        (head(206, content_range="bytes 10-19/101"), Concerns.FILE),
        (head(206, 9, content_range="bytes 10-19/100"), Concerns.FILE),
        (head(206), Concerns.FILE),
        (head(200, 100), Concerns.FILE),
        (head(200, 99), Concerns.FILE),
        (head(200, 100, content_encoding="gzip"), Concerns.FILE),
        (head(416, content_range="bytes */5"), Concerns.FILE),
        (head(404), Concerns.FILE),
        (head(302), Concerns.FILE),
        (head(500), Concerns.ANSWER),
        (head(408), Concerns.ANSWER),
        (head(204), Concerns.ANSWER),
        (head(503), Concerns.SERVER),
    ],
)
def test_everything_else_is_a_fault_of_the_file_the_server_or_the_answer(
    answer: ResponseHead, concerns: Concerns
) -> None:
    verdict = judge(answer, WISH)
    assert isinstance(verdict, Fault)
    assert verdict.concerns is concerns


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("3", 3), ("0", 1), ("999999", MOST_RETRY_SECONDS), ("soon", 10), ("-5", 10), ("9" * 40, 10)],
)
def test_a_busy_server_is_left_alone_for_a_bounded_time(given: str, seconds: float) -> None:
    verdict = judge(head(429, retry_after=given), WISH)
    assert isinstance(verdict, Fault)
    assert verdict.retry_after == seconds


def test_a_strong_etag_or_else_a_date_says_whether_the_file_is_the_same() -> None:
    dated = head(206, content_range="bytes 10-19/100", etag='W/"x"', last_modified="Mon, 30 Nov 2026")
    assert validator_of(dated) == "Mon, 30 Nov 2026"
    tagged = head(206, content_range="bytes 10-19/100", etag='"x"')
    assert validator_of(tagged) == '"x"'
    changed = judge(tagged, Wish(10, 20, 100, '"y"'))
    assert isinstance(changed, Fault)
    assert changed.reason == "the file there has changed meanwhile"


def test_a_request_holds_no_line_that_is_not_meant() -> None:
    assert request_bytes("/a", [("Host", "h")]) == b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
    with pytest.raises(HttpFault):
        request_bytes("/a", [("If-Range", "x\r\nEvil: y")])
