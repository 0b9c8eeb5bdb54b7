"""Which bytes of a file a Range header asks for, and as what files are served."""

from __future__ import annotations

import pytest

from swarm.daemon.access import TcpAccess
from swarm.daemon.file_ranges import ByteRange, asks_range, file_key, media_type, wanted
from swarm.daemon.http_messages import BadRequest, HttpRequest

TOKEN = "t" * 43


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        (None, 0, 1000),
        ("bytes=0-", 0, 1000),
        ("bytes=0-0", 0, 1),
        ("bytes=999-", 999, 1000),
        ("bytes=100-199", 100, 200),
        ("bytes=100-99999", 100, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-5000", 0, 1000),
        # What is malformed, or asks for several, is answered with all of it.
        ("bytes=200-100", 0, 1000),
        ("bytes=-", 0, 1000),
        ("bytes=1-2,4-5", 0, 1000),
        ("items=1-2", 0, 1000),
        ("bytes=١-٢", 0, 1000),
        ("bytes=1-" + "9" * 30, 0, 1000),
    ],
)
def test_a_range_is_read(header: str | None, start: int, stop: int) -> None:
    assert wanted(header, 1000) == ByteRange(start, stop)


def test_a_range_of_all_bytes_is_a_range() -> None:
    """Players ask for it to learn whether they can seek."""
    assert [asks_range(each) for each in ("bytes=0-", "bytes=0-999", "bytes=-5000")] == [True] * 3
    assert not any(asks_range(each) for each in (None, "bytes=-", "bytes=200-100", "bytes=1-2,4-5"))


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=-0"])
def test_a_range_of_which_there_is_nothing_is_told(header: str) -> None:
    assert wanted(header, 1000) is None


def test_an_empty_file_is_all_there_is() -> None:
    assert wanted(None, 0) == ByteRange(0, 0)
    assert wanted("bytes=0-", 0) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.mp4", "video/mp4"),
        ("a.png", "image/png"),
        ("a.svg", "application/octet-stream"),
        ("a.html", "application/octet-stream"),
        ("a.js", "application/octet-stream"),
        ("a.xhtml", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_only_media_are_served_as_what_they_are(name: str, kind: str) -> None:
    assert media_type(name) == kind


def test_a_key_opens_one_file_and_nothing_else() -> None:
    access = TcpAccess(7474, TOKEN)
    key = file_key(TOKEN, "a" * 16, 3)

    def ask(method: str, path: str, key: str = key) -> None:
        access.check(HttpRequest(method, path, {"key": key}, {"host": "127.0.0.1:7474"}))

    ask("GET", f"/v1/transfers/{'a' * 16}/files/3")
    for method, path in (
        ("GET", f"/v1/transfers/{'a' * 16}/files/4"),
        ("GET", f"/v1/transfers/{'b' * 16}/files/3"),
        ("GET", f"/v1/transfers/{'a' * 16}"),
        ("DELETE", f"/v1/transfers/{'a' * 16}/files/3"),
        ("GET", "/v1/transfers"),
    ):
        with pytest.raises(BadRequest):
            ask(method, path)
    with pytest.raises(BadRequest):
        ask("GET", f"/v1/transfers/{'a' * 16}/files/3", key[:-1])
