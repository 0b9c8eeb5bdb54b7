"""Whom a fetch believes and whom a seeder serves, between real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.content.envelope import Envelope
from swarm.content.signature import sign
from tests.support.processes import Processes
from tests.support.sharing import fetch, random_file, share

pytestmark = pytest.mark.e2e
ENOUGH = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"


def test_only_a_manifest_of_a_trusted_signer_is_fetched(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data.bin", 200_000)
    seeder = share(processes, data, name="seeder")
    sound = Envelope.from_bytes(seeder.manifest.read_bytes())
    signer = str(sound.signer)
    told = processes.swarm("id", name="seeder")
    told.expect_exit(0)
    assert told.lines() == [signer]
    for what in (seeder.manifest, seeder.link):
        refused = fetch(processes, what, tmp_path / "no", seeder.address, "--trust", ENOUGH)
        refused.expect_exit(3)
        assert f"signed by {signer}, which is not a signer you trust" in refused.errors()
    assert not (tmp_path / "no").exists()
    # The same manifest without a signature, and signed by somebody else: the id is the same.
    (tmp_path / "unsigned.swarm").write_bytes(Envelope(sound.manifest).to_bytes())
    forger = Envelope(sound.manifest, sign(bytes(32), sound.manifest.encode()))
    (tmp_path / "other.swarm").write_bytes(forger.to_bytes())
    for name in ("unsigned", "other"):
        refused = fetch(
            processes, tmp_path / f"{name}.swarm", tmp_path / "no", seeder.address, "--trust", signer
        )
        refused.expect_exit(3)
    assert sound.signature is not None
    for number, trust in enumerate((signer, sound.signature.public.hex())):
        out = tmp_path / f"out{number}"
        fetched = fetch(
            processes, seeder.link, out, "--trust", ENOUGH, "--trust", trust, name=f"leecher{number}"
        )
        fetched.expect_exit(0)
        assert (out / "data.bin").read_bytes() == data.read_bytes()


def test_only_the_allowed_are_served(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data.bin", 200_000)
    friend = processes.swarm("id", name="friend")
    friend.expect_exit(0)
    seeder = share(processes, data, "--allow", friend.lines()[0].strip(), name="seeder")
    stranger = fetch(
        processes, seeder.manifest, tmp_path / "no", seeder.address, "--patience", "3", name="stranger"
    )
    by_id = fetch(processes, seeder.link, tmp_path / "no2", "--patience", "3", name="curious")
    listed = processes.swarm("list", seeder.address, name="lister")
    allowed = fetch(processes, seeder.link, tmp_path / "out", name="friend")
    allowed.expect_exit(0)
    assert (tmp_path / "out" / "data.bin").read_bytes() == data.read_bytes()
    stranger.expect_exit(5)
    assert "serves only peers that its user allows" in stranger.errors()
    by_id.expect_exit(5)
    assert f"{seeder.peer} does not have it, or serves only peers that its user allows" in by_id.errors()
    listed.expect_exit(4)
    assert not list(tmp_path.glob("no*/*"))
