"""Descriptors: sockets never take those that files need."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from swarm.errors import UsageError
from swarm.net import admission
from swarm.net import network_limits as limits
from tests.support.processes import Processes

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


HOST = """
import os, resource, secrets, sys, trio
from swarm.net import network_limits as limits
from swarm.net.host import open_host

async def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, hard))
    async with open_host(secrets.token_bytes(32), [sys.argv[1]]) as host:
        print(host.addresses[0].split("/")[4], flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        files = [open(os.path.join(sys.argv[2], str(n)), "w") for n in range(limits.DESCRIPTORS_FOR_FILES)]
        print("opened", len(files), flush=True)
        os._exit(0)

trio.run(main)
"""
"""A process of its own: what earlier tests have left open does not count."""


def test_a_flood_of_sockets_leaves_sixteen_descriptors_for_files(
    processes: Processes, tmp_path: Path
) -> None:
    host = subprocess.Popen([sys.executable, "-c", HOST, LOOPBACK, tmp_path], stdin=-1, stdout=-1, text=True)
    with host:
        assert host.stdin is not None
        assert host.stdout is not None
        try:
            port = host.stdout.readline().strip()
            knocking = processes.command([sys.executable, "-c", KNOCK, port], name="knocking")
            knocking.line("^(there)$")
            time.sleep(0.3)
            host.stdin.write("\n")
            host.stdin.flush()
            assert host.stdout.readline() == f"opened {limits.DESCRIPTORS_FOR_FILES}\n"
        finally:
            host.kill()


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
