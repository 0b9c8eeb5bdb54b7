"""Files of a daemon that are read while they are fetched: ranges, seeks, readers that come and go."""

from __future__ import annotations

import random
import socket
import struct
import time
from pathlib import Path

import pytest

from tests.support.daemons import Daemon, start_daemon
from tests.support.processes import Processes
from tests.support.sharing import MIB, random_file, share

pytestmark = pytest.mark.e2e

RATE = 2_500_000
"""20 Mbit/s."""


def test_a_seek_is_fetched_before_everything_else(processes: Processes, tmp_path: Path) -> None:
    movie = random_file(tmp_path / "movie.mp4", 40 * MIB)
    data = movie.read_bytes()
    seeder = share(processes, movie, "--upload-limit", f"{RATE}B/s")
    daemon = start_daemon(processes)
    added = daemon.ask("POST", "/v1/transfers", {"link": seeder.link}).json()
    daemon.until(added["id"], lambda each: each["state"] == "fetching")
    address = daemon.ask("GET", f"/v1/transfers/{added['id']}").json()["files"][0]["url"]
    for place in (0, 30 * MIB, 15 * MIB):
        began = time.monotonic()
        end = place + MIB
        answer = daemon.ask(
            "GET", address, headers={"Range": f"bytes={place}-{end - 1}", "Authorization": None}
        )
        print(f"{place // MIB} MiB: {time.monotonic() - began:.2f} s")
        assert answer.status == 206
        assert answer.headers["content-range"] == f"bytes {place}-{end - 1}/{len(data)}"
        assert answer.headers["content-type"] == "video/mp4"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; media-src 'self'; ")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.body == data[place:end]
        # It came long before its turn in any other order: most of the file is not here yet.
        about = daemon.ask("GET", f"/v1/transfers/{added['id']}").json()
        assert about["done"] < len(data) * 3 // 4
    assert about["state"] == "fetching"


def test_ranges_are_the_bytes_of_the_file(processes: Processes, tmp_path: Path) -> None:
    movie = random_file(tmp_path / "tree" / "movie.mkv", 3 * MIB + 77)
    (tmp_path / "tree" / "empty.html").touch()
    data = movie.read_bytes()
    daemon = start_daemon(processes)
    added = daemon.ask("POST", "/v1/transfers", {"path": str(tmp_path / "tree")}).json()
    daemon.until(added["id"], lambda each: each["state"] == "seeding")
    files = daemon.ask("GET", f"/v1/transfers/{added['id']}").json()["files"]
    empty, address = (each["url"] for each in sorted(files, key=lambda each: each["path"]))
    rng = random.Random(3)
    for _ in range(30):
        start = rng.randrange(len(data))
        end = min(len(data), start + rng.choice((1, 100, 100_000, len(data))))
        answer = daemon.ask("GET", address, headers={"Range": f"bytes={start}-{end - 1}"})
        assert (answer.status, answer.body) == (206, data[start:end])
    assert daemon.ask("GET", address, headers={"Range": "bytes=0-"}).status == 206
    whole = daemon.ask("GET", address)
    assert (whole.status, whole.body) == (200, data)
    tail = daemon.ask("GET", address, headers={"Range": "bytes=-77", "If-Range": whole.headers["etag"]})
    assert (tail.status, tail.body) == (206, data[-77:])
    assert daemon.ask("GET", address, headers={"Range": "bytes=-77", "If-Range": '"other"'}).status == 200
    beyond = daemon.ask("GET", address, headers={"Range": f"bytes={len(data)}-"})
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{len(data)}")
    head = daemon.ask("HEAD", address)
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(data)), b"")
    nothing = daemon.ask("GET", empty)
    assert (nothing.status, nothing.body) == (200, b"")
    assert nothing.headers["content-type"] == "application/octet-stream"
    assert nothing.headers["content-security-policy"] == "default-src 'none'; sandbox"
    # Other bytes under the name are never served as those of the manifest.
    movie.write_bytes(b"other" * 1000)
    cut = ask_raw(daemon, address)
    assert b"other" not in cut
    assert len(cut) < len(data)
    for wrong in ("/9", "/0?key=wrong"):
        path = f"/v1/transfers/{added['id']}/files{wrong}"
        assert daemon.ask("GET", path, headers={"Authorization": None}).status == 401
    assert daemon.ask("GET", f"/v1/transfers/{added['id']}/files/9").status == 404


def ask_raw(daemon: Daemon, address: str) -> bytes:
    """All that comes until the daemon hangs up."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as stream:
        request = f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\nConnection: close\r\n\r\n"
        stream.sendall(request.encode())
        come = b""
        while part := stream.recv(1 << 16):
            come += part
    return come.partition(b"\r\n\r\n")[2]


def test_readers_that_go_away_in_the_middle_end_nothing_else(processes: Processes, tmp_path: Path) -> None:
    movie = random_file(tmp_path / "movie.mkv", 16 * MIB)
    daemon = start_daemon(processes)
    added = daemon.ask("POST", "/v1/transfers", {"path": str(movie)}).json()
    daemon.until(added["id"], lambda each: each["state"] == "seeding")
    address = daemon.ask("GET", f"/v1/transfers/{added['id']}").json()["files"][0]["url"]
    head = f"HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\nAuthorization: Bearer {daemon.token}\r\n\r\n"
    for number in range(30):
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as stream:
            path = "/v1/events" if number % 3 == 2 else address
            stream.sendall(f"GET {path} {head}".encode())
            stream.recv(1 + 5000 * (number % 5))
            if number % 2:
                # Closed with a reset, whatever is still to be read.
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert daemon.ask("GET", "/v1/status").status == 200
    assert daemon.process.exit_code is None
    assert "fault" not in daemon.process.errors()
