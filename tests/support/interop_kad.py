"""A distributed hash table of go-libp2p daemons, and what they are asked to do in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import base58

from tests.support.interop_go import GoPeer, go_peer, receive_message
from tests.support.interop_protobuf import message, parse
from tests.support.processes import Processes

OPTIONS = ("-relay=0", "-autonat=0", "-dhtServer=1")
DHT, DHT_FIELD = 4, 5
FIND_PROVIDERS, PROVIDE = 2, 8
END = 2
CID_RAW = b"\x01\x55"
"""Version 1, raw bytes; the multihash follows."""
NEIGHBOURS = (1, 2, 3, 5)


def provide(peer: GoPeer, key: bytes) -> None:
    """Let the daemon provide a key."""
    request = message([(1, PROVIDE), (3, CID_RAW + key), (7, 20)])
    peer._request(DHT, (DHT_FIELD, request)).close()


def providers(peer: GoPeer, key: bytes) -> set[str]:
    """Ask the daemon who provides a key; the peer ids."""
    request = message([(1, FIND_PROVIDERS), (3, CID_RAW + key), (6, 20), (7, 10)])
    found = set()
    with peer._request(DHT, (DHT_FIELD, request)) as stream:
        while True:
            answer = receive_message(stream)
            if answer[1] == [END]:
                return found
            for each in answer.get(2, []):
                assert isinstance(each, bytes)
                (identity,) = parse(each)[1]
                assert isinstance(identity, bytes)
                found.add(base58.b58encode(identity).decode())


@contextlib.contextmanager
def table(processes: Processes, program: Path, size: int) -> Iterator[Sequence[GoPeer]]:
    """So many daemons on loopback, each of which knows a few others."""
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(go_peer(processes, program, OPTIONS)) for _ in range(size)]
        for number, node in enumerate(nodes):
            for step in NEIGHBOURS:
                node.connect(nodes[(number + step) % size].address)
        yield nodes
