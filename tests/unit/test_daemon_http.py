"""The daemon's reader of requests and its rules of access: bytes in, requests or refusals out."""

from __future__ import annotations

import json

import pytest

from swarm.daemon.access import TcpAccess
from swarm.daemon.http_messages import (
    MANIFEST_TYPE,
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    BadRequest,
    HttpConversation,
    HttpRequest,
    json_answer,
)

TOKEN = "t" * 43
POST = (
    b"POST /v1/transfers?since=a%20b HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Type: application/json\r\n"
    b'Content-Length: 13\r\n\r\n{"link": "x"}'
)


def read(*parts: bytes) -> HttpRequest | None:
    http = HttpConversation()
    request = None
    for part in parts:
        http.receive(part)
        request = request or http.next_request()
    return request


def refused(*parts: bytes) -> int:
    with pytest.raises(BadRequest) as caught:
        read(*parts)
    return caught.value.status


@pytest.mark.parametrize("size", [1, 7, len(POST)])
def test_a_request_is_the_same_however_it_arrives(size: int) -> None:
    request = read(*(POST[start : start + size] for start in range(0, len(POST), size)))
    assert request is not None
    assert (request.method, request.path, request.query) == ("POST", "/v1/transfers", {"since": "a b"})
    assert request.json() == {"link": "x"}


def test_requests_follow_each_other_on_one_connection() -> None:
    http = HttpConversation()
    http.receive(POST + b"HEAD / HTTP/1.1\r\nHost: localhost:1\r\n\r\n")
    first = http.next_request()
    assert first is not None
    assert first.method == "POST"
    http.answer(json_answer(200, {}))
    assert http.goes_on
    http.begin_next()
    second = http.next_request()
    assert second is not None
    assert second.method == "HEAD"
    assert http.answer(json_answer(200, {"a": 1})).endswith(b"\r\n\r\n")


def test_a_refused_head_request_is_answered_without_a_body() -> None:
    """The first fault that the fuzzer found: the answer was out of order."""
    http = HttpConversation()
    http.receive(b"HEAD / HTTP/1.1\r\nHost: a\r\nOrigin: b\r\nOrigin: c\r\n\r\n")
    with pytest.raises(BadRequest):
        http.next_request()
    answer = http.answer(json_answer(400, {"a": 1}), last=True)
    assert answer.endswith(b"\r\n\r\n")
    assert b"content-length: 7" in answer


def head(*lines: str) -> bytes:
    return ("\r\n".join(("POST / HTTP/1.1", "Host: 127.0.0.1:80", *lines)) + "\r\n\r\n").encode()


def test_what_is_too_long_is_refused_before_it_is_kept() -> None:
    assert refused(b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * MAX_HEAD_BYTES) == 431
    assert refused(head(f"a: {'b' * MAX_HEAD_BYTES}")) == 431
    assert refused(head(f"Content-Length: {MAX_BODY_BYTES + 1}")) == 413
    assert refused(head(f"Content-Length: {'9' * 18}")) == 413
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    assert refused(head("Transfer-Encoding: chunked"), *([chunk] * 5)) == 413
    # Only a manifest may be longer.
    assert read(head(f"Content-Type: {MANIFEST_TYPE}", f"Content-Length: {MAX_BODY_BYTES + 1}")) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://evil/ HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n",
        head("Origin: http://a", "Origin: http://b"),
        head("Content-Length: 1", "Content-Length: 2"),
        head("Content-Length: -1"),
        b"GET /?" + b"a=&" * 40 + b" HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    assert refused(data) == 400


def made(body: bytes, kind: str = "application/json") -> HttpRequest:
    return HttpRequest("POST", "/", {}, {"content-type": kind}, body)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"1", b'{"a":', b"\xff", b'{"a":' * 9 + b"1" + b"}" * 9, b"[" * 5000]
)
def test_a_body_that_is_no_plain_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        made(body).json()
    assert caught.value.status == 400


def test_a_body_that_a_form_could_send_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        made(b"{}", "text/plain").json()
    assert caught.value.status == 415


def test_answers_are_ascii_whatever_names_hold() -> None:
    answer = json_answer(200, {"name": "\ud800 <b>é"})
    assert json.loads(answer.body.decode("ascii"))["name"] == "\ud800 <b>é"


# --- Who may ask ------------------------------------------------------------------------------------


def asking(path: str = "/v1/transfers", **headers: str) -> HttpRequest:
    given = {"host": "127.0.0.1:7474", "authorization": f"Bearer {TOKEN}", **headers}
    given = {name.replace("_", "-"): value for name, value in given.items() if value}
    return HttpRequest("GET", path, {}, given)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example:7474"}, 403),
        ({"host": "127.0.0.1:7475"}, 403),
        ({"host": "127.0.0.1"}, 403),
        ({"host": ""}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://127.0.0.1:7474"}, 403),
        ({"origin": "http://127.0.0.1:7475"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"authorization": ""}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": f"Bearer:{TOKEN}"}, 401),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"authorization": f"Bearer {TOKEN}\xff"}, 401),
    ],
)
def test_strangers_are_refused(headers: dict[str, str], status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        TcpAccess(7474, TOKEN).check(asking(**headers))
    assert caught.value.status == status


@pytest.mark.parametrize("host", ["127.0.0.1:7474", "localhost:7474", "[::1]:7474", "LOCALHOST:7474"])
def test_the_daemons_own_page_may_ask(host: str) -> None:
    TcpAccess(7474, TOKEN).check(asking(host=host, origin=f"http://{host}", sec_fetch_site="same-origin"))


def test_the_page_takes_no_token_but_its_host_is_checked() -> None:
    access = TcpAccess(7474, TOKEN)
    access.check(asking("/", authorization=""))
    with pytest.raises(BadRequest):
        access.check(asking("/", authorization="", host="evil.example:7474"))
