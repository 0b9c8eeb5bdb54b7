"""``swarm ping``, ``swarm list`` and ``swarm listen`` on a scripted node."""

from __future__ import annotations

import json
import re

import pytest

from cli.commands.ping import DEFAULT_INTERVAL, summarise
from swarm.content.link import SwarmLink
from swarm.content.release import series_of
from swarm.content.series_link import SeriesLink
from swarm.errors import NoPeerReachable, UsageError
from swarm.ids import ManifestId
from swarm.observe.reports import PingSummary
from swarm.protocol.advert import Advert
from tests.support.cli_fakes import ADDRESSES, PEER, PEER_2, FakeNode, invoke

SERIES = series_of(bytes(range(32)), "photos")
Capture = pytest.CaptureFixture[str]
OWN = [f"libp2p node address: {address}" for address in ADDRESSES]


def test_ping_prints_what_the_tutorial_prints(capsys: Capture) -> None:
    node = FakeNode()
    node.pings[PEER] = [431.231e-6, 1.5e-3, 400e-6, 2.25, 812e-9]
    assert invoke("ping", PEER, node=node) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        *OWN,
        f"sending 5 ping messages to {PEER}",
        f"pinged {PEER} in 431.231µs",
        f"pinged {PEER} in 1.500ms",
        f"pinged {PEER} in 400.000µs",
        f"pinged {PEER} in 2.250s",
        f"pinged {PEER} in 812ns",
        f"{PEER}: 5 sent, 0 lost, min/median/max 812ns/431.231µs/2.250s",
    ]
    assert err == ""
    assert node.calls == [("ping", PEER, 5, DEFAULT_INTERVAL)]
    assert node.closed


def test_ping_counts_lost_pings(capsys: Capture) -> None:
    node = FakeNode()
    node.pings[PEER] = [None, 0.001, None]
    assert invoke("ping", PEER, "--count", "3", "--interval", "0.5", node=node) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-4:-1] == [f"no answer from {PEER}", f"pinged {PEER} in 1.000ms", f"no answer from {PEER}"]
    assert out[-1] == f"{PEER}: 3 sent, 2 lost, min/median/max 1.000ms/1.000ms/1.000ms"
    assert node.calls == [("ping", PEER, 3, 0.5)]


def test_several_peers_are_pinged_side_by_side(capsys: Capture) -> None:
    node = FakeNode()
    node.pings = {PEER: [0.001] * 5, PEER_2: [0.002] * 5}
    assert invoke("ping", PEER, PEER_2, node=node) == 0
    order = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("pinged ")]
    assert sorted(order[:2]) == sorted((PEER, PEER_2))
    assert order.count(PEER) == order.count(PEER_2) == 5


@pytest.mark.parametrize(
    "link",
    [SwarmLink(ManifestId(bytes(32)), (PEER, PEER_2)), SeriesLink(SERIES, (PEER, PEER_2))],
    ids=["of one content", "of a series"],
)
def test_the_peers_of_a_link_are_pinged(capsys: Capture, link: SwarmLink | SeriesLink) -> None:
    node = FakeNode()
    node.pings = {PEER: [0.001] * 5, PEER_2: [0.002] * 5}
    assert invoke("ping", f"<{link}>", PEER, node=node) == 0
    assert sorted(call[1] for call in node.calls) == sorted((PEER, PEER_2))


@pytest.mark.parametrize(
    ("link", "code", "words"),
    [
        (f"swarm:{ManifestId(bytes(32))}", 2, "the link names no peer"),
        (f"swarm:{ManifestId(bytes(32))}?peer=/ip4/192.0.2.1/tcp/1", 2, "does not end in /p2p/<peer id>"),
        ("swarm:nonsense", 3, "the id in the swarm link is malformed"),
    ],
)
def test_a_link_without_anybody_to_ping(capsys: Capture, link: str, code: int, words: str) -> None:
    assert invoke("ping", link) == code
    assert words in capsys.readouterr().err


def test_a_link_in_the_place_of_a_peer_is_called_a_link(capsys: Capture) -> None:
    link = str(SwarmLink(ManifestId(bytes(32)), (PEER,)))
    for arguments in (("list", link), ("share", "/", "--peer", link)):
        assert invoke(*arguments) == 2
        assert "a link is not the address of a peer" in capsys.readouterr().err


def test_one_silent_peer_does_not_spoil_the_others(capsys: Capture) -> None:
    node = FakeNode()
    node.pings = {PEER: NoPeerReachable(f"cannot reach {PEER}"), PEER_2: [0.002]}
    assert invoke("ping", PEER, PEER_2, "--count", "1", node=node) == 0
    out, err = capsys.readouterr()
    assert f"pinged {PEER_2} in 2.000ms" in out
    assert err == f"warning: cannot reach {PEER}\n"


def test_a_peer_that_never_answers_and_ends_last_does_not_take_back_what_others_answered(
    capsys: Capture,
) -> None:
    node = FakeNode()
    node.pings = {PEER: [0.001], PEER_2: [None] * 5}
    assert invoke("ping", PEER, PEER_2, node=node) == 0
    assert f"{PEER_2}: 5 sent, 5 lost" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("scripts", "peers", "words"),
    [
        ({PEER: NoPeerReachable("connection refused")}, (PEER,), "swarm: connection refused"),
        ({PEER: [None, None]}, (PEER,), "swarm: no peer answered a ping"),
        (
            {PEER: [None], PEER_2: NoPeerReachable("refused")},
            (PEER, PEER_2),
            "swarm: no peer answered a ping",
        ),
    ],
)
def test_exit_code_4_if_no_peer_answers(
    capsys: Capture,
    scripts: dict[str, list[float | None] | Exception],
    peers: tuple[str, ...],
    words: str,
) -> None:
    node = FakeNode()
    node.pings = scripts
    assert invoke("ping", *peers, node=node) == 4
    assert capsys.readouterr().err.splitlines()[-1] == words


def test_an_address_that_only_the_node_finds_wrong_is_exit_code_2(capsys: Capture) -> None:
    node = FakeNode()
    node.pings[PEER] = UsageError("not a TCP address")
    assert invoke("ping", PEER, node=node) == 2
    assert capsys.readouterr().err == "swarm: not a TCP address\n"


@pytest.mark.parametrize(
    "arguments", [(), ("/ip4/192.0.2.1/tcp/4001",), (PEER, "--count", "0"), (PEER, "--interval", "-1")]
)
def test_a_wrong_ping_is_exit_code_2(capsys: Capture, arguments: tuple[str, ...]) -> None:
    assert invoke("ping", *arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_ping_as_json(capsys: Capture) -> None:
    node = FakeNode()
    node.pings[PEER] = [0.001, None]
    assert invoke("ping", PEER, "--count", "2", "--json", node=node) == 0
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert [record.pop("event") for record in records] == [
        "command_started",
        "node_listening",
        "ping_started",
        "peer_pinged",
        "peer_pinged",
        "ping_summary",
    ]
    assert [record["seconds"] for record in records[3:5]] == [0.001, None]
    summary = {"sent": 2, "lost": 1, "min": 0.001, "median": 0.001, "max": 0.001, "address": PEER}
    assert summary.items() <= records[5].items()
    assert err == ""


def test_a_summary_of_an_even_number_of_pings_has_the_mean_of_the_middle_two() -> None:
    assert summarise(PEER, [4.0, 1.0, 2.0, 9.0]) == PingSummary(PEER, 4, 0, 1.0, 3.0, 9.0)
    assert summarise(PEER, [None]) == PingSummary(PEER, 1, 1, None, None, None)
    assert summarise(PEER, []) == PingSummary(PEER, 0, 0, None, None, None)


def advert(name: str, pieces: int, have: int) -> Advert:
    return Advert(ManifestId(bytes([pieces]) * 32), name, 3 * 2**20, pieces, 16384, have)


def test_list_shows_what_each_peer_has(capsys: Capture) -> None:
    node = FakeNode()
    node.adverts = {PEER: [advert("photos", 8, 6), advert("a \x1b[31mtrap", 1, 1)], PEER_2: []}
    assert invoke("list", PEER, PEER_2, node=node) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{PEER} has 2 manifests"
    cid = str(ManifestId(bytes([8]) * 32))
    assert re.split(r" {2,}", lines[1]) == ["ID", "NAME", "SIZE", "PIECES", "HAVE"]
    assert re.split(r" {2,}", lines[2]) == [cid, "photos", "3.0MiB", "8", "75.0%"]
    assert "a \\x1b[31mtrap" in lines[3]
    assert lines[4] == f"{PEER_2} has 0 manifests"
    assert "--listed" in lines[5]


def test_list_of_unreachable_peers(capsys: Capture) -> None:
    node = FakeNode()
    node.adverts = {PEER: NoPeerReachable("refused"), PEER_2: [advert("photos", 8, 8)]}
    assert invoke("list", PEER, PEER_2, node=node) == 0
    out, err = capsys.readouterr()
    assert "photos" in out
    assert err == "warning: refused\n"
    assert invoke("list", PEER, node=node) == 4
    assert capsys.readouterr().err == "swarm: refused\n"


def test_an_empty_manifest_is_had_in_full(capsys: Capture) -> None:
    node = FakeNode()
    node.adverts[PEER] = [advert("empty", 0, 0)]
    assert invoke("list", PEER, node=node) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("100.0%")
