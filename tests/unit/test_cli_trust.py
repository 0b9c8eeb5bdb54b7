"""``--trust`` and ``--allow``: what is taken, and what is handed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.content.envelope import Envelope
from swarm.content.signature import parse_signer, sign
from tests.support.cli_fakes import OTHER, PEER, SELF, FakeNode, invoke
from tests.support.contents import file_manifest

MANIFEST = file_manifest("f", b"1")
SIGNED = sign(bytes(32), MANIFEST.encode())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.swarm").write_bytes(Envelope(MANIFEST, SIGNED).to_bytes())
    Path("f").write_bytes(b"1")


def test_the_trusted_are_peer_ids_however_they_were_given() -> None:
    node = FakeNode()
    options = ("--output", "out", "--trust", SIGNED.public.hex(), "--trust", OTHER)
    assert invoke("fetch", "f.swarm", PEER, *options, node=node) == 0
    assert node.transfer_options is not None
    assert node.transfer_options.trusted == (SIGNED.peer_id, parse_signer(OTHER))
    assert invoke("fetch", "f.swarm", PEER, "--output", "out", node=node) == 0
    assert node.transfer_options.trusted == ()


@pytest.mark.parametrize("whom", ["", "me", "00", "0" * 64, "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"])
def test_who_cannot_sign_cannot_be_trusted(whom: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke("fetch", "f.swarm", PEER, "--output", "out", "--trust", whom) == 2
    error = capsys.readouterr().err
    assert "is no signer" in error
    assert error.count("\n") == 1


def test_the_allowed_are_handed_on() -> None:
    node = FakeNode()
    assert invoke("share", "f", "--allow", OTHER, "--allow", SELF, node=node) == 0
    assert node.options is not None
    assert node.options.allowed == {OTHER, SELF}
    assert invoke("share", "f", node=node) == 0
    assert node.options.allowed is None


@pytest.mark.parametrize("whom", ["", "friend", "12D3Koo", PEER])
def test_only_a_peer_id_can_be_allowed(whom: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke("share", "f", "--allow", whom) == 2
    assert "is not a peer id" in capsys.readouterr().err
