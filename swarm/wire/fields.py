"""The named fields of HELLO, PEERS and GOODBYE: checked alike when written and when read.

Everything here raises ValueError with one line; `swarm.wire.codec` says whose fault it was.
"""

from __future__ import annotations

import re

from swarm.content import cbor
from swarm.content.manifest import MAX_PIECES
from swarm.content.paths import printable
from swarm.ids import DIGEST_BYTES, ManifestId, PeerId
from swarm.wire import limits
from swarm.wire.messages import Goodbye, Hello, PeerAddress, Peers

_PEER_ID = re.compile(
    f"[1-9A-HJ-NP-Za-km-z]{{{limits.MIN_PEER_ID_CHARS},{limits.MAX_PEER_ID_CHARS}}}", re.ASCII
)
_ADDRESS = re.compile(f"/[!-~]{{1,{limits.MAX_ADDRESS_BYTES - 1}}}", re.ASCII)
_EXTENSION = re.compile(f"[a-z0-9._-]{{1,{limits.MAX_EXTENSION_NAME_BYTES}}}", re.ASCII)

_HELLO_KEYS = {"version", "manifest", "pieces", "agent", "addresses", "extensions"}
_PEERS_KEYS = {"added", "dropped"}


def encode_hello(hello: Hello) -> bytes:
    """The body of HELLO."""
    _check_hello(hello)
    return cbor.encode(
        {
            "version": hello.version,
            "manifest": hello.manifest.digest,
            "pieces": hello.pieces,
            "agent": hello.agent,
            "addresses": list(hello.addresses),
            "extensions": dict(hello.extensions),
        }
    )


def decode_hello(body: bytes) -> Hello:
    """Read the body of HELLO."""
    found = _map(cbor.decode(body, max_bytes=limits.MAX_HELLO_BYTES), _HELLO_KEYS)
    digest = found["manifest"]
    if not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES:
        raise ValueError(f"'manifest' is {DIGEST_BYTES} bytes")
    extensions = found["extensions"]
    if not isinstance(extensions, dict):
        raise ValueError("'extensions' is a map")  # noqa: TRY004 - one kind of error for all malformed bytes
    hello = Hello(
        manifest=ManifestId(digest),
        pieces=_unsigned(found["pieces"], "pieces"),
        agent=_text(found["agent"], "agent"),
        addresses=_texts(found["addresses"], "addresses"),
        extensions=tuple(sorted((name, _unsigned(value, name)) for name, value in extensions.items())),
        version=_unsigned(found["version"], "version"),
    )
    _check_hello(hello)
    return hello


def encode_peers(peers: Peers) -> bytes:
    """The body of PEERS."""
    _check_peers(peers)
    return cbor.encode(
        {
            "added": [[added.peer, list(added.addresses)] for added in peers.added],
            "dropped": list(peers.dropped),
        }
    )


def decode_peers(body: bytes) -> Peers:
    """Read the body of PEERS."""
    found = _map(cbor.decode(body, max_bytes=limits.MAX_PEERS_BYTES), _PEERS_KEYS)
    added = found["added"]
    if not isinstance(added, list):
        raise ValueError("'added' is a list")  # noqa: TRY004 - as above
    peers = Peers(
        added=tuple(_peer_address(entry) for entry in added),
        dropped=tuple(PeerId(peer) for peer in _texts(found["dropped"], "dropped")),
    )
    _check_peers(peers)
    return peers


def encode_goodbye(goodbye: Goodbye) -> bytes:
    """The body of GOODBYE; the size is checked where the frame is made."""
    _check_line(goodbye.reason, limits.MAX_GOODBYE_BYTES, "reason")
    return goodbye.reason.encode("utf-8")


def decode_goodbye(body: bytes) -> Goodbye:
    """Read the body of GOODBYE."""
    reason = body.decode("utf-8")
    _check_line(reason, limits.MAX_GOODBYE_BYTES, "reason")
    return Goodbye(reason)


def is_peer_id(text: str) -> bool:
    """Whether ``text`` has the shape of a base58 peer id."""
    return _PEER_ID.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Whether ``text`` has the shape of a multiaddr and a legal length."""
    return _ADDRESS.fullmatch(text) is not None


def _check_hello(hello: Hello) -> None:
    if not 0 <= hello.pieces <= MAX_PIECES:
        raise ValueError(f"a manifest has at most {MAX_PIECES} pieces")
    _check_line(hello.agent, limits.MAX_AGENT_BYTES, "agent")
    _check_addresses(hello.addresses)
    names = [name for name, _ in hello.extensions]
    if len(names) > limits.MAX_EXTENSIONS or names != sorted(set(names)):
        raise ValueError(f"at most {limits.MAX_EXTENSIONS} extensions, each once")
    for name, value in hello.extensions:
        if not _EXTENSION.fullmatch(name) or not 0 <= value <= limits.MAX_EXTENSION_VALUE:
            raise ValueError("an extension is a short lower-case name with an unsigned number")


def _check_peers(peers: Peers) -> None:
    if len(peers.added) > limits.MAX_PEERS_ADDED or len(peers.dropped) > limits.MAX_PEERS_DROPPED:
        raise ValueError(f"at most {limits.MAX_PEERS_ADDED} peers are added and as many dropped at once")
    named = [added.peer for added in peers.added] + list(peers.dropped)
    if len(set(named)) != len(named):
        raise ValueError("a peer is named twice")
    for peer in named:
        if not is_peer_id(peer):
            raise ValueError(f"'{printable(peer[: limits.MAX_PEER_ID_CHARS])}' is not a peer id")
    for added in peers.added:
        _check_addresses(added.addresses)


def _check_addresses(addresses: tuple[str, ...]) -> None:
    if len(addresses) > limits.MAX_ADDRESSES_PER_PEER:
        raise ValueError(f"a peer has at most {limits.MAX_ADDRESSES_PER_PEER} addresses")
    for address in addresses:
        if not is_address(address):
            raise ValueError(f"'{printable(address[: limits.MAX_ADDRESS_BYTES])}' is not an address")


def _check_line(text: str, max_bytes: int, name: str) -> None:
    if len(text.encode("utf-8")) > max_bytes:
        raise ValueError(f"'{name}' has at most {max_bytes} bytes")
    if printable(text) != text:
        raise ValueError(f"'{name}' is one printable line")


def _map(value: cbor.Value, keys: set[str]) -> dict[str, cbor.Value]:
    if not isinstance(value, dict) or value.keys() != keys:
        raise ValueError(f"expected a map of {', '.join(sorted(keys))}")
    return value


def _unsigned(value: cbor.Value, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"'{printable(name)}' is an unsigned number")
    return value


def _text(value: cbor.Value, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"'{name}' is text")  # noqa: TRY004 - as above
    return value


def _texts(value: cbor.Value, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"'{name}' is a list")  # noqa: TRY004 - as above
    return tuple(_text(item, name) for item in value)


def _peer_address(value: cbor.Value) -> PeerAddress:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("an added peer is its id and its addresses")
    peer, addresses = value
    return PeerAddress(PeerId(_text(peer, "peer")), _texts(addresses, "addresses"))
