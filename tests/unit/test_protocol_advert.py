import dataclasses

import pytest

from swarm.content import cbor
from swarm.errors import LocalProtocolError, RemoteError
from swarm.ids import ManifestId
from swarm.protocol import protocol_limits as limits
from swarm.protocol.advert import (
    LENGTH_BYTES,
    Advert,
    decode_adverts,
    decode_length,
    encode_adverts,
    encode_length,
)

ADVERT = Advert(ManifestId(bytes(32)), "Fotos été", 12345, 7, 16384, 3)


def test_adverts_round_trip():
    other = dataclasses.replace(ADVERT, manifest=ManifestId(b"1" * 32), name="b")
    assert decode_adverts(encode_adverts([ADVERT, other])) == (ADVERT, other)
    assert decode_adverts(encode_adverts([])) == ()


def test_the_largest_advertisement_fits():
    adverts = [
        dataclasses.replace(ADVERT, manifest=ManifestId(index.to_bytes(32, "big")), name="n" * 255)
        for index in range(limits.MAX_ADVERTS)
    ]
    body = encode_adverts(adverts)
    assert len(body) <= limits.MAX_ADVERTS_BYTES
    assert decode_adverts(body) == tuple(adverts)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../etc"},
        {"name": "a\x1b[31m"},
        {"name": ""},
        {"have": 8},
        {"pieces": 1_500_001},
        {"piece_length": 1},
        {"size": 1 << 60},
    ],
)
def test_impossible_adverts_are_neither_sent_nor_taken(change):
    with pytest.raises(LocalProtocolError):
        encode_adverts([dataclasses.replace(ADVERT, **change)])
    fields = cbor.decode(encode_adverts([ADVERT]), max_bytes=10_000)
    fields[0].update(change)
    with pytest.raises(RemoteError) as caught:
        decode_adverts(cbor.encode(fields))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [{}, [1], [{}], [{"id": b"x"}], None])
def test_other_values_are_refused(value):
    with pytest.raises(RemoteError):
        decode_adverts(cbor.encode(value))


def test_a_manifest_advertised_twice_is_refused():
    with pytest.raises(LocalProtocolError):
        encode_adverts([ADVERT, ADVERT])


def test_a_length_is_checked_before_its_answer_is_read():
    assert decode_length(encode_length(100), 100) == 100
    assert len(encode_length(5)) == LENGTH_BYTES
    with pytest.raises(RemoteError):
        decode_length(encode_length(101), 100)
