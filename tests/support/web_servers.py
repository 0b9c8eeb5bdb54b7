"""Web servers for tests: nginx and Caddy as they are, and one that does what a test says.

nginx and Caddy come from Debian. `installed` installs what is missing where that is possible (root), and
raises what a test reports as an error: nothing is skipped.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.processes import Processes, Running
from tests.support.requirements import require_program

READY_SECONDS = 20.0


WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = itertools.cycle(range(10_000 + WORKER % 5 * 2_000, 12_000 + WORKER % 5 * 2_000))


def free_port() -> int:
    """A port of this machine that stays free until it is used.

    Each worker of pytest-xdist has ports of its own. They lie below those of nodes and those of connections
    that go out, so nobody else is given one meanwhile.
    """
    while True:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until_listening(port: int, host: str = "127.0.0.1") -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection((host, port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, f"nothing listens on port {port}"
            time.sleep(0.05)
        else:
            return


NGINX = """
daemon off; master_process off; worker_processes 1;
pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format bytes '$status $body_bytes_sent $request_uri';
    access_log {folder}/access.log bytes;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server {{
        listen {listen};
        {tls}
        root {root};
        location / {{ gzip off; sendfile on; }}
    }}
}}
"""


class Nginx:
    """nginx over ``root``; ``certificate`` is a PEM file with a key, for https."""

    def __init__(
        self,
        processes: Processes,
        root: Path,
        *,
        listen: str | None = None,
        certificate: Path | None = None,
        wrap: Callable[..., list[str]] = lambda *argv: [str(each) for each in argv],
    ) -> None:
        program = require_program("nginx")
        listen = listen or f"127.0.0.1:{free_port()}"
        self.folder = processes.folder / f"nginx-{listen.replace(':', '-')}"
        self.folder.mkdir()
        # nginx as root serves as nobody: what it shows must be open to all on the way, too.
        tls = f"ssl_certificate {certificate}; ssl_certificate_key {certificate};" if certificate else ""
        conf = NGINX.format(
            folder=self.folder, listen=f"{listen} ssl" if certificate else listen, tls=tls, root=root
        )
        user = "user root;\n" if Path("/proc/self").owner() == "root" else ""
        path = self.folder / "nginx.conf"
        path.write_text(user + conf)
        self.process: Running = processes.command(
            wrap(program, "-c", path, "-p", self.folder), name=self.folder.name
        )
        self.url = f"{'https' if certificate else 'http'}://{listen}/"
        if listen.startswith("127."):
            until_listening(int(listen.rpartition(":")[2]))

    def served(self) -> list[tuple[int, int, str]]:
        """Status, bytes of the body, and target of each request so far."""
        log = self.folder / "access.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(int(a), int(b), c) for a, b, c in (line.split(" ", 2) for line in lines)]

    def parts(self, size: int) -> list[int]:
        """The bytes of each part that was served, once they are ``size`` together.

        A request is written to the log only when it is over.
        """
        deadline = time.monotonic() + READY_SECONDS
        while True:
            found = [sent for status, sent, _ in self.served() if status == 206]
            if sum(found) >= size or time.monotonic() > deadline:
                return found
            time.sleep(0.02)


class Caddy:
    """Caddy over ``root``."""

    def __init__(self, processes: Processes, root: Path) -> None:
        program = require_program("caddy")
        port = free_port()
        folder = processes.folder / f"caddy-{port}"
        folder.mkdir()
        path = folder / "Caddyfile"
        path.write_text(
            "{\n  admin off\n  auto_https off\n}\n"
            f"http://127.0.0.1:{port} {{\n  root * {root}\n  file_server\n}}\n"
        )
        self.process = processes.command(
            [program, "run", "--config", str(path), "--adapter", "caddyfile"],
            name=folder.name,
            env={"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
        )
        self.url = f"http://127.0.0.1:{port}/"
        until_listening(port)


def certificate(folder: Path, name: str = "localhost") -> Path:
    """Make a self-signed certificate, in one PEM file with its key."""
    path = folder / f"{name}.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1",
            "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    path.write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
    return path


class Asked:
    """One request, as a test's server sees it, with what it can answer."""

    def __init__(self, head: str, data: bytes, wire: socket.socket) -> None:
        line, *lines = head.split("\r\n")
        self.method, self.target, _ = line.split(" ", 2)
        pairs = (each.partition(": ") for each in lines if each)
        self.headers = {name.lower(): value for name, _, value in pairs}
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        self.start = int(found[1]) if found else 0
        self.stop = min(int(found[2]) + 1, len(data)) if found else len(data)
        self.ranged = found is not None
        self.data = data
        self.wire = wire

    def say(self, status: str, *headers: str, body: bytes = b"", length: int | None = None) -> None:
        """Send a response; ``length`` is what it claims."""
        size = len(body) if length is None else length
        head = "\r\n".join((f"HTTP/1.1 {status}", *headers, f"Content-Length: {size}"))
        self.wire.sendall(head.encode() + b"\r\n\r\n" + body)

    def part(self, data: bytes | None = None, *headers: str) -> None:
        """Answer as a good server does, from ``data``."""
        data = self.data if data is None else data
        where = f"Content-Range: bytes {self.start}-{self.stop - 1}/{len(data)}"
        body = data[self.start : self.stop]
        self.say("206 Partial Content", where, 'ETag: "one"', *headers, body=body)


class ScriptedServer:
    """Answers every request as ``answer`` says; counts them. A context manager."""

    def __init__(
        self, data: bytes, answer: Callable[[Asked], object], tls: ssl.SSLContext | None = None
    ) -> None:
        self.data = data
        self.answer = answer
        self.asked: list[Asked] = []
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._wires: list[socket.socket] = []
        self._closed = False
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                wire, _ = self._listener.accept()
            except OSError:
                return
            self._wires.append(wire)
            threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), wire:
            if self._tls is not None:
                wire = self._tls.wrap_socket(wire, server_side=True)
                self._wires.append(wire)
            kept = b""
            while True:
                while b"\r\n\r\n" not in kept:
                    got = wire.recv(65536)
                    if not got:
                        return
                    kept += got
                head, _, kept = kept.partition(b"\r\n\r\n")
                asked = Asked(head.decode("latin-1"), self.data, wire)
                self.asked.append(asked)
                if self.answer(asked) is False:
                    return

    def close(self) -> None:
        """End the server and all its connections, as a crash does."""
        self._closed = True
        # close() alone does not wake the thread that waits in accept(), which would take one more connection.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for wire in self._wires:
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
            wire.close()

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def serving(data: bytes, answer: Callable[[Asked], object]) -> Iterator[ScriptedServer]:
    """A scripted server for the length of a block."""
    with ScriptedServer(data, answer) as server:
        yield server
