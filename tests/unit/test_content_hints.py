"""Peers, meeting points and web servers in one list of a ``.swarm`` file."""

from __future__ import annotations

import pytest

from swarm.content.envelope import Envelope
from swarm.content.hints import Hints
from swarm.content.link import MAX_LINK_PEERS
from swarm.origin_url import OriginUrl
from tests.support.contents import file_manifest

ID = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
PEER = f"/ip4/192.0.2.1/tcp/4001/p2p/{ID}"
MEET = f"/ip4/192.0.2.9/tcp/4001/p2p/{ID}"
ORIGIN = OriginUrl("https://example.net/files/a%20b/")
SECRET = OriginUrl("https://user:pass@example.net/files/?token=1")


def test_what_is_written_is_read_again_also_from_an_envelope() -> None:
    hints = Hints((PEER,), (MEET,), (ORIGIN,))
    assert hints.texts() == (PEER, f"/meet{MEET}", "/origin/https://example.net/files/a%20b/")
    assert Hints.read(hints.texts()) == hints
    envelope = Envelope(file_manifest("f", b"x"), peers=hints.texts())
    assert Hints.read(Envelope.from_bytes(envelope.to_bytes()).peers) == hints
    assert Hints.read(()) == Hints()


def test_secrets_and_what_is_too_long_stay_out() -> None:
    long = OriginUrl("https://example.net/" + "x" * 600 + "/")
    assert Hints((PEER,), (), (SECRET, long)).texts() == (PEER,)


def test_peers_make_room_for_the_others() -> None:
    peers = tuple(f"/ip4/192.0.2.{number}/tcp/1/p2p/{ID}" for number in range(60))
    texts = Hints(peers, (MEET,), (ORIGIN,)).texts()
    assert len(texts) == MAX_LINK_PEERS
    assert Hints.read(texts) == Hints(peers[: MAX_LINK_PEERS - 2], (MEET,), (ORIGIN,))


@pytest.mark.parametrize("text", ["/origin/ftp://example.net/", "/origin/", "/meetings", "/origin"])
def test_what_is_malformed_is_left_where_it_is_told(text: str) -> None:
    assert Hints.read((text,)) == Hints((text,))


def test_a_crowd_of_them_is_bounded() -> None:
    texts = [f"/origin/https://example.net/{number}/" for number in range(32)]
    found = Hints.read(texts)
    assert len(found.origins) == 16
    assert len(found.peers) == 16
    assert len(Hints.read([f"/meet/dns/a{number}.net/tcp/1" for number in range(32)]).meets) == 8
