"""Whom a user may trust, and keys that prove nothing."""

from __future__ import annotations

import pytest

from swarm.content.envelope import Envelope
from swarm.content.signature import Signature, is_small_order, parse_signer, peer_id_of, sign
from swarm.errors import ManifestError
from tests.support.contents import file_manifest

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P
MANIFEST = file_manifest("f", b"1")
SIGNED = sign(bytes(32), MANIFEST.encode())


def points_of_small_order() -> set[bytes]:
    """Every encoding, the non-canonical ones included, of a point whose order divides 8."""
    found = set()
    for y in (*range(2), *range(P - 2, P), *_order_eight()):
        for number in (y, y + P):
            if number < 2**255:
                for sign_bit in (0, 1 << 255):
                    found.add((number | sign_bit).to_bytes(32, "little"))
    # y = 0, 1 and -1 are the points of order 4, 1 and 2; 2 and -2 are none.
    return {each for each in found if _y(each) in {0, 1, P - 1} or _y(each) in set(_order_eight())}


def _y(encoded: bytes) -> int:
    return (int.from_bytes(encoded, "little") & (2**255 - 1)) % P


def _order_eight() -> list[int]:
    """y of the points that double to y = 0, so x^2 = -y^2: the roots of d*y^4 + 2*y^2 - 1 = 0."""
    root = _square_root((1 + D) % P)
    solutions = []
    for sign_of_root in (root, P - root):
        square = (sign_of_root - 1) * pow(D, P - 2, P) % P
        y = _square_root(square)
        if y is not None:
            solutions += [y, P - y]
    return solutions


def _square_root(value: int) -> int | None:
    root = pow(value, (P + 3) // 8, P)
    for candidate in (root, root * pow(2, (P - 1) // 4, P) % P):
        if candidate * candidate % P == value % P:
            return candidate
    return None


def test_every_key_of_small_order_is_known() -> None:
    points = points_of_small_order()
    assert len(points) == 14
    assert all(map(is_small_order, points))
    assert not is_small_order(SIGNED.public)


def test_a_key_of_small_order_vouches_for_nothing() -> None:
    # R = identity and S = 0 satisfy the equation for the neutral key and any message.
    neutral = (1).to_bytes(32, "little")
    forged = Signature(neutral, neutral + bytes(32))
    assert not forged.verify(MANIFEST.encode())
    with pytest.raises(ManifestError, match="signature"):
        Envelope(MANIFEST, forged)


def test_a_signer_is_a_peer_id_or_a_key() -> None:
    assert parse_signer(SIGNED.peer_id) == SIGNED.peer_id
    assert parse_signer(SIGNED.public.hex()) == SIGNED.peer_id
    assert parse_signer(SIGNED.public.hex().upper()) == SIGNED.peer_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        "12D3Koo",
        "0" * 64,
        SIGNED.public.hex()[1:],
        "0OIl",
        peer_id_of((1).to_bytes(32, "little")),
        SIGNED.peer_id + "1",
    ],
)
def test_nothing_else_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_signer(text)


def test_an_envelope_knows_whether_its_signer_is_trusted() -> None:
    signed = Envelope(MANIFEST, SIGNED)
    signed.require_signer({SIGNED.peer_id})
    with pytest.raises(ManifestError, match="which is not a signer you trust"):
        signed.require_signer({peer_id_of(bytes(range(32)))})
    with pytest.raises(ManifestError, match="not signed"):
        Envelope(MANIFEST).require_signer({SIGNED.peer_id})
