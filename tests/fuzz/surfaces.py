"""The surfaces that are fuzzed, each with its oracle and with seeds to begin from.

A surface takes any bytes. It returns, or raises what proves a fault: an exception that is not the
declared one, a value that does not encode to what it was read from, another result when the same
bytes come in other parts. `check_memory` measures what one input costs.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_interface

from blake3 import blake3
from xxhash import xxh3_128_digest

from swarm.content.envelope import Envelope
from swarm.content.journal import HEADER_BYTES, Header, encode_header, encode_stored, replay
from swarm.content.manifest import FileEntry, LinkEntry, Manifest
from swarm.content.signature import sign
from swarm.discovery.lan_scope import Interface, believed
from swarm.endpoint import Endpoint
from swarm.errors import ManifestError, RemoteError
from swarm.ids import ManifestId, PeerId, SourceId
from swarm.mux import frames as yamux
from swarm.mux.connection import Connection
from swarm.mux.mux_limits import NOISE_MAX_SEALED, MuxLimits
from swarm.mux.records import BLOCK_BYTES, Blocks, Opener, Sealer, missing
from swarm.mux.stream import Read, Stream, WindowBudget
from swarm.protocol import advert, codec, dns_message, lan_records, messages, packing
from tests.support.contents import file_manifest, folder_manifest
from tests.support.records import Arriving, take_all
from tests.support.wire_decoder import Decoder, Frame

MAX_INPUT = 4096
"""Bytes of one input at most."""
SLACK = 64 * 1024
"""What an input may cost beyond twice its size."""


class Broken(AssertionError):
    """An oracle was violated."""


@dataclass(frozen=True)
class Surface:
    """``run`` raises for a fault; ``seeds`` are sound inputs."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    # Bytes that one input may keep whatever its size, because a named limit says so.
    allowance: int = 0
    # Bytes of one input: long enough for every structure, short enough for many thousands a second.
    max_input: int = 512


def check_memory(surface: Surface, data: bytes) -> None:
    """Raise `Broken` if the run of ``data`` needs more than twice its size and `SLACK` at any time."""
    surface.run(data)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        surface.run(data)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    if peak > 2 * len(data) + SLACK + surface.allowance:
        raise Broken(f"{surface.name}: {peak} bytes of memory for {len(data)} of input")


def parts(data: bytes) -> Iterator[bytes]:
    """``data`` cut into a few parts, or into many small ones, as its own bytes say: a run can be repeated."""
    if not data:
        return
    few = 1 + len(data) // (2 + data[0] % 3)
    size = 1 + data[0] % 3 if data[-1] % 16 == 3 else few
    for start in range(0, len(data), size):
        yield data[start : start + size]


def same(one: object, other: object, what: str) -> None:
    if one != other:
        raise Broken(f"{what}: {one!r:.300} is not {other!r:.300}")


# --- The wire codec ---------------------------------------------------------------------------------

_ARRAY = 4


def _frames(pieces: Iterable[bytes]) -> tuple[list[Frame], str]:
    decoder, frames = Decoder(), []
    try:
        for piece in pieces:
            frames += decoder.feed(piece)
    except RemoteError as error:
        return frames, str(error)
    return frames, ""


def _until_error(data: bytes) -> tuple[bytes, str]:
    """What all frames before the first refused one encode to."""
    again = bytearray()
    at = 0
    while len(data) - at >= codec.HEADER_BYTES:
        try:
            kind, size = codec.decode_header(data[at : at + codec.HEADER_BYTES])
            body = data[at + codec.HEADER_BYTES : at + codec.HEADER_BYTES + size]
            if len(body) < size:
                break
            if kind == codec.DATA:
                message: messages.Message = codec.decode_data_head(body[: codec.DATA_HEAD_BYTES], size)
                again += codec.encode(message) + body[codec.DATA_HEAD_BYTES :]
            elif kind == codec.PACKED:
                message = codec.decode_packed_head(body[: codec.PACKED_HEAD_BYTES], size)
                again += codec.encode(message) + body[codec.PACKED_HEAD_BYTES :]
            else:
                again += codec.encode(codec.decode_body(kind, body))
        except RemoteError as error:
            return bytes(again), str(error)
        at += codec.HEADER_BYTES + size
    return bytes(again), ""


def run_codec(data: bytes) -> None:
    """A stream of frames: sound ones encode to what they were read from, however they arrive."""
    again, error = _until_error(data)
    same(again, data[: len(again)], "re-encoded frames")
    frames, other = _frames(parts(data))
    same(other, error, "the error under another chunking")
    if not error:
        whole = b"".join(codec.encode(frame.message) + frame.payload for frame in frames)
        same(whole, again, "the frames under another chunking")
    if not data or data[0] >> 5 != _ARRAY:
        return  # an advertisement is a list, and no frame begins like one
    try:
        adverts = advert.decode_adverts(data)
    except RemoteError:
        return
    same(advert.encode_adverts(adverts), data, "re-encoded adverts")


def codec_seeds() -> Iterator[bytes]:
    peer = PeerId("12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB")
    other = PeerId("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
    hello = messages.Hello(
        ManifestId(bytes(range(32))), 1000, "swarm/0.1", ("/ip4/192.0.2.1/tcp/4001",), (("dht", 1),)
    )
    every: list[messages.Message] = [
        hello,
        messages.HaveBitfield(b"\xf0\x0f"),
        messages.HaveAll(),
        messages.HaveNone(),
        messages.Have((1, 2, 70000)),
        messages.Withdraw(3),
        messages.Interested(),
        messages.NotInterested(),
        messages.Choke(),
        messages.Unchoke(),
        messages.Request(7),
        messages.Cancel(7),
        messages.Reject(7, messages.RejectReason.BUSY),
        messages.KeepAlive(),
        messages.Peers((messages.ExchangedPeer(peer, ("/ip6/::1/tcp/1",)),), (other,)),
        messages.Goodbye("that was all"),
        messages.Restate(b"\xf0\x0f"),
    ]
    for message in every:
        yield codec.encode(message)
    yield codec.encode_data_head(7, 0, 20) + bytes(20)
    yield codec.encode_packed_head(7, 0, 20, 10) + bytes(10)
    yield b"".join(map(codec.encode, every)) + codec.encode_data_head(7, 20, 5) + bytes(5)
    offers = [
        advert.Advert(ManifestId(bytes([number]) * 32), f"name {number}", 10**6, 62, 16384, 40)
        for number in range(2)
    ]
    yield advert.encode_adverts(offers)
    yield advert.encode_adverts([])


# --- Packed payload ---------------------------------------------------------------------------------


def run_packed(data: bytes) -> None:
    """Two bytes of size and a frame: it is refused, or it is so many bytes and no other size fits it."""
    size, frame = int.from_bytes(data[:2], "big") + 1, data[2:]
    try:
        payload = packing.unpack(frame, size)
    except RemoteError:
        return
    same(len(payload), size, "the size of what was packed")
    for other in (size - 1, size + 1):
        try:
            packing.unpack(frame, other)
        except RemoteError:
            continue
        raise Broken(f"a frame of {size} bytes passes as one of {other}")
    again = packing.pack(payload)
    if again is not None:
        same(packing.unpack(again, size), payload, "packed again")


def packed_seeds() -> Iterator[bytes]:
    for payload in (bytes(1000), b"some text, some text, some text" * 40, bytes(range(256)) * 200):
        frame = packing.pack(payload)
        if frame is not None:
            yield (len(payload) - 1).to_bytes(2, "big") + frame
            yield (len(payload) - 1).to_bytes(2, "big") + frame + frame


# --- Manifests and envelopes ------------------------------------------------------------------------


def run_manifest(data: bytes) -> None:
    """A ``.swarm`` file, or the manifest in one: what is accepted encodes to the same bytes."""
    try:
        envelope = Envelope.from_bytes(data)
    except ManifestError as error:
        _check_line(error)
    else:
        same(envelope.to_bytes(), data, "the envelope encoded again")
        _check_manifest(envelope.manifest)
    try:
        manifest = Manifest.decode(data)
    except ManifestError as error:
        _check_line(error)
        return
    same(manifest.encode(), data, "the manifest encoded again")
    _check_manifest(manifest)


def _check_line(error: ManifestError) -> None:
    if "\n" in str(error) or len(str(error)) > 500:
        raise Broken(f"not one line: {error!r:.600}")


def _check_manifest(manifest: Manifest) -> None:
    files, links, empty = manifest.files, manifest.links, manifest.empty_folders
    # Format 2 where format 1 suffices is read, and not made.
    if manifest.version == 1 or links or empty:
        built = Manifest(manifest.name, manifest.folder, manifest.piece_length, files, links, empty)
        same(built.encode(), manifest.encode(), "the manifest built again")
    same(len(list(manifest.item_paths())), len(set(manifest.item_paths())), "the paths")
    same(sum(entry.length for entry in manifest.files), manifest.total_length, "the length")
    same(sum(len(entry.pieces) for entry in manifest.files), 32 * manifest.piece_count, "the pieces")


def manifest_seeds() -> Iterator[bytes]:
    things = folder_manifest("things", {"a/é": b"x" * 16385, "a/b": b"", "c": b"1", "d/e/f": b"22"})
    single = file_manifest("hi.txt", b"hello, swarm\n")
    runs = Manifest("x", True, 16384, [FileEntry(("x",), 1, True, *(blake3(b"1").digest(),) * 2)])
    links = [LinkEntry(("a", "l"), "../c"), LinkEntry(("z",), "none")]
    whole = Manifest("things", True, 16384, things.files, links, [("g", "h"), ("é",)])
    for manifest in (things, single, runs, whole, folder_manifest("empty", {})):
        yield manifest.encode()
        yield Envelope(manifest).to_bytes()
        yield Envelope(manifest, sign(bytes(range(32)), manifest.encode())).to_bytes()


# --- The journal ------------------------------------------------------------------------------------

_HEADER = Header(ManifestId(bytes(32)), 100 * 16384, 100)
_BEGIN = encode_header(_HEADER)
_SEED = int.from_bytes(_BEGIN[-16:-8], "big")
_ENTRY_BYTES = {ord("S"): 20}


def run_journal(data: bytes) -> None:
    """A journal as it is, and one whose checksums all fit: replay never raises and never guesses."""
    _check_replay(data)
    _check_replay(_mended(data))


def _check_replay(data: bytes) -> None:
    said = replay(data, _HEADER)
    if said.header is None:
        same(said.valid_length, 0, "the sound length without a header")
        return
    if not HEADER_BYTES <= said.valid_length <= len(data):
        raise Broken(f"{said.valid_length} of {len(data)} bytes are sound")
    stored = said.fingerprints.stored()
    if said.header == _HEADER and any(piece >= _HEADER.piece_count for piece in stored):
        raise Broken("a piece that does not exist")
    if said.valid_length == HEADER_BYTES:
        return
    again = replay(data[: said.valid_length], _HEADER)
    same(again.fingerprints.stored(), stored, "the sound part alone")
    same(again.valid_length, said.valid_length, "the sound part's length")
    # A torn end takes away the record that it tears and nothing before it.
    torn = replay(data[: said.valid_length - 1], _HEADER)
    if torn.valid_length >= said.valid_length:
        raise Broken("a torn record counts")


def _mended(data: bytes) -> bytes:
    """``data`` read as records, each given the checksum that it needs to count."""
    out, at = bytearray(_BEGIN), 0
    while at + 5 <= len(data):
        size = _ENTRY_BYTES.get(data[at], 4)
        # Counts stay small, or one record would swallow the rest of nearly every input.
        count = int.from_bytes(data[at + 1 : at + 5], "big") % 9
        record = data[at : at + 1] + count.to_bytes(4, "big") + data[at + 5 : at + 5 + count * size]
        out += record + xxh3_128_digest(record, _SEED)
        at += 5 + count * size
    return bytes(out + data[at:])


def journal_seeds() -> Iterator[bytes]:
    claims = {piece: bytes([piece]) * 16 for piece in (0, 3, 99)}
    stored, again = encode_stored(_HEADER, claims), encode_stored(_HEADER, {3: bytes(16)})
    yield _BEGIN
    yield _BEGIN + stored
    yield _BEGIN + stored + again + stored
    yield encode_header(Header(ManifestId(bytes(32)), 1, 1)) + stored
    # For `_mended`: records without checksums.
    yield stored[:-16] + again[:-16]


# --- The link: Noise records, then Yamux frames -----------------------------------------------------

_KEY = bytes(32)
_WARM = Blocks()
_BUDGET = WindowBudget()
_LIMITS = MuxLimits(inbound_streams=8, accept_backlog=8, control_frames=10**6)


def run_link(data: bytes) -> None:
    """Frames of one record; of every fourth input also in several, or as ciphertext that nobody sealed.

    The last byte chooses, so that most executions are quick.
    """
    whole = _outcome(lambda core: core.receive(*_block(data)))
    if data and data[-1] % 4 == 3:
        sealer = Sealer(_KEY, 0)
        records = b"".join(sealer.seal(part) for part in parts(data))
        same(_outcome(lambda core: _open(parts(records), core)), whole, "the link under another chunking")
        same(_outcome(lambda core: _open(parts(records), core), wait=True), whole, "the link with a reader")
    elif data and data[-1] % 4 == 2:
        _refuse_forged(data)


def _refuse_forged(data: bytes) -> None:
    arriving = Arriving(Opener(_KEY, 0), _WARM)
    try:
        for part in parts(data):
            if arriving.opened(part):
                raise Broken("a record that nobody sealed was opened")
    except RemoteError:
        pass
    if missing(arriving.rest) > NOISE_MAX_SEALED:
        raise Broken(f"{missing(arriving.rest)} bytes awaited")


def _open(records: Iterable[bytes], core: Connection) -> None:
    arriving = Arriving(Opener(_KEY, 0), _WARM)
    for part in records:
        arriving.feed(part, core)


def _block(data: bytes) -> tuple[bytearray, int]:
    block = _WARM.take()
    block[: len(data)] = data
    return block, len(data)


def _outcome(bring: Callable[[Connection], None], *, wait: bool = False) -> tuple[object, ...]:
    """What one end makes of what ``bring`` brings; with ``wait``, its own stream has a reader that waits."""
    core = Connection(initiator=True, blocks=_WARM, budget=_BUDGET, limits=_LIMITS)
    mine = core.open()
    if wait:
        mine.reading = Read(memoryview(bytearray(32)), 1)
    error = ""
    try:
        bring(core)
    except RemoteError as caught:
        error = str(caught)
    answers = take_all(core)
    states = [
        (number, _unread(stream), stream.ending, stream.receiving, stream.send_window)
        for number, stream in core.streams.items()
    ]
    core.connection_lost()
    return error, answers, states, core.peer_leaving


def _unread(stream: Stream) -> bytes:
    placed = bytes(stream.reading.buffer[: stream.reading.filled]) if stream.reading else b""
    return placed + stream.inbox.take(1 << 30)


def link_seeds() -> Iterator[bytes]:
    body = b"some bytes of a stream"
    opened = yamux.encode(yamux.WINDOW_UPDATE, yamux.SYN, 2, 0)
    data = yamux.encode(yamux.DATA, 0, 2, len(body)) + body
    mine = yamux.encode(yamux.WINDOW_UPDATE, yamux.ACK, 1, 4096)
    for flags in (0, yamux.FIN, yamux.RST, yamux.ACK):
        yield opened + data + yamux.encode(yamux.DATA, flags, 2, 3) + b"end"
    yield mine + yamux.encode(yamux.DATA, 0, 1, len(body)) + body
    yield yamux.encode(yamux.PING, yamux.SYN, 0, 77) + yamux.encode(yamux.PING, yamux.ACK, 0, 78)
    yield yamux.encode(yamux.GO_AWAY, 0, 0, 1) + opened + data
    yield b"".join(yamux.encode(yamux.DATA, yamux.SYN, number, 1) + b"x" for number in range(2, 22, 2))
    yield Sealer(_KEY, 1).seal(opened + data)


_NETWORK = Interface(7, "eth0", (ip_interface("192.168.1.5/24"), ip_interface("fe80::5/64")))
_LABEL = "4b3d9c7e0a125f68"
_ANN = PeerId(SourceId("12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"))


def run_lan(data: bytes) -> None:
    """A packet of multicast DNS: what is read is written and read again, and names no address elsewhere."""
    lan_records.concerns_us(data)
    try:
        message = dns_message.decode_message(data)
    except dns_message.MalformedDns:
        return
    same(dns_message.decode_message(dns_message.encode_message(message)), message, "a message read again")
    lan_records.asked_for(message, _LABEL, lan_records.SERVICES)
    found = lan_records.sightings(message, lan_records.SERVICES)
    if len(found) > lan_records.MAX_FOUND:
        raise Broken(f"{len(found)} peers of one packet")
    for each in found:
        for endpoint in believed(_NETWORK, each.endpoints, "192.168.1.9"):
            if not (endpoint.host.startswith("192.168.1.") or endpoint.host.endswith("%eth0")):
                raise Broken(f"{endpoint} is in another network")


def lan_seeds() -> Iterator[bytes]:
    near = [Endpoint.parse(f"/ip4/192.168.1.{number}/tcp/4001") for number in range(6, 12)]
    both = [*near[:2], Endpoint.parse("/ip6/fe80::9/tcp/4001"), Endpoint.parse("/ip4/10.1.1.1/tcp/1")]
    for endpoints in (near, both, ()):
        for services in (lan_records.SERVICES, (lan_records.OWN_SERVICE,)):
            yield lan_records.announcement(_LABEL, _ANN, endpoints, services)
    yield lan_records.announcement(_LABEL, _ANN, both, lan_records.SERVICES, 0)
    yield lan_records.query(lan_records.SERVICES)
    yield lan_records.query(
        lan_records.SERVICES, [(service, (b"abc", *service), 60) for service in lan_records.SERVICES]
    )


SURFACES = {
    surface.name: surface
    for surface in (
        Surface("codec", run_codec, codec_seeds),
        Surface("manifest", run_manifest, manifest_seeds, max_input=MAX_INPUT),
        # The window that a frame may ask for.
        Surface("packed", run_packed, packed_seeds, allowance=4 << packing.WINDOW_BITS),
        Surface("journal", run_journal, journal_seeds),
        # The block that a record is opened into.
        Surface("link", run_link, link_seeds, allowance=BLOCK_BYTES, max_input=192),
        # The labels of the names of one message, each of which may be a pointer to the same bytes.
        Surface(
            "lan",
            run_lan,
            lan_seeds,
            allowance=2 * 64 * dns_message.MAX_ENTRIES * dns_message.MAX_LABELS,
            max_input=1500,
        ),
    )
}
