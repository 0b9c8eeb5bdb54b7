"""``swarm share`` and ``swarm fetch`` on a scripted node: arguments in, lines and exit codes out."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path

import pytest

from cli.render.views import JsonView
from swarm.config import DEFAULT_LISTEN, NodeOptions, TransferOptions
from swarm.content.envelope import Envelope
from swarm.content.link import SwarmLink
from swarm.errors import (
    DiskError,
    Incomplete,
    IntegrityError,
    Locked,
    ManifestError,
    NoPeerReachable,
    SwarmError,
)
from swarm.events import PeerDialing, PieceRequested, SourceBanned, TransferResumed, Warned
from swarm.ids import TransferId
from swarm.observe.jsonlines import decode
from swarm.storage import manifest_files
from tests.support.cli_fakes import ADDRESSES, OTHER, PEER, PEER_2, SELF, FakeNode, invoke

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events alone make lines: a machine that takes a second for one of these tests sees no more of them."""
    monkeypatch.setattr(JsonView, "interval", math.inf)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `photos`, the current folder beside it."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(b"1" * 40_000)
    (tmp_path / "photos" / "two.jpg").write_bytes(b"2" * 30_000)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


@pytest.fixture
def envelope(photos: Path, capsys: Capture) -> Envelope:
    """The manifest of the photos, shared as `photos.swarm`."""
    assert invoke("share", "photos", "--piece-size", "16KiB") == 0
    capsys.readouterr()
    return Envelope.from_bytes(Path("photos.swarm").read_bytes())


def test_share_prints_the_manifest_the_id_the_link_and_the_addresses(photos: Path, capsys: Capture) -> None:
    assert invoke("share", "photos") == 0
    path, cid, link, *addresses = capsys.readouterr().out.splitlines()
    assert path == "photos.swarm"
    manifest = Envelope.from_bytes(Path(path).read_bytes()).manifest
    assert cid == str(manifest.id)
    assert SwarmLink.parse(link) == SwarmLink(manifest.id, ADDRESSES, "photos")
    assert addresses == [f"libp2p node address: {address}" for address in ADDRESSES]
    assert [entry.path for entry in manifest.files] == [("one.jpg",), ("two.jpg",)]


def test_share_hands_its_options_on(photos: Path) -> None:
    node = FakeNode()
    listen = "/ip4/127.0.0.1/tcp/4001"
    options = (
        "--manifest",
        "other.swarm",
        "--listen",
        listen,
        "--piece-size",
        "32KiB",
        "--upload-limit",
        "2MB/s",
    )
    assert invoke("share", "photos", *options, node=node) == 0
    assert node.options == NodeOptions(
        listen=(listen,), upload_limit=2_000_000, serves=(Path("photos"),), manifests=(Path("other.swarm"),)
    )
    assert node.transfer_options == TransferOptions(omit=(Path("other.swarm"),))
    assert Envelope.from_bytes(Path("other.swarm").read_bytes()).manifest.piece_length == 32768
    assert not Path("photos.swarm").exists()
    assert node.closed


def test_share_hands_on_whom_to_dial_and_where_it_can_be_reached(photos: Path) -> None:
    node = FakeNode()
    announced = "/dns4/example.org/tcp/4001"
    options = ("--peer", PEER, "--peer", PEER_2, "--announce", announced)
    assert invoke("share", "photos", *options, node=node) == 0
    assert node.options is not None
    assert node.options.announce == (announced,)
    assert node.options.listen == DEFAULT_LISTEN
    assert node.transfer_options == TransferOptions(peers=(PEER, PEER_2), omit=(Path("photos.swarm"),))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--announce", "/ip4/192.0.2.1"), "e.g. /ip4/192.0.2.1/tcp/4001"),
        (("--announce", "/ip4/192.0.2.1/udp/1"), "the transport 'udp' is not supported"),
        (("--announce", PEER), "e.g. /ip4/192.0.2.1/tcp/4001"),
        (("--peer", "/ip4/192.0.2.1/tcp/4001"), "does not end in /p2p/<peer id>"),
        (("--listen", "/dns4/example.org/tcp/1"), "is not /ip4/<ip>/tcp/<port>"),
    ],
)
def test_a_wrong_address_of_a_share_is_exit_code_2(
    photos: Path, capsys: Capture, arguments: tuple[str, ...], words: str
) -> None:
    assert invoke("share", "photos", *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_share_replaces_an_older_manifest_but_nothing_else(photos: Path, capsys: Capture) -> None:
    assert invoke("share", "photos") == 0
    before = Path("photos.swarm").read_bytes()
    (photos / "three.jpg").write_bytes(b"3")
    assert invoke("share", "photos") == 0
    assert Path("photos.swarm").read_bytes() != before
    Path("letter.swarm").write_text("Dear Ann, this is no manifest")
    capsys.readouterr()
    assert invoke("share", "photos", "--manifest", "letter.swarm") == 2
    assert Path("letter.swarm").read_text().startswith("Dear Ann")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "swarm: letter.swarm exists and is not a manifest: choose another name for the manifest\n"


def test_share_looks_before_it_hashes_and_again_before_it_writes(photos: Path) -> None:
    node = FakeNode()
    hashed: list[bool] = []

    async def before_share() -> None:
        hashed.append(True)
        Path("photos.swarm").write_text("this came while we hashed")

    node.before_share = before_share
    Path("letter.swarm").write_text("Dear Ann, this is no manifest")
    assert invoke("share", "photos", "--manifest", "letter.swarm", node=node) == 2
    assert hashed == []
    assert invoke("share", "photos", node=node) == 2
    assert hashed == [True]
    assert Path("photos.swarm").read_text() == "this came while we hashed"


def test_share_into_a_folder_that_is_not_there_is_the_disks_doing(photos: Path, capsys: Capture) -> None:
    assert invoke("share", "photos", "--manifest", "nowhere/photos.swarm") == 7
    assert capsys.readouterr().err.count("\n") == 1


def test_share_leaves_its_own_manifest_out(
    photos: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    ids = set()
    for _ in range(2):
        assert invoke("share", ".") == 0
        ids.add(capsys.readouterr().out.splitlines()[1])
    assert len(ids) == 1


def test_share_of_nothing_is_a_usage_error(photos: Path, capsys: Capture) -> None:
    assert invoke("share", "no such thing") == 2
    assert capsys.readouterr().err.startswith(
        "swarm: Invalid value for 'PATH...': Path 'no such thing' does not exist"
    )


def test_share_as_json_is_json_only(photos: Path, capsys: Capture) -> None:
    assert invoke("share", "photos", "--json") == 0
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["event"] for record in records] == [
        "command_started",
        "node_listening",
        "transfer_started",
        "hashing_progress",
        "path_shared",
    ]
    assert records[0]["command"] == "share"
    assert records[1]["addresses"] == list(ADDRESSES)
    assert (records[3]["done"], records[3]["total"]) == (70_000, 70_000)
    assert records[4]["path"] == "photos.swarm"
    assert records[4]["size"] == 70_000
    assert SwarmLink.parse(records[4]["link"]).peers == ADDRESSES
    assert err == ""


def test_fetch_by_file(envelope: Envelope, capsys: Capture) -> None:
    node = FakeNode()
    options = (
        "--output",
        "out",
        "--upload-limit",
        "1MB",
        "--download-limit",
        "2.5MiB/s",
        "--max-peers",
        "7",
        "--patience",
        "2.5",
    )
    assert invoke("fetch", "photos.swarm", PEER, PEER_2, PEER, *options, node=node) == 0
    # The file carries the sharer's addresses.
    assert node.calls == [("fetch", envelope, node.addresses), ("left", 1)]
    assert node.into == Path("out")
    assert node.options == NodeOptions(upload_limit=1_000_000, download_limit=2_621_440)
    peers = (PEER, PEER_2, PEER)
    assert node.transfer_options == TransferOptions(peers=peers, max_peers=7, patience=2.5)
    out, err = capsys.readouterr()
    assert out == "out/photos\n"
    assert "fetched 68.4KiB in" in err
    assert "from 1 peer" in err


def test_fetch_hands_a_selection_and_an_order_on(envelope: Envelope) -> None:
    node = FakeNode()
    options = ("--output", "out", "--only", "*.jpg", "--sequential", "--prefer-near", "--only", "docs/")
    assert invoke("fetch", "photos.swarm", PEER, *options, node=node) == 0
    assert node.options == NodeOptions()
    assert node.transfer_options == TransferOptions(
        peers=(PEER,), only=("*.jpg", "docs/"), sequential=True, prefer_near=True
    )


def test_fetch_hands_bases_and_addresses_on(envelope: Envelope) -> None:
    node = FakeNode()
    announced, listen = "/ip6/2001:db8::1/tcp/4001", "/ip4/127.0.0.1/tcp/4001"
    options = ("--output", "out", "--base", "photos", "--base", ".", "--announce", announced)
    assert invoke("fetch", "photos.swarm", *options, "--listen", listen, node=node) == 0
    assert node.options == NodeOptions(listen=(listen,), announce=(announced,))
    assert node.transfer_options == TransferOptions(bases=(Path("photos"), Path()))


def test_fetch_hands_an_update_on_and_refuses_what_it_cannot_go_with(
    envelope: Envelope, capsys: pytest.CaptureFixture[str]
) -> None:
    node = FakeNode()
    assert invoke("fetch", "photos.swarm", PEER, "--update", node=node) == 0
    assert node.transfer_options == TransferOptions(peers=(PEER,), update=True)
    for other in (["--only", "*.jpg"], ["--overwrite"], ["--output", "-"]):
        assert invoke("fetch", "photos.swarm", PEER, "--update", *other, node=node) == 2
        assert f"leave out {' '.join(other[:1] if other[1:] != ['-'] else other)}" in capsys.readouterr().err


def test_fetch_by_link_or_id_leaves_the_reading_to_the_node(envelope: Envelope) -> None:
    """What a node makes of a link, and of an id alone, is tested in test_node_opening.py."""
    node = FakeNode()
    node.manifest = envelope.manifest
    manifest = envelope.manifest.id
    link = SwarmLink(manifest, (PEER, "/ip4/192.0.2.9/tcp/1", PEER_2), "photos")
    assert invoke("fetch", str(link), PEER_2, "--output", "out", node=node) == 0
    assert invoke("fetch", str(manifest), PEER, "--output", "out", node=node) == 0
    fetches = [call for call in node.calls if call[0] == "fetch"]
    assert fetches == [("fetch", manifest, link.peers), ("fetch", manifest, ())]


def test_fetch_and_seed_goes_on(envelope: Envelope) -> None:
    node = FakeNode()
    seeded: list[FakeNode] = []

    async def seeding(which: FakeNode) -> None:
        assert ("left", 2) not in which.calls, "the transfer is not left before it ends"
        seeded.append(which)

    node.seeding = seeding
    assert invoke("fetch", "photos.swarm", PEER, "--output", "out", node=node) == 0
    assert seeded == []
    assert node.transfer_options is not None
    assert not node.transfer_options.seed
    assert invoke("fetch", "photos.swarm", PEER, "--output", "out", "--seed", node=node) == 0
    assert seeded == [node]
    assert node.transfer_options.seed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("photos.swarm", "/ip4/192.0.2.1/tcp/4001", "--output", "out"), "does not end in /p2p/<peer id>"),
        (("photos.swarm", "/dns4/example.org", "-o", "out"), "does not end in /p2p/<peer id>"),
        ((PEER, "--output", "out"), "nothing to fetch"),
        (("nothing.swarm", PEER, "--output", "out"), "there is no file nothing.swarm"),
        ((".", PEER, "--output", "out"), ". is a folder: give a .swarm file"),
        # Longer than the name of a file can be: a link that has lost its first letter.
        (("warm:" + "x" * 300, "--output", "out"), "there is no file warm:xxx"),
        (("photos.swarm", PEER, "--output", "out", "--download-limit", "fast"), "is not a rate such as"),
        (("photos.swarm", PEER, "--output", "out", "--max-peers", "0"), "0 is not in the range"),
        (("photos.swarm", PEER, "--output", "out", "--listen", "4001"), "is not /ip4/<ip>/tcp/<port>"),
        (("photos.swarm", PEER, "--output", "photos.swarm"), "'photos.swarm' is a file; give a folder"),
        (("photos.swarm", "--output", "out", "--base", "no such thing"), "does not exist"),
        (("photos.swarm", PEER, "--output", "out", "--announce", "4001"), "e.g. /ip4/"),
    ],
)
def test_a_wrong_call_is_exit_code_2(
    envelope: Envelope, capsys: Capture, arguments: tuple[str, ...], words: str
) -> None:
    assert invoke("fetch", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.startswith("swarm: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("out", "there is no file out"),
        ("{here}/out", "there is no file {here}/out"),
        ("photos", "photos is a folder"),
        ("photos/", "photos/ is a folder"),
        ("{here}/photos", "{here}/photos is a folder"),
    ],
)
@pytest.mark.parametrize("as_link", [False, True])
def test_a_folder_in_the_place_of_another_manifest_is_told_before_anything_is_fetched(
    envelope: Envelope, capsys: Capture, tmp_path: Path, target: str, words: str, as_link: bool
) -> None:
    """As cp and scp have it: what, then where to."""
    node = FakeNode()
    what = str(SwarmLink(envelope.manifest.id, (PEER,))) if as_link else "photos.swarm"
    target = target.format(here=tmp_path)
    assert invoke("fetch", what, target, node=node) == 2
    assert node.options is None, "no node was opened"
    error = capsys.readouterr().err
    assert words.format(here=tmp_path) in error
    assert f"; to fetch into a folder: -o {target} (see" in error


@pytest.mark.parametrize("command", ["fetch", "follow", "daemon", "add"])
def test_the_output_of_every_command_is_a_folder(envelope: Envelope, capsys: Capture, command: str) -> None:
    what = () if command == "daemon" else ("photos.swarm",)
    assert invoke(command, *what, "-o", "photos/one.jpg") == 2
    assert "'photos/one.jpg' is a file; give a folder" in capsys.readouterr().err


def test_an_output_that_cannot_be_looked_at_hides_no_other_fault(capsys: Capture) -> None:
    assert invoke("fetch", "swarm:x", "-o", "x" * 300) == 3
    assert "swarm link is malformed" in capsys.readouterr().err


def test_an_argument_that_cannot_be_looked_at_does_not_stop_the_others(
    envelope: Envelope, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kind_at(text: str) -> int:
        if text.startswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", text)
        return kind(text)

    kind = manifest_files.kind_at
    monkeypatch.setattr(manifest_files, "kind_at", kind_at)
    assert invoke("fetch", "closed/x.swarm", "photos.swarm", "-o", "out") == 7
    out, err = capsys.readouterr()
    assert out == "out/photos\n"
    assert "closed/x.swarm: permission denied" in err


def test_what_a_list_names_is_looked_at_in_its_turn(envelope: Envelope, capsys: Capture) -> None:
    long = "warm:" + "x" * 300
    Path("list").write_text(f"nothing\n{long}\nphotos.swarm\n")
    assert invoke("fetch", "-i", "list", "-o", "out") == 2
    out, err = capsys.readouterr()
    assert out == "out/photos\n"
    assert "swarm: nothing: there is no file nothing" in err
    assert f"there is no file {long}" in err


def test_a_broken_manifest_id_or_link_is_exit_code_3(envelope: Envelope, capsys: Capture) -> None:
    data = Path("photos.swarm").read_bytes()
    Path("cut.swarm").write_bytes(data[:-7])
    cid = str(envelope.manifest.id)
    for broken in (
        "cut.swarm",
        cid[:-1],
        f"{cid[:-1]}1",
        cid.upper(),
        "swarm:nonsense",
        f"swarm:{cid}?peer=%zz",
    ):
        assert invoke("fetch", broken, PEER, "--output", "out") == 3, broken
        assert capsys.readouterr().err.count("\n") == 1


def test_a_manifest_that_is_too_long_is_not_even_read(photos: Path, capsys: Capture) -> None:
    with Path("huge.swarm").open("wb") as file:
        file.truncate(2**40)
    assert invoke("fetch", "huge.swarm", PEER, "--output", "out") == 3
    assert "too long for a manifest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ManifestError("bad"), 3),
        (NoPeerReachable("nobody answers"), 4),
        (Incomplete("nobody has pieces 3-5"), 5),
        (IntegrityError("wrong"), 6),
        (DiskError("full"), 7),
        (Locked("busy"), 8),
        (RuntimeError("oops"), 1),
    ],
)
def test_every_error_of_the_node_is_one_line_and_its_exit_code(
    envelope: Envelope, capsys: Capture, error: Exception, code: int
) -> None:
    node = FakeNode()

    async def fetching(_node: FakeNode) -> None:
        raise ExceptionGroup("nursery", [error])

    node.fetching = fetching
    assert invoke("fetch", "photos.swarm", PEER, "--output", "out", node=node) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert str(error) in err
    assert err.count("\n") == 1
    assert node.closed
    assert invoke("fetch", "photos.swarm", PEER, "--output", "out", "--json", node=node) == code
    last = decode(capsys.readouterr().out.splitlines()[-1])
    assert last is not None
    assert vars_of(last[0])["exit_code"] == code
    assert str(error) in vars_of(last[0])["message"]


def vars_of(event: object) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__slots__}  # type: ignore[attr-defined]


def test_a_traceback_only_with_debug(envelope: Envelope, capsys: Capture) -> None:
    node = FakeNode()

    async def fetching(_node: FakeNode) -> None:
        raise SwarmError("a declared one")

    node.fetching = fetching
    for arguments in (("--debug", "fetch"), ("fetch", "--debug")):
        assert invoke(*arguments, "photos.swarm", PEER, "--output", "out", node=node) == 1
        err = capsys.readouterr().err
        assert "Traceback" in err
        assert err.endswith("swarm: a declared one\n")


def _chatty(node: FakeNode) -> None:
    async def fetching(which: FakeNode) -> None:
        publish, number = which.event_stream.publish, TransferId(1)
        publish(Warned("mind \x1b[2J the gap"))
        publish(TransferResumed(number, 2, 32768))
        publish(PeerDialing(number, OTHER, "/ip4/192.0.2.1/tcp/4001", "named by you"))
        publish(PieceRequested(number, 4, OTHER, "rtt 12 ms, 3 MB/s"))
        publish(SourceBanned(number, SELF, "bad piece", 3))

    node.fetching = fetching


def test_only_verbose_says_why(envelope: Envelope, capsys: Capture) -> None:
    node = FakeNode()
    node.manifest = envelope.manifest
    _chatty(node)
    assert invoke("fetch", "photos.swarm", PEER, "--output", "out", node=node) == 0
    quiet = capsys.readouterr().err.splitlines()
    assert quiet[:3] == [
        "warning: mind \\x1b[2J the gap",
        "here already: 2 pieces (32.0KiB)",
        f"banned {SELF}: bad piece",
    ]
    assert len(quiet) == 4
    for arguments in (("-v", "fetch"), ("fetch", "--verbose")):
        assert invoke(*arguments, "photos.swarm", PEER, "--output", "out", node=node) == 0
        err = capsys.readouterr().err
        assert f"piece 4 asked of …{OTHER[-8:]}: rtt 12 ms, 3 MB/s" in err
        assert f"dialling …{OTHER[-8:]} at /ip4/192.0.2.1/tcp/4001: named by you" in err


def test_the_link_of_what_was_fetched_names_the_port_that_the_router_gives(
    envelope: Envelope, capsys: Capture
) -> None:
    node = FakeNode()
    given = f"/ip4/198.51.100.4/tcp/4001/p2p/{SELF}"

    async def decided() -> None:
        node.addresses = (given, *ADDRESSES)

    node.port_decided = decided
    assert invoke("fetch", "photos.swarm", PEER, "--output", "out", "--seed", "--json", node=node) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (link,) = [record["link"] for record in records if record["event"] == "fetched_seeded"]
    assert SwarmLink.parse(link).peers[0] == given


def test_fetch_as_json_tells_everything_in_order(envelope: Envelope, capsys: Capture) -> None:
    node = FakeNode()
    node.manifest = envelope.manifest
    _chatty(node)
    assert invoke("fetch", "photos.swarm", PEER, "--output", "out", "--json=pieces", node=node) == 0
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    names = [record["event"] for record in records]
    assert names[:4] == ["command_started", "node_listening", "transfer_started", "warned"]
    assert names[-3:] == ["transfer_complete", "bytes_received", "path_fetched"]
    assert names.count("piece_stored") == envelope.manifest.piece_count == 5
    why = next(record for record in records if record["event"] == "piece_requested")
    assert why["why"] == "rtt 12 ms, 3 MB/s"
    received = sum(record["size"] for record in records if record["event"] == "bytes_received")
    assert received == envelope.manifest.total_length
    assert records[-1] == {
        "t": records[-1]["t"],
        "event": "path_fetched",
        "manifest": str(envelope.manifest.id),
        "path": "out/photos",
        "size": 70_000,
        "seconds": records[-1]["seconds"],
    }
    assert 0 < records[-1]["seconds"] <= records[-1]["t"]
    assert err == ""


def test_json_tells_of_single_pieces_only_when_asked(envelope: Envelope, capsys: Capture) -> None:
    node = FakeNode()
    node.manifest = envelope.manifest
    _chatty(node)
    assert invoke("fetch", "-j", "photos.swarm", PEER, "--output", "out", node=node) == 0
    names = {json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()}
    assert "path_fetched" in names
    assert not {name for name in names if name.startswith("piece_")}


def test_a_file_that_is_called_like_stdin_is_shared_by_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_bytes(b"not from stdin")
    assert invoke("share", "./-") == 0
    assert capsys.readouterr().out.splitlines()[0] == "-.swarm"
    assert Envelope.from_bytes(Path("-.swarm").read_bytes()).manifest.total_length == len(b"not from stdin")


def test_a_folder_that_is_called_like_stdout_is_fetched_into(envelope: Envelope, tmp_path: Path) -> None:
    del envelope
    node = FakeNode()
    assert invoke("fetch", "photos.swarm", "-o", "./-", node=node) == 0
    assert node.into == tmp_path / "-"
