"""The surfaces that are fuzzed, each with its oracle and with seeds to begin from.

A surface takes any bytes. It returns, or raises what proves a fault: an exception that is not the
declared one, a value that does not encode to what it was read from, another result when the same
bytes come in other parts. `check_memory` measures what one input costs.
"""

from __future__ import annotations

import gc
import re
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_interface

from blake3 import blake3
from xxhash import xxh3_128_digest

from swarm.content.envelope import Envelope
from swarm.content.journal import HEADER_BYTES, Header, encode_header, encode_stored, replay
from swarm.content.manifest import FileEntry, LinkEntry, Manifest
from swarm.content.signature import sign
from swarm.daemon.access import TcpAccess
from swarm.daemon.api import _Fields, _wishes
from swarm.daemon.http_messages import BadRequest, HttpConversation, HttpRequest, json_answer
from swarm.daemon.limit_schedule import LimitSchedule
from swarm.daemon.transfer_registry import KeptTransfer
from swarm.daemon.wishes import FurtherOptions, options_of
from swarm.discovery.lan_scope import Interface, believed
from swarm.endpoint import Endpoint
from swarm.errors import ManifestError, RemoteError, UsageError
from swarm.ids import ManifestId, PeerId, SourceId
from swarm.mux import frames as yamux
from swarm.mux.connection import Connection
from swarm.mux.mux_limits import NOISE_MAX_SEALED, MuxLimits
from swarm.mux.records import BLOCK_BYTES, Blocks, Opener, Sealer, missing
from swarm.mux.stream import Read, Stream, WindowBudget
from swarm.origin_url import OriginUrl
from swarm.protocol import advert, codec, dns_message, lan_records, messages, packing, port_mapping
from swarm.protocol.http_range import MOST_RETRY_SECONDS, Fault, Moved, Part, Wish, judge
from swarm.protocol.http_reader import HttpFault, ResponseHead, ResponseReader
from swarm.reach import kad_messages, kad_walk, protobuf
from tests.fuzz.patch_surface import PATCH_WINDOW, patch_seeds, run_patch
from tests.fuzz.reach_surface import reach_seeds, run_reach
from tests.fuzz.release_surface import release_seeds, run_release
from tests.fuzz.session_surface import run_session, session_seeds
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


# --- Responses of web servers -------------------------------------------------------------------------

_WISH = Wish(4, 12, 16)
_REASON = re.compile(r"[ -~]{1,120}", re.ASCII)


def _response(pieces: Iterable[bytes]) -> tuple[object, bytes, bool]:
    """The head, the body as far as it came, and whether the response was refused."""
    reader, body, into = ResponseReader(), bytearray(), memoryview(bytearray(7))
    try:
        for piece in (*pieces, b""):
            if not reader.ended:
                reader.feed(piece)
            while size := reader.take(into):
                body += into[:size]
    except HttpFault as fault:
        if not _REASON.fullmatch(str(fault)):
            raise Broken(f"a reason that repeats what came: {fault}") from fault
        return reader.head, bytes(body), True
    if reader.head is None or not reader.ended:
        raise Broken("a response that neither ends nor is refused")
    if reader.head.length is not None and len(body) != reader.head.length:
        raise Broken(f"{len(body)} bytes of {reader.head.length}")
    return reader.head, bytes(body), False


def run_http(data: bytes) -> None:
    """A response that arrives in parts, every fourth also at once; and what is made of its head."""
    whole = _response(parts(data))
    if data and data[-1] % 4 == 0:
        same(_response([data]), whole, "the response under another chunking")
    head = whole[0]
    if not isinstance(head, ResponseHead):
        return
    match judge(head, _WISH):
        case Part(length):
            if length is not None and not 0 < length <= _WISH.size:
                raise Broken(f"a part of {length} bytes")
        case Fault(reason=reason, retry_after=rest):
            if not _REASON.fullmatch(reason) or not 0 <= rest <= MOST_RETRY_SECONDS:
                raise Broken(f"{reason!r}, {rest} s")
        case Moved(location):
            try:
                moved = _HERE.moved(location)
            except UsageError as error:
                if "S3CR3T" in str(error):
                    raise Broken("an error that tells a secret") from error
                return
            if "S3CR3T" in f"{moved}{moved!r}":
                raise Broken("a URL that tells a secret")


_HERE = OriginUrl("https://S3CR3T:S3CR3T@host.example/folder/?S3CR3T")


def http_seeds() -> Iterator[bytes]:
    lines = (
        b"206 Partial Content\r\nContent-Length: 8\r\nContent-Range: bytes 4-11/16\r\n\r\n4567890a",
        b"200 OK\r\nContent-Length: 16\r\nLast-Modified: x\r\n\r\n0123456789abcdef",
        b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nA: b\r\n\r\n",
        b"200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\nbody to the end",
        b"302 Found\r\nLocation: //user:secret@host.example/x?secret\r\nContent-Length: 0\r\n\r\n",
        b"416 No\r\nContent-Range: bytes */3\r\nContent-Length: 2\r\n\r\nno",
        b"503 Busy\r\nRetry-After: 12\r\nContent-Length: 0\r\n\r\n",
        b"100 Continue\r\n\r\nHTTP/1.1 204 None\r\n\r\n",
        b"404 Not\r\nContent-Length: 1, 1\r\n\r\nx",
    )
    return (b"HTTP/1.1 " + line for line in lines)


# --- Multicast DNS ---

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


# --- The requests of the daemon's API ---------------------------------------------------------------

_ACCESS = TcpAccess(7474, "t" * 43)
_DONE = json_answer(200, {})


def _requests(pieces: Iterable[bytes]) -> tuple[list[HttpRequest], int, bytes]:
    """The requests, the status of the one that is refused (0 for none), and all that is answered."""
    http, requests, answers = HttpConversation(), [], b""
    try:
        for piece in pieces:
            http.receive(piece)
            while (request := http.next_request()) is not None:
                requests.append(request)
                answers += http.answer(_DONE)
                if not http.goes_on:
                    return requests, 0, answers
                http.begin_next()
            if http.has_head:
                http.head()
    except BadRequest as error:
        return requests, error.status, answers + http.answer(json_answer(error.status, {}), last=True)
    except EOFError:
        return requests, 0, answers
    return requests, 0, answers


def run_api(data: bytes) -> None:
    """Requests: the same ones, or the same refusal, however they arrive; only declared errors."""
    requests, status, answers = _requests([data] if data else [])
    if zlib.crc32(data) % 4 == 0:
        # It takes most of the time, so not for each; which ones depends on the input alone.
        same(_requests(parts(data)), (requests, status, answers), "the requests under another chunking")
    if status and not answers.endswith((b"\r\n\r\n{}", b"\r\n\r\n")):
        raise Broken("a refusal is not answered")
    for request in requests:
        for check in (_ACCESS.check, _read_fields):
            try:
                check(request)
            except BadRequest as error:
                same(error.status in {400, 401, 403, 415}, True, "a known status")


_FETCH = KeptTransfer("ab", "fetch", "swarm:x", "/out")


def _read_fields(request: HttpRequest) -> None:
    """Read the body as what is added, and as rules; what is kept of it reads as the same again."""
    fields = request.json()
    try:
        wishes = _wishes(_Fields(dict(fields)))
        kept = wishes.applied(_FETCH)
        same(FurtherOptions.from_text(kept.options), wishes.further, "the options that are kept")
        options_of(kept, private_origins=False)
        schedule = LimitSchedule.parse(_Fields(dict(fields)).texts("schedule"))
        same(LimitSchedule.parse(schedule.texts).lines, schedule.lines, "the schedule that is kept")
    except UsageError:
        pass


def api_seeds() -> Iterator[bytes]:
    head = b"Host: 127.0.0.1:7474\r\nAuthorization: Bearer " + b"t" * 43 + b"\r\n"
    yield b"GET /v1/transfers?since=a-1&wait=20 HTTP/1.1\r\n" + head + b"\r\n"
    body = b'{"link": "swarm:x", "only": ["a"], "paused": true}'
    typed = head + b"Content-Type: application/json\r\n"
    yield b"POST /v1/transfers HTTP/1.1\r\n" + typed + b"Content-Length: %d\r\n\r\n" % len(body) + body
    rules = b'{"schedule": ["mon-fri 08:00-18:00 up 2MB/s", "sat up none"], "ratio": 1.5, "copies": 0}'
    yield b"PATCH /v1/limits HTTP/1.1\r\n" + typed + b"Content-Length: %d\r\n\r\n" % len(rules) + rules
    more = (
        b'{"origins": ["http://a.example/b"], "trusted": ["12D3KooW"], "piece_size": 65536, "max_peers": 2}'
    )
    yield b"POST /v1/transfers HTTP/1.1\r\n" + typed + b"Content-Length: %d\r\n\r\n" % len(more) + more
    chunked = b"Transfer-Encoding: chunked\r\n\r\n3\r\n{} \r\n0\r\n\r\n"
    yield b"PATCH /v1/transfers/%61 HTTP/1.1\r\nExpect: 100-continue\r\n" + typed + chunked
    first = b"HEAD / HTTP/1.1\r\nHost: localhost:7474\r\nOrigin: http://a\r\n\r\n"
    yield first + b"DELETE /v1/transfers/a HTTP/1.0\r\n\r\n"


_NONCE = bytes(range(12))


def run_router(data: bytes) -> None:
    """An answer of a router, by each protocol: what is granted is an address, a port and seconds."""
    for read in (
        lambda: port_mapping.pcp_answer(data, _NONCE, 4001),
        lambda: port_mapping.pmp_answer(data, 4001),
        lambda: port_mapping.pmp_address(data),
    ):
        try:
            granted = read()
        except port_mapping.MappingRefused:
            continue
        address = granted if isinstance(granted, str) else granted.address if granted else ""
        if address and not Endpoint.parse(f"/ip4/{address}/tcp/1").is_ip:
            raise Broken(f"{address} is no address")
    location = port_mapping.ssdp_location(data, "192.168.1.1")
    if location is not None and not re.match(r"http://192\.168\.1\.1[:/]", location):
        raise Broken(f"{location!r} is elsewhere")


def router_seeds() -> Iterator[bytes]:
    wan = bytes.fromhex("00000000000000000000ffff05050502")
    yield bytes.fromhex("0281000000000708") + bytes(16) + _NONCE + bytes.fromhex("060000000fa11389") + wan
    yield bytes.fromhex("00820000000000070fa1138900000708")
    yield bytes.fromhex("008000000000000705050502")
    yield b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1:5000/rootDesc.xml\r\n\r\n"


_KEY_OF_TABLE = kad_messages.key_of(ManifestId(bytes(32)))


def run_kad(data: bytes) -> None:
    """An answer of a node of a hash table, and a walk that it drives: both bounded, whatever it says."""
    try:
        answer = kad_messages.decode_kad(data)
    except RemoteError:
        return
    for listed in answer:
        if len(listed) > kad_messages.MAX_KAD_PEERS:
            raise Broken(f"{len(listed)} peers of one list")
    first = kad_messages.KadPeer(_ANN, (Endpoint("ip4", "5.5.5.1", "tcp", 1),))
    walk = kad_walk.KadWalk(_KEY_OF_TABLE, [first], _ANN if len(data) % 2 else PeerId(SourceId("")))
    while (node := walk.next()) is not None:
        walk.answered(node.peer, answer.closer)
    if not walk.over or walk.questions > kad_walk.MAX_QUESTIONS:
        raise Broken(f"a walk of {walk.questions} questions")


def kad_seeds() -> Iterator[bytes]:
    other = bytes.fromhex("1220") + bytes(range(32))
    address = bytes.fromhex("04050505070610a1")
    node = protobuf.encode([(1, other), (2, address), (2, address), (3, 1)])
    yield protobuf.encode([(1, 3), (2, _KEY_OF_TABLE), (8, node), (8, node), (9, node)])
    yield protobuf.encode([(1, 4), (8, protobuf.encode([(1, b"nobody")]))])
    yield kad_messages.add_provider(_KEY_OF_TABLE, _ANN, [Endpoint("ip4", "5.5.5.1", "tcp", 1)])


SURFACES = {
    surface.name: surface
    for surface in (
        Surface("codec", run_codec, codec_seeds),
        Surface("manifest", run_manifest, manifest_seeds, max_input=MAX_INPUT),
        # The window that a frame may ask for.
        Surface("packed", run_packed, packed_seeds, allowance=4 << packing.WINDOW_BITS),
        # The window of its index, and of its frames.
        Surface("patch", run_patch, patch_seeds, allowance=4 * PATCH_WINDOW, max_input=1024),
        Surface("journal", run_journal, journal_seeds),
        Surface("api", run_api, api_seeds, allowance=SLACK),
        Surface("reach", run_reach, reach_seeds),
        Surface("release", run_release, release_seeds, max_input=1024),
        Surface("session", run_session, session_seeds, allowance=4 << 20),
        Surface("http", run_http, http_seeds, allowance=SLACK),
        # The block that a record is opened into.
        Surface("link", run_link, link_seeds, allowance=BLOCK_BYTES, max_input=192),
        Surface("router", run_router, router_seeds),
        Surface("kad", run_kad, kad_seeds),
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
