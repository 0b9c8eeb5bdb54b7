"""Random mutations of a manifest: a declared exit code and one line, whatever the bytes are."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from cli.app import run
from swarm.content.envelope import Envelope
from swarm.content.signature import sign
from swarm.storage.scan import scan

MUTATIONS = 200
MANIFEST_ERROR, INTEGRITY_ERROR = 3, 6


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One of the ways in which a file goes bad, or is made bad."""
    changed = bytearray(data)
    at = chance.randrange(len(data))
    match chance.randrange(5):
        case 0:
            changed[at] ^= 1 << chance.randrange(8)
        case 1:
            del changed[at:]
        case 2:
            changed[at:at] = chance.randbytes(chance.randint(1, 9))
        case 3:
            end = min(len(data), at + chance.randint(1, 40))
            del changed[at:end]
        case _:
            end = min(len(data), at + chance.randint(1, 40))
            changed[at:end] = chance.randbytes(end - at)
    return bytes(changed)


def hashes(envelope: Envelope) -> list[tuple[tuple[str, ...], bytes]]:
    return [(entry.path, entry.blake3) for entry in envelope.manifest.files]


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_two_hundred_mutations_of_a_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, signed: bool
) -> None:
    """Signed, nothing of it can change; unsigned, a change of content is told by the content."""
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "data.bin").write_bytes(random.Random(5).randbytes(100_000))
    (folder / "sub" / "tool").write_bytes(b"#!/bin/sh\n")
    scanned = trio.run(lambda: scan(folder, piece_length=16384))
    signature = sign(bytes(range(32)), scanned.manifest.encode()) if signed else None
    data = Envelope(scanned.manifest, signature).to_bytes()
    file = tmp_path / "folder.swarm"

    chance = random.Random(2026)
    codes = set()
    for _ in range(MUTATIONS):
        mutated = mutate(data, chance)
        if mutated == data:
            continue
        file.write_bytes(mutated)
        code = run(["verify", str(file), str(folder)])
        said = capsys.readouterr().err
        codes.add(code)
        if code == 0 and not signed:
            # Another name of the whole is another manifest, of the same content.
            assert hashes(Envelope.from_bytes(mutated)) == hashes(Envelope.from_bytes(data))
            continue
        assert code in {MANIFEST_ERROR, INTEGRITY_ERROR}, mutated.hex()
        assert "Traceback" not in said
        errors = [line for line in said.splitlines() if not line.startswith("note: ")]
        assert len(errors) == 1, said
        assert errors[0].startswith("swarm: ")
    assert MANIFEST_ERROR in codes
    assert (INTEGRITY_ERROR in codes) != signed
