"""docs/manifest.md says what the code does: its examples, limits and characters."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from swarm.content import envelope, link, manifest, paths, times
from swarm.content.envelope import Envelope
from swarm.content.manifest import MIN_PIECE_LENGTH, LinkEntry, Manifest
from swarm.content.signature import DOMAIN, sign
from swarm.errors import ManifestError
from tests.support.contents import entry_of, file_manifest

TEXT = (Path(__file__).parents[2] / "docs" / "manifest.md").read_text(encoding="utf-8")
EXAMPLE = file_manifest("hi.txt", b"hello, swarm\n")
POINT = re.compile(r"U\+([0-9A-F]{4,6})(?:\.\.U\+([0-9A-F]{4,6}))?")


def hexadecimal(label: str) -> bytes:
    block = re.search(rf"```hex {label}\n(.*?)```", TEXT, re.DOTALL)
    assert block
    return bytes.fromhex("".join(line.partition("#")[0] for line in block[1].splitlines()))


def code_points(text: str) -> set[int]:
    points = set[int]()
    for first, last in POINT.findall(text):
        points.update(range(int(first, 16), int(last or first, 16) + 1))
    return points


def test_the_worked_manifest() -> None:
    assert hexadecimal("manifest") == EXAMPLE.encode()
    assert Manifest.decode(hexadecimal("manifest")) == EXAMPLE
    assert f"`{blake3(EXAMPLE.encode()).hexdigest()}`" in TEXT
    assert f"`{EXAMPLE.id}`" in TEXT
    assert f"the {len(EXAMPLE.encode())} bytes above" in TEXT


def test_the_worked_envelope() -> None:
    signed = Envelope(EXAMPLE, sign(bytes(range(32)), EXAMPLE.encode()))
    assert hexadecimal("envelope") == signed.to_bytes()
    assert Envelope.from_bytes(hexadecimal("envelope")) == signed
    assert f"`{signed.signer}`" in TEXT
    assert f"the {len(DOMAIN)} bytes `{DOMAIN[:-1].decode()}` and a zero byte" in TEXT


def test_the_second_vector() -> None:
    things = Manifest(
        "things",
        True,
        MIN_PIECE_LENGTH,
        [
            entry_of(("a", "empty"), b""),
            entry_of(("a", "run"), bytes(16385), executable=True),
            entry_of(("b",), b"1"),
        ],
    )
    assert f"has {len(things.encode())} bytes and the id\n`{things.id}`" in TEXT


def test_the_example_of_format_2() -> None:
    data = hexadecimal("manifest 2")
    made = Manifest("x", True, MIN_PIECE_LENGTH, [], [LinkEntry(("l",), "a")], [("a",)])
    assert made.encode() == data
    assert Manifest.decode(data) == made


def test_the_limits() -> None:
    rows = re.findall(r"^\| .* \| (\d+) \| `([A-Z0-9_]+)` \|$", TEXT, re.MULTILINE)
    assert len(rows) == 23
    for value, name in rows:
        owners = [module for module in (manifest, envelope, paths, link, times) if hasattr(module, name)]
        assert {getattr(owner, name) for owner in owners} == {int(value)}, name


def test_the_forbidden_characters() -> None:
    table = TEXT[TEXT.index("| code points | what |") : TEXT.index("- does not end in a dot")]
    documented = code_points(table.replace("U+1FFFE", "")) | set(map(ord, '/\\<>:"|?*'))
    documented |= {plane << 16 | last for plane in range(17) for last in (0xFFFE, 0xFFFF)}
    assert '`/ \\ < > : " | ? *`' in TEXT
    assert {code for code in range(sys.maxunicode + 1) if refused(f"a{chr(code)}b")} == documented


def test_the_ignored_characters() -> None:
    step = TEXT[TEXT.index("1. removing") : TEXT.index("2. canonical decomposition")]
    documented = code_points(step)
    ignored = {code for code in range(sys.maxunicode + 1) if paths.clash_key(f"a{chr(code)}b") == "ab"}
    assert ignored == documented


def refused(name: str) -> bool:
    try:
        paths.check_name(name)
    except ManifestError:
        return True
    return False


@pytest.mark.parametrize("suffix", paths.RESERVED_SUFFIXES)
def test_the_reserved_suffixes(suffix: str) -> None:
    assert f"`{suffix}`" in TEXT
