"""Descriptors: sockets never take those that files need."""

from __future__ import annotations

import resource
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from swarm.errors import UsageError
from swarm.net import admission
from swarm.net import network_limits as limits
from swarm.net.host import open_host

KNOCK = """
import resource, socket, sys, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
where = ("127.0.0.1", int(sys.argv[1]))
sockets = [socket.create_connection(where, source_address=(f"127.0.1.{n}", 0)) for n in range(80)]
print("there", flush=True)
time.sleep(60)
"""
LOOPBACK = "/ip4/127.0.0.1/tcp/0"


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """As many as are open now, and 40 more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 40, hard))
    yield open_now + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_flood_of_sockets_leaves_sixteen_descriptors_for_files(
    few_descriptors: int, tmp_path: Path
) -> None:
    async with open_host(secrets.token_bytes(32), [LOOPBACK]) as host:
        where = ("127.0.0.1", int(host.addresses[0].split("/")[4]))
        # The knocking sockets are another process's.
        process = await trio.lowlevel.open_process([sys.executable, "-c", KNOCK, str(where[1])], stdout=-1)
        try:
            assert process.stdout is not None
            with trio.fail_after(20):
                assert await process.stdout.receive_some(10)
            await trio.sleep(0.3)
            files = [(tmp_path / str(number)).open("w") for number in range(limits.DESCRIPTORS_FOR_FILES)]
            for file in files:
                file.close()
        finally:
            process.kill()
            await process.wait()
            if process.stdout is not None:
                await process.stdout.aclose()


def test_so_few_that_no_socket_is_left_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_open_now", lambda _: 30)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (52, 52))
    with pytest.raises(UsageError, match="ulimit -n") as error:
        admission.sockets_allowed(1)
    assert "\n" not in str(error.value)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    assert admission.sockets_allowed(1) == 64 - 30 - 1 - 16 - 4


def test_without_proc_descriptors_are_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    there = admission._open_now(4096)
    monkeypatch.setattr(admission, "_OPEN", Path("/nowhere"))
    with socket.socket(), suppress(OSError):
        assert admission._open_now(4096) == there + 1
