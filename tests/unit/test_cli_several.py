"""Several paths in one ``swarm share``, several contents in one ``swarm fetch``."""

from __future__ import annotations

import io
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.content.envelope import Envelope
from swarm.content.link import SwarmLink
from swarm.errors import Incomplete, NoPeerReachable
from swarm.ids import ManifestId
from tests.support.cli_fakes import ADDRESSES, PEER, PEER_2, FakeNode, invoke
from tests.support.web_servers import Asked, ScriptedServer

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.bin", "b.bin", "c.bin"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    return tmp_path


@pytest.fixture
def ids(folder: Path, capsys: Capture) -> list[ManifestId]:
    assert invoke("share", "a.bin", "b.bin", "c.bin") == 0
    capsys.readouterr()
    return [Envelope.from_bytes(Path(f"{name}.bin.swarm").read_bytes()).manifest.id for name in "abc"]


def test_several_paths_are_shared_by_one_node(folder: Path, capsys: Capture) -> None:
    node = FakeNode()
    assert invoke("share", "a.bin", "b.bin", "./a.bin", node=node) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0::3][:2] == ["a.bin.swarm", "b.bin.swarm"]
    links = [SwarmLink.parse(lines[2]), SwarmLink.parse(lines[5])]
    assert [link.name for link in links] == ["a.bin", "b.bin"]
    assert lines[6:] == [f"libp2p node address: {address}" for address in ADDRESSES]
    assert err.count("others fetch it with: swarm fetch 'swarm:") == 2
    assert f"or, where quotes get lost: swarm fetch {links[0].bare()}\n" in err


def test_a_path_that_cannot_be_shared_does_not_stop_the_others(folder: Path, capsys: Capture) -> None:
    Path("b.bin.swarm").write_text("a letter")
    assert invoke("share", "a.bin", "b.bin", "c.bin") == 2
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if line.endswith(".swarm")] == ["a.bin.swarm", "c.bin.swarm"]
    assert "swarm: b.bin: b.bin.swarm exists and is not a manifest" in err
    assert err.endswith("swarm: 1 of 3 could not be shared\n")


def test_two_manifests_of_one_name_are_refused_before_anything_is_hashed(
    folder: Path, capsys: Capture
) -> None:
    (folder / "x").mkdir()
    (folder / "x" / "a.bin").write_bytes(b"other")
    assert invoke("share", "a.bin", "x/a.bin") == 2
    assert "the manifests of a.bin and x/a.bin would both be a.bin.swarm" in capsys.readouterr().err
    assert invoke("share", "a.bin", "b.bin", "--manifest", "m.swarm") == 2
    assert "--manifest names the manifest of one path" in capsys.readouterr().err
    assert not list(folder.glob("*.swarm"))


@pytest.mark.parametrize("manifest", [(), ("--manifest", "m.swarm")])
@pytest.mark.parametrize("name", ["a/b", "..", "CON"])
def test_a_name_that_no_manifest_can_have_is_refused_before_anything_is_hashed(
    folder: Path, capsys: Capture, name: str, manifest: tuple[str, ...]
) -> None:
    node = FakeNode()
    assert invoke("share", "a.bin", "--name", name, *manifest, node=node) == 2
    error = capsys.readouterr().err
    assert error.startswith("swarm: --name: ")
    assert f"'{name}'" in error
    assert node.options is None


def test_a_slash_in_a_name_is_said_to_be_the_fault(folder: Path, capsys: Capture) -> None:
    assert invoke("share", "a.bin", "--name", "a/b") == 2
    assert "the name 'a/b' contains the forbidden character '/' (U+002F)" in capsys.readouterr().err
    assert invoke("share", "a.bin", "--name", "a\x1bb") == 2
    assert "contains the forbidden character U+001B" in capsys.readouterr().err


def test_contents_and_peers_are_told_apart_by_their_form(ids: list[ManifestId], capsys: Capture) -> None:
    node = FakeNode()
    arguments = (PEER, "a.bin.swarm", f" {PEER_2}/\n", str(folder_file("b.bin.swarm")))
    assert invoke("fetch", *arguments, "-o", "out", node=node) == 0
    assert node.transfer_options is not None
    assert node.transfer_options.peers == (PEER, PEER_2)
    assert {call[1].manifest.id for call in node.calls if call[0] == "fetch"} == set(ids[:2])
    assert sorted(capsys.readouterr().out.splitlines()) == ["out/a.bin", "out/b.bin"]


def folder_file(name: str) -> Path:
    """An absolute path begins with a slash, as a multiaddr does."""
    return Path(name).absolute()


def test_a_list_names_contents_and_peers(
    ids: list[ManifestId], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = FakeNode()
    Path("list").write_text(f"# of today\n\n  a.bin.swarm  \n{PEER}\nb.bin.swarm\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"c.bin.swarm\r\n#\n")))
    assert invoke("fetch", "-i", "list", "-i", "-", node=node) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == ["a.bin", "b.bin", "c.bin"]
    assert node.transfer_options is not None
    assert node.transfer_options.peers == (PEER,)
    Path("list").write_text("# nothing\n")
    assert invoke("fetch", "-i", "list", node=node) == 2
    assert "nothing to fetch" in capsys.readouterr().err


def test_one_that_fails_does_not_stop_the_others_and_the_worst_gives_the_exit_code(
    ids: list[ManifestId], capsys: Capture
) -> None:
    node = FakeNode()
    errors = {ids[0]: NoPeerReachable("nobody answers"), ids[1]: Incomplete("pieces 3-5 are nowhere")}

    async def fetching(which: FakeNode) -> None:
        error = errors.get(which.calls[-1][1].manifest.id)
        if error is not None:
            raise error

    node.fetching = fetching
    arguments = ("fetch", "a.bin.swarm", "b.bin.swarm", "c.bin.swarm", "swarm:broken", PEER)
    assert invoke(*arguments, "-o", "out", node=node) == 3
    out, err = capsys.readouterr()
    assert out.splitlines() == ["out/c.bin"]
    assert "swarm: a.bin.swarm: nobody answers" in err
    assert "swarm: b.bin.swarm: pieces 3-5 are nowhere" in err
    assert err.endswith("swarm: 3 of 4 could not be fetched\n")
    assert invoke(*arguments[:4], PEER, "--json", node=node) == 5
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    failed = [(each["what"], each["exit_code"]) for each in records if each["event"] == "path_failed"]
    assert sorted(failed) == [("a.bin.swarm", 4), ("b.bin.swarm", 5)]
    assert records[-1]["event"] == "command_failed"
    assert records[-1]["exit_code"] == 5


CHECKED = random.Random(5).randbytes(300_000)


@pytest.mark.parametrize(
    ("url", "answer", "words"),
    [
        ("nothing", lambda asked: asked.say("404 Not Found"), "look whether the URL is right"),
        ("a", lambda asked: asked.say("200 OK", body=CHECKED), "use a server that knows ranges"),
        ("a", lambda asked: asked.part(bytes(len(CHECKED))), "put the new files there"),
    ],
)
def test_a_check_gives_the_advice_that_fits(
    folder: Path, capsys: Capture, url: str, answer: Callable[[Asked], None], words: str
) -> None:
    Path("checked").write_bytes(CHECKED)
    with ScriptedServer(CHECKED, answer) as server:
        assert (
            invoke("share", "checked", "--piece-size", "16KiB", "--origin", server.url + url, "--check") == 6
        )
    assert f"swarm: an origin does not give what is here: {words}" in capsys.readouterr().err
