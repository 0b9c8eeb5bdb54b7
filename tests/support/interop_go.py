"""go-libp2p for the interop tests: its daemon `p2pd`, steered over its control socket.

The daemon answers pings by itself. To act from Go's side, a client opens a stream through it (the
control connection then *is* that stream) or registers a handler (the daemon then connects to the
handler's socket for each stream). Control messages are length-delimited protobuf; the few fields
that are used here are written and read by hand.

The daemon knows no half-close: when one direction ends it closes or resets both. So streams with Go on
either side have the dialer's FIN after the answer, and what follows it is not looked at (see the data
protocols in interop_peer.py).

Source: the specification of the libp2p daemon, specs/CONTROL.md, and its `p2pd.proto`.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import base58

from tests.support.interop_peer import ECHO, HEADER_BYTES, PING, SINK, SOURCE, header, pattern
from tests.support.interop_protobuf import Field, message, parse, varint
from tests.support.processes import Processes, ProcessFailure, Running

CONNECT, STREAM_OPEN, STREAM_HANDLER = 1, 2, 3
OK = 0
STREAM_DEADLINE = 100.0
"""Seconds that one read or write of a stream may take."""
READ_BYTES = 1 << 18

PLAIN = ("-relay=0", "-autonat=0")

Serve = Callable[[socket.socket, int], None]


def chunks(connection: socket.socket, size: int) -> Iterator[bytes]:
    """Yield the next ``size`` bytes as they come; an early end raises EOFError."""
    while size > 0:
        data = connection.recv(min(size, READ_BYTES))
        if not data:
            raise EOFError(f"the stream ended with {size} bytes still to come")
        size -= len(data)
        yield data


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """Return the next ``size`` bytes."""
    return b"".join(chunks(connection, size))


def receive_hash(connection: socket.socket, size: int) -> bytes:
    """Return the SHA-256 of the next ``size`` bytes."""
    total = hashlib.sha256()
    for data in chunks(connection, size):
        total.update(data)
    return total.digest()


def send_pattern(connection: socket.socket, size: int) -> None:
    """Send ``size`` bytes of the pattern."""
    for block in pattern(size):
        connection.sendall(block)


def receive_message(connection: socket.socket) -> dict[int, list[Field]]:
    """Read one length-delimited message, and not a byte of what follows it."""
    size = shift = 0
    while True:
        byte = receive_exactly(connection, 1)[0]
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return parse(receive_exactly(connection, size))


def split_address(address: str) -> tuple[bytes, bytes]:
    """Return the peer id and the transport part of a multiaddr, both in their binary forms."""
    from multiaddr import Multiaddr

    transport, _, peer = address.rpartition("/p2p/")
    return base58.b58decode(peer), Multiaddr(transport).to_bytes()


@dataclass
class GoPeer:
    """A running `p2pd`; made by `go_peer`."""

    process: Running
    control: Path
    address: str

    def _request(self, kind: int, *fields: tuple[int, Field]) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(STREAM_DEADLINE)
            connection.connect(str(self.control))
            request = message([(1, kind), *fields])
            connection.sendall(varint(len(request)) + request)
            self._check(receive_message(connection))
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, response: dict[int, list[Field]]) -> None:
        if response[1] != [OK]:
            raise ProcessFailure(f"p2pd refused: {response[2]}\n{self.process.describe()}")

    def connect(self, address: str) -> None:
        """Dial a peer."""
        peer, transport = split_address(address)
        self._request(CONNECT, (2, message([(1, peer), (2, transport)]))).close()

    def open_stream(self, address: str, protocol: str) -> socket.socket:
        """Open a stream to a connected peer; the caller closes the socket."""
        peer, _ = split_address(address)
        return self._request(STREAM_OPEN, (3, message([(1, peer), (2, protocol.encode())])))

    def ping(self, address: str, count: int) -> list[float]:
        """Ping a peer ``count`` times over one stream; return the round trips in seconds."""
        self.connect(address)
        trips = []
        with self.open_stream(address, PING) as stream:
            for _ in range(count):
                payload = secrets.token_bytes(32)
                started = time.perf_counter()
                stream.sendall(payload)
                answer = receive_exactly(stream, len(payload))
                trips.append(time.perf_counter() - started)
                if answer != payload:
                    raise ProcessFailure(f"sent {payload.hex()}, got {answer.hex()}")
        return trips

    def echo(self, address: str, size: int) -> bytes:
        """Send the pattern while reading it back; return the SHA-256 of what came."""
        self.connect(address)
        with self.open_stream(address, ECHO) as stream:
            stream.sendall(header(False, size))
            sender = threading.Thread(target=send_pattern, args=(stream, size), daemon=True)
            sender.start()
            digest = receive_hash(stream, size)
            sender.join(STREAM_DEADLINE)
        return digest

    def send(self, address: str, size: int) -> bytes:
        """Send the pattern to a sink; return the SHA-256 that it answers with."""
        self.connect(address)
        with self.open_stream(address, SINK) as stream:
            stream.sendall(header(False, size))
            send_pattern(stream, size)
            return receive_exactly(stream, hashlib.sha256().digest_size)

    def receive(self, address: str, size: int) -> bytes:
        """Ask a source for the pattern; return the SHA-256 of what came."""
        self.connect(address)
        with self.open_stream(address, SOURCE) as stream:
            stream.sendall(header(False, size))
            return receive_hash(stream, size)

    def handle(self, protocol: str, port: int) -> None:
        """Let the daemon hand each inbound stream of ``protocol`` to the TCP port ``port``."""
        from multiaddr import Multiaddr

        # Not a Unix socket: the daemon drops the first slash of its path when it dials.
        target = Multiaddr(f"/ip4/127.0.0.1/tcp/{port}").to_bytes()
        fields = message([(1, target), (2, protocol.encode()), (3, 0)])
        self._request(STREAM_HANDLER, (4, fields)).close()


def serve_echo(stream: socket.socket, size: int) -> None:
    for data in chunks(stream, size):
        stream.sendall(data)


def serve_sink(stream: socket.socket, size: int) -> None:
    stream.sendall(receive_hash(stream, size))


def serve_source(stream: socket.socket, size: int) -> None:
    send_pattern(stream, size)


class Handlers:
    """The data protocols of the interop tests, served on Go's side, a thread for each stream."""

    SERVED = ((ECHO, serve_echo), (SINK, serve_sink), (SOURCE, serve_source))

    def __init__(self, peer: GoPeer) -> None:
        self._listeners = []
        for protocol, serve in self.SERVED:
            listener = socket.create_server(("127.0.0.1", 0))
            self._listeners.append(listener)
            threading.Thread(target=self._accept, args=(listener, serve), daemon=True).start()
            peer.handle(protocol, listener.getsockname()[1])

    def _accept(self, listener: socket.socket, serve: Serve) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = listener.accept()
                threading.Thread(target=self._serve, args=(stream, serve), daemon=True).start()

    def _serve(self, stream: socket.socket, serve: Serve) -> None:
        stream.settimeout(STREAM_DEADLINE)
        # A broken stream shows at the other end, which is where the test looks.
        with stream, contextlib.suppress(OSError, EOFError):
            receive_message(stream)
            head = receive_exactly(stream, HEADER_BYTES)
            serve(stream, int.from_bytes(head[1:], "big"))
            # The dialer's FIN says that it has the answer; a handler that leaves earlier makes the
            # daemon reset the stream, and what the dialer has not read yet is lost.
            stream.recv(1)

    def close(self) -> None:
        """Stop accepting."""
        for listener in self._listeners:
            # close() alone does not wake a thread that waits in accept().
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()


@contextlib.contextmanager
def go_peer(processes: Processes, program: Path, options: Sequence[str] = PLAIN) -> Iterator[GoPeer]:
    """Run `p2pd` on loopback with the data protocols of the tests served."""
    # Not pytest's folder: the path of a Unix socket has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="p2pd"))
    control = folder / "control"
    process = processes.command(
        [
            program,
            "-listen",
            f"/unix{control}",
            "-hostAddrs",
            "/ip4/127.0.0.1/tcp/0",
            "-bootstrapPeers=",
            *options,
        ],
        name="p2pd",
    )
    handlers = None
    try:
        peer_id = process.line(r"Peer ID: (\S+)").group(1)
        transport = process.line(r"^(/ip4/127\.0\.0\.1/tcp/\d+)").group(1)
        peer = GoPeer(process, control, f"{transport}/p2p/{peer_id}")
        handlers = Handlers(peer)
        yield peer
    finally:
        if handlers is not None:
            handlers.close()
        process.stop()
        shutil.rmtree(folder, ignore_errors=True)
