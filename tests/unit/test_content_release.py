"""Release records: one encoding, one signature, one series; everything else is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from swarm.content import cbor
from swarm.content.release import (
    MAX_PATCHES,
    MAX_RECORD_BYTES,
    RELEASE_DOMAIN,
    ForgedRelease,
    PatchOffer,
    ReleaseRecord,
    Series,
    SignedRelease,
    series_of,
    sign_release,
)
from swarm.content.signature import DOMAIN, sign
from swarm.errors import ManifestError
from swarm.ids import ManifestId
from swarm.origin_url import OriginUrl

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
SERIES = series_of(KEY, "game")
RECORD = ReleaseRecord(
    SERIES,
    3,
    ManifestId(b"m" * 32),
    1_000_000,
    (PatchOffer(ManifestId(b"a" * 32), ManifestId(b"p" * 32), 5_000),),
    (OriginUrl("https://example.org/game/"),),
)
SIGNED = sign_release(KEY, RECORD)


def fields(**changes: cbor.Value) -> bytes:
    """The encoding of `RECORD` with other fields."""
    plain = cbor.decode(RECORD.encode(), max_bytes=MAX_RECORD_BYTES)
    assert isinstance(plain, dict)
    return cbor.encode({**plain, **changes})


def signed(body: bytes, key: bytes = KEY, domain: bytes = RELEASE_DOMAIN) -> bytes:
    return cbor.encode({"record": body, "signature": sign(key, body, domain).signature})


def test_a_record_is_read_as_it_was_written() -> None:
    data = SIGNED.to_bytes()
    assert SignedRelease.from_bytes(data, SERIES) == SIGNED
    assert SignedRelease.from_bytes(data) == SIGNED
    assert SignedRelease.from_bytes(data).to_bytes() == data
    assert RECORD.patch_from(ManifestId(b"a" * 32)) == RECORD.patches[0]
    assert RECORD.patch_from(ManifestId(b"b" * 32)) is None


@pytest.mark.parametrize("expected", [SERIES, None])
def test_every_flipped_bit_is_refused(expected: Series | None) -> None:
    data = SIGNED.to_bytes()
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            with pytest.raises(ManifestError):
                SignedRelease.from_bytes(bytes(flipped), expected)


def test_every_shorter_and_longer_one_is_refused() -> None:
    data = SIGNED.to_bytes()
    for end in range(len(data)):
        with pytest.raises(ForgedRelease):
            SignedRelease.from_bytes(data[:end], SERIES)
    with pytest.raises(ForgedRelease):
        SignedRelease.from_bytes(data + b"\0", SERIES)


def test_a_record_of_another_key_or_name_is_refused() -> None:
    for other in (series_of(OTHER_KEY, "game"), series_of(KEY, "game2")):
        with pytest.raises(ForgedRelease):
            SignedRelease.from_bytes(SIGNED.to_bytes(), other)
    # Under the key of the series in the record, but signed by another.
    with pytest.raises(ForgedRelease):
        SignedRelease.from_bytes(signed(RECORD.encode(), OTHER_KEY))


def test_a_signature_of_a_manifest_is_none_of_a_record() -> None:
    with pytest.raises(ForgedRelease, match="signature"):
        SignedRelease.from_bytes(signed(RECORD.encode(), domain=DOMAIN), SERIES)


def test_what_the_publisher_signed_and_is_no_record_is_nobody_elses_fault() -> None:
    for body in (b"", b"\xa0", fields(sequence=0), fields(manifest=b"short"), fields(origins=["ftp://x/"])):
        with pytest.raises(ManifestError) as caught:
            SignedRelease.from_bytes(signed(body), SERIES)
        assert not isinstance(caught.value, ForgedRelease)


def test_a_newer_format_asks_for_a_newer_swarm() -> None:
    with pytest.raises(ManifestError, match="upgrade swarm"):
        SignedRelease.from_bytes(signed(fields(v=2)), SERIES)


def test_another_encoding_of_the_same_record_is_refused() -> None:
    for origin in (
        "https://EXAMPLE.org/game/",
        "https://example.org:443/game/",
        "https://example.org/game/#x",
    ):
        with pytest.raises(ManifestError, match="one encoding"):
            SignedRelease.from_bytes(signed(fields(origins=[origin])), SERIES)


def test_limits() -> None:
    offer = RECORD.patches[0]
    many = tuple(
        replace(offer, old=ManifestId(number.to_bytes(32, "big"))) for number in range(MAX_PATCHES + 1)
    )
    assert len(sign_release(KEY, replace(RECORD, patches=many[:-1])).to_bytes()) < MAX_RECORD_BYTES
    with pytest.raises(ManifestError, match="at most"):
        replace(RECORD, patches=many)
    with pytest.raises(ManifestError, match="out of order"):
        replace(RECORD, patches=(offer, offer))
    with pytest.raises(ManifestError, match="out of order"):
        replace(RECORD, patches=many[1::-1])
    with pytest.raises(ManifestError, match="number"):
        replace(RECORD, sequence=0)
    with pytest.raises(ManifestError, match="public"):
        replace(RECORD, origins=(OriginUrl("https://user:secret@example.org/"),))
    long = tuple(OriginUrl(f"https://example.org/{number}{'x' * 4000}/") for number in range(16))
    with pytest.raises(ManifestError, match="fewer origins"):
        sign_release(KEY, replace(RECORD, patches=many[:-1], origins=long)).to_bytes()
    with pytest.raises(ForgedRelease):
        SignedRelease.from_bytes(b"\0" * (MAX_RECORD_BYTES + 1), SERIES)


def test_the_name_of_a_series_is_a_safe_file_name() -> None:
    for name in ("", "a/b", "..", "x.swarm-part", "a\0b"):
        with pytest.raises(ManifestError):
            Series(SERIES.public, name)
    with pytest.raises(ManifestError, match="key"):
        Series(bytes(32), "game")


def test_series_differ_by_key_and_by_name() -> None:
    ids = {series.id for series in (SERIES, series_of(OTHER_KEY, "game"), series_of(KEY, "gam"))}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("file", "title"),
    [(None, "game"), ("disk.img", "game.img"), ("x.game", "game"), ("plain", "game"), (".hidden", "game")],
)
def test_the_content_has_the_name_of_the_series(file: str | None, title: str) -> None:
    name = "game"
    assert series_of(KEY, name).title_of(file) == (title if file != "x.game" else "game.game")


def test_the_suffix_is_not_there_twice() -> None:
    assert series_of(KEY, "disk.img").title_of("v7.img") == "disk.img"


def test_the_example_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "updates.md").read_text("utf-8")
    blocks = dict(re.findall(r"^```hex (\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    record, signature = (bytes.fromhex(re.sub(r"#.*", "", blocks[name])) for name in ("record", "signature"))
    offer = PatchOffer(ManifestId(b"\x11" * 32), ManifestId(b"\x33" * 32), 5000)
    example = ReleaseRecord(SERIES, 2, ManifestId(b"\x22" * 32), 1_000_000, (offer,))
    assert example.encode() == record
    assert sign_release(KEY, example).signature == signature
    assert str(SERIES.id) in text
    assert SERIES.key in text
