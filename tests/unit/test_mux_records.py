import os
from itertools import pairwise

import pytest
from noise.connection import NoiseConnection

from swarm.errors import RemoteError
from swarm.mux.mux_limits import AES_MAX_NONCE, NOISE_MAX_NONCE, NOISE_MAX_PLAINTEXT, NOISE_MAX_SEALED
from swarm.mux.records import AES, CHACHA, SEAL_RECORDS, SEALED_BYTES, Blocks, Opener, Sealer
from tests.support.records import Arriving, Plaintexts, sealed

KEY = bytes(range(32))


def opened(opener: Opener, data: bytes) -> list[bytes]:
    return Arriving(opener).opened(data)


def noise_pair(cipher: str) -> tuple[NoiseConnection, NoiseConnection]:
    first, second = (NoiseConnection.from_name(f"Noise_NN_25519_{cipher}_SHA256".encode()) for _ in range(2))
    first.set_as_initiator()
    second.set_as_responder()
    first.start_handshake()
    second.start_handshake()
    second.read_message(first.write_message())
    first.read_message(second.write_message())
    return first, second


@pytest.mark.parametrize(("name", "cipher"), [("ChaChaPoly", CHACHA), ("AESGCM", AES)])
def test_noiseprotocol_opens_what_we_seal_and_we_open_what_it_seals(name, cipher):
    first, second = noise_pair(name)
    sending = first.noise_protocol.cipher_state_encrypt
    receiving = first.noise_protocol.cipher_state_decrypt
    sealer, opener = Sealer(sending.k, sending.n, cipher), Opener(receiving.k, receiving.n, cipher)
    for size in (1, 100, NOISE_MAX_PLAINTEXT):
        message = os.urandom(size)
        assert second.decrypt(sealer.seal(message)[2:]) == message
        record = second.encrypt(message)
        assert opened(opener, len(record).to_bytes(2, "big") + record) == [message]


def test_a_long_plaintext_becomes_full_records():
    data = os.urandom(2 * NOISE_MAX_PLAINTEXT + 5)
    records = Sealer(KEY, 0).seal(data)
    assert len(records) == len(data) + 3 * 18
    assert b"".join(opened(Opener(KEY, 0), records)) == data


def test_every_record_needs_its_own_nonce():
    sealer = Sealer(KEY, 0)
    first, second = sealer.seal(b"same"), sealer.seal(b"same")
    assert first != second
    with pytest.raises(RemoteError, match="forged"):
        opened(Opener(KEY, 0), second)
    assert opened(Opener(KEY, 1), second) == [b"same"]


@pytest.mark.parametrize("position", [0, 1, 2, 5, 20])
def test_one_flipped_bit_is_found(position):
    record = bytearray(Sealer(KEY, 0).seal(b"hello"))
    record[position] ^= 1
    arriving = Arriving(Opener(KEY, 0))
    try:
        assert arriving.opened(bytes(record)) == []
    except RemoteError:
        return
    # The flipped bit made the record longer: it is found forged once so much has come.
    with pytest.raises(RemoteError, match="forged"):
        arriving.opened(bytes(NOISE_MAX_SEALED))


def test_a_record_shorter_than_its_tag_is_refused():
    with pytest.raises(RemoteError, match="tag"):
        opened(Opener(KEY, 0), b"\x00\x0f" + bytes(15))


def test_records_before_a_forged_one_are_delivered():
    good = Sealer(KEY, 0).seal(b"good")
    sink = Plaintexts()
    with pytest.raises(RemoteError):
        Opener(KEY, 0).open(memoryview(good + good), Blocks(), sink)
    assert sink.found == [b"good"]


@pytest.mark.parametrize("sizes", [[], [5], [12, 65_507], [12, 65_508], [12, 3, 200_000, 12, 70_000, 1]])
def test_what_fills_a_record_comes_alone_and_the_rest_together(sizes):
    parts = [memoryview(os.urandom(size)) for size in sizes]
    plaintexts = opened(Opener(KEY, 0), sealed(Sealer(KEY, 0), parts))
    assert b"".join(plaintexts) == b"".join(parts)
    lengths = [len(plaintext) for plaintext in plaintexts]
    assert lengths.count(NOISE_MAX_PLAINTEXT) >= sum(size // NOISE_MAX_PLAINTEXT for size in sizes)
    # Two short ones in a row would have been one.
    assert all(NOISE_MAX_PLAINTEXT in pair for pair in pairwise(lengths))


def test_the_longest_step_has_room_for_all_its_records():
    parts = []
    for _ in range(SEAL_RECORDS - 1):
        parts += [bytes(12), bytes(NOISE_MAX_PLAINTEXT)]
    parts.append(bytes(SEAL_RECORDS * NOISE_MAX_PLAINTEXT - sum(map(len, parts))))
    out = memoryview(bytearray(SEALED_BYTES))
    size = Sealer(KEY, 0).seal_parts(parts, memoryview(bytearray(NOISE_MAX_PLAINTEXT)), out)
    assert SEALED_BYTES - 40 <= size <= SEALED_BYTES


def test_a_record_is_opened_into_the_room_that_there_is_for_it():
    room = memoryview(bytearray(100_000))

    class Placing(Plaintexts):
        filled = 0

        def room(self):
            return room[self.filled :]

        def placed(self, size):
            self.filled += size

    data, sink = os.urandom(3 * NOISE_MAX_PLAINTEXT), Placing()
    Opener(KEY, 0).open(memoryview(Sealer(KEY, 0).seal(data)), Blocks(), sink)
    assert sink.filled == NOISE_MAX_PLAINTEXT
    assert bytes(room[: sink.filled]) + b"".join(sink.found) == data


def test_too_much_for_one_record_is_a_mistake_of_ours_and_takes_no_nonce():
    sealer = Sealer(KEY, 0)
    room = memoryview(bytearray(70_000))
    with pytest.raises(ValueError, match="no room"):
        sealer.seal_into(memoryview(bytes(NOISE_MAX_PLAINTEXT + 1)), room)
    with pytest.raises(ValueError, match="no room"):
        sealer.seal_into(memoryview(b"hello"), room[:22])
    size = sealer.seal_into(memoryview(b"hello"), room)
    assert opened(Opener(KEY, 0), bytes(room[:size])) == [b"hello"]


@pytest.mark.parametrize(("cipher", "last"), [(CHACHA, NOISE_MAX_NONCE), (AES, AES_MAX_NONCE)])
def test_the_last_nonce_is_never_passed(cipher, last):
    sealer, opener = Sealer(KEY, last, cipher), Opener(KEY, last, cipher)
    record = sealer.seal(b"last")
    assert opened(opener, record) == [b"last"]
    with pytest.raises(RemoteError, match="nonces"):
        sealer.seal(b"one too many")
    with pytest.raises(RemoteError, match="nonces"):
        opened(opener, record)
