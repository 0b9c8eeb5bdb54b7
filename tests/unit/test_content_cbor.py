from __future__ import annotations

import tracemalloc

import cbor2
import pytest

from swarm.content import cbor

LIMIT = 1 << 20

SOUND = [
    (0, "00"),
    (23, "17"),
    (24, "1818"),
    (255, "18ff"),
    (256, "190100"),
    (65536, "1a00010000"),
    ((1 << 64) - 1, "1bffffffffffffffff"),
    (-1, "20"),
    (-(1 << 64), "3bffffffffffffffff"),
    (True, "f5"),
    (False, "f4"),
    (None, "f6"),
    (b"", "40"),
    (b"\x01\x02", "420102"),
    ("", "60"),
    ("ü", "62c3bc"),
    ([], "80"),
    ([1, [2]], "82018102"),
    ({}, "a0"),
    ({"b": 1, "aa": 2}, "a2616201626161" + "02"),
]

UNSOUND = {
    "nothing": "",
    "long one": "1801",
    "long two": "1900ff",
    "long three": "1a0000ffff",
    "long four": "1b00000000ffffffff",
    "long negative": "3801",
    "long text": "780161",
    "indefinite bytes": "5f4101ff",
    "indefinite text": "7f6161ff",
    "indefinite array": "9f01ff",
    "indefinite map": "bf616101ff",
    "break": "ff",
    "reserved": "1c",
    "half float": "f93c00",
    "single float": "fa3f800000",
    "double float": "fb3ff0000000000000",
    "undefined": "f7",
    "simple": "e0",
    "long simple": "f8ff",
    "long false": "f814",
    "tag of a date": "c074323031332d30332d32315432303a30343a30305a",
    "tag of a big number": "c249010000000000000000",
    "tag of a link": "d82a4101",
    "tag of shared values": "d81c81d81d00",
    "not UTF-8": "61ff",
    "surrogate": "63eda080",
    "text too short": "6261",
    "bytes too short": "4201",
    "array too short": "8201",
    "map without its value": "a16161",
    "trailing": "0000",
    "integer key": "a10101",
    "bytes key": "a1416101",
    "duplicate key": "a2616101616102",
    "keys out of order": "a2616201616102",
    "longer key first": "a262616101616202",
    "array of more than there is": "9bffffffffffffffff",
    "map of more than there is": "bbffffffffffffffff",
    "bytes of more than there is": "5bffffffffffffffff",
    "text of more than there is": "7bffffffffffffffff",
    "too deep": "81" * 9 + "80",
    "maps too deep": "a16161" * 9 + "a0",
}


@pytest.mark.parametrize(("value", "encoded"), SOUND)
def test_each_value_has_one_encoding(value: cbor.Value, encoded: str) -> None:
    assert cbor.encode(value).hex() == encoded
    decoded = cbor.decode(bytes.fromhex(encoded), max_bytes=LIMIT)
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize("encoded", UNSOUND.values(), ids=UNSOUND.keys())
def test_all_else_is_refused(encoded: str) -> None:
    with pytest.raises(cbor.CborError):
        cbor.decode(bytes.fromhex(encoded), max_bytes=LIMIT)


def test_the_error_is_a_value_error_in_one_line() -> None:
    with pytest.raises(ValueError) as raised:
        cbor.decode(b"\xa1\x61\x1b\x01\x02", max_bytes=LIMIT)
    assert str(raised.value).isprintable()


def test_limits() -> None:
    assert cbor.decode(b"\x43abc", max_bytes=4) == b"abc"
    with pytest.raises(cbor.CborError):
        cbor.decode(b"\x43abc", max_bytes=3)
    assert cbor.decode(b"\x82\x01\x02", max_bytes=LIMIT, max_items=3) == [1, 2]
    with pytest.raises(cbor.CborError):
        cbor.decode(b"\x82\x01\x02", max_bytes=LIMIT, max_items=2)
    with pytest.raises(cbor.CborError):
        cbor.decode(b"\xa1\x61a\x02", max_bytes=LIMIT, max_items=2)
    assert cbor.decode(b"\x81\x80", max_bytes=LIMIT, max_depth=2) == [[]]
    with pytest.raises(cbor.CborError):
        cbor.decode(b"\x81\x80", max_bytes=LIMIT, max_depth=1)
    assert cbor.decode(b"\x01", max_bytes=LIMIT, max_depth=0) == 1


@pytest.mark.parametrize("head", [b"\x9a", b"\xba", b"\x5a", b"\x7a"])
def test_a_claim_costs_nothing(head: bytes) -> None:
    hostile = head + (1 << 31).to_bytes(4, "big")
    tracemalloc.start()
    try:
        with pytest.raises(cbor.CborError):
            cbor.decode(hostile, max_bytes=LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024


def test_every_beginning_ends_too_early() -> None:
    encoded = cbor.encode({"a": [1000, -(1 << 40), b"abc"], "b": {"c": "ü", "d": True}})
    for cut in range(len(encoded)):
        with pytest.raises(cbor.CborError, match="the bytes end too early"):
            cbor.decode(encoded[:cut], max_bytes=LIMIT)


def test_the_reader_names_what_it_wanted() -> None:
    reader = cbor.Reader(cbor2.dumps([1, "a"]))
    assert reader.array(2) == 2
    with pytest.raises(cbor.CborError, match="an unsigned integer instead of text"):
        reader.text(10)
    with pytest.raises(cbor.CborError, match="an unsigned integer instead of a boolean"):
        reader.boolean()
    with pytest.raises(cbor.CborError, match="an unsigned integer instead of null"):
        reader.null()
    with pytest.raises(cbor.CborError, match="bytes follow"):
        reader.end()
    with pytest.raises(cbor.CborError, match="size 1, but at most 0"):
        cbor.Reader(b"\x61a").text(0)
    with pytest.raises(cbor.CborError, match="a map of 1 fields instead of 2"):
        cbor.Reader(b"\xa1").fields(2)


def test_long_byte_strings_are_encoded_as_short_ones_are() -> None:
    for size in (0xFFFF, 0x10000, 0x10001, 1 << 24):
        fields: dict[str, cbor.Value] = {"long": bytes(size), "v": 1, "é": b"", "list": [1, {"b": 1, "a": 2}]}
        assert cbor.encode(fields) == cbor2.dumps(fields, canonical=True)
