"""DNS messages: what is written is read, what others write is read, what is malformed is refused."""

from __future__ import annotations

import random

import pytest

from swarm.protocol.dns_message import (
    AAAA,
    MAX_ENTRIES,
    MAX_MESSAGE_BYTES,
    PTR,
    SRV,
    TXT,
    A,
    DnsMessage,
    MalformedDns,
    Name,
    Question,
    Record,
    Service,
    decode_message,
    encode_message,
    name_of,
)

SERVICE = name_of("_p2p._udp.local")
INSTANCE = (b"abc", *SERVICE)
ANSWER = DnsMessage(
    response=True,
    records=(
        Record(SERVICE, PTR, INSTANCE, 120),
        Record(INSTANCE, TXT, (b"dnsaddr=/ip4/192.0.2.1/tcp/1/p2p/x", b"a"), 120, flush=True),
        Record(INSTANCE, SRV, Service(4001, (b"abc", b"local")), 120, flush=True),
        Record((b"abc", b"local"), A, bytes((192, 0, 2, 1)), 120, flush=True),
        Record((b"abc", b"local"), AAAA, bytes(16), 0),
    ),
)


def test_what_is_written_is_read() -> None:
    query = DnsMessage(response=False, questions=(Question(SERVICE, PTR), Question(INSTANCE, TXT, True)))
    for message in (ANSWER, query):
        assert decode_message(encode_message(message)) == message
    assert encode_message(ANSWER).count(b"_udp") == 1, "a name is written once and pointed to"


def test_names_are_compared_without_case_and_may_be_pointers_to_pointers() -> None:
    header = bytes.fromhex("0000 8400 0000 0002 0000 0000")
    name = b"\x04_P2p\x04_UDP\x05local\x00"
    first = name + bytes.fromhex("000c 0001 00000078 0006") + b"\x03ABC\xc0\x0c"
    # The second record's name is a pointer to the value of the first, which ends in a pointer itself.
    at = len(header) + len(name) + 10
    second = bytes((0xC0, at)) + bytes.fromhex("0010 8001 00000078 0002") + b"\x01k"
    message = decode_message(header + first + second)
    assert message.records == (
        Record(SERVICE, PTR, INSTANCE, 120),
        Record(INSTANCE, TXT, (b"k",), 120, flush=True),
    )


def _with_name(name: bytes) -> bytes:
    return bytes.fromhex("0000 0000 0001 0000 0000 0000") + name + bytes.fromhex("000c 0001")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(11),
        bytes(MAX_MESSAGE_BYTES + 1),
        encode_message(ANSWER)[:-1],
        # A pointer to itself, one forward, a label of an unknown kind, one beyond the end.
        _with_name(b"\xc0\x0c"),
        _with_name(b"\x01a\xc0\x10"),
        _with_name(b"\x80a\x00"),
        _with_name(b"\x3fa\x00"),
        # Too many labels, a name that is too long.
        _with_name(b"\x01a" * 17 + b"\x00"),
        _with_name((b"\x3f" + b"a" * 63) * 4 + b"\x00"),
        # Another opcode, an error.
        bytes.fromhex("0000 2800 0000 0000 0000 0000"),
        bytes.fromhex("0000 8403 0000 0000 0000 0000"),
        # More records than are read.
        bytes.fromhex("0000 8400 0000") + (MAX_ENTRIES + 1).to_bytes(2, "big") + bytes(4),
        # An address of three bytes, a text that is cut off by its record.
        bytes.fromhex("0000 8400 0000 0001 0000 0000 00 0001 0001 00000078 0003 c00002"),
        bytes.fromhex("0000 8400 0000 0001 0000 0000 00 0010 0001 00000078 0002 0561 6162636465"),
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedDns):
        decode_message(data)


def test_records_of_no_interest_are_left_out() -> None:
    unknown = bytes.fromhex("00 002f 0001 00000078 0001 00")
    other_class = bytes.fromhex("00 0001 0003 00000078 0004 c0000201")
    data = bytes.fromhex("0000 8400 0000 0002 0000 0000") + unknown + other_class
    assert decode_message(data) == DnsMessage(response=True)


@pytest.mark.parametrize(
    "name", [(b"",), (b"a" * 64,), (b"a" * 60,) * 5], ids=["empty label", "long label", "long name"]
)
def test_what_dns_cannot_hold_is_not_written(name: Name) -> None:
    with pytest.raises(ValueError, match=r"label|name"):
        encode_message(DnsMessage(response=False, questions=(Question(name, PTR),)))
    with pytest.raises(ValueError, match="text"):
        encode_message(DnsMessage(response=True, records=(Record(SERVICE, TXT, (bytes(256),), 1),)))


def test_mutated_packets_raise_nothing_else() -> None:
    rng = random.Random(7)
    sound = encode_message(ANSWER)
    for _ in range(20_000):
        data = bytearray(sound)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.choice((0, 0xC0, 0xFF, rng.randrange(256)))
        try:
            decode_message(bytes(data[: rng.randint(0, len(data))]) if rng.random() < 0.2 else bytes(data))
        except MalformedDns:
            continue
