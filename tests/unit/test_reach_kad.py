"""The client's part of Kademlia: messages, and walks through tables with silent and lying nodes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence

import base58
import pytest

from swarm.endpoint import Endpoint
from swarm.errors import RemoteError
from swarm.ids import ManifestId, PeerId, SourceId
from swarm.reach.kad_messages import (
    MAX_KAD_PEERS,
    KadPeer,
    add_provider,
    decode_kad,
    find_node,
    get_providers,
    key_of,
)
from swarm.reach.kad_nodes import DOUBT_SECONDS, FIRST_PATIENCE, MAX_ANSWERING, MAX_DOUBTED, KadNodes
from swarm.reach.kad_walk import AT_ONCE, FEW_ANSWERS, MAX_HEARD, MAX_QUESTIONS, MOST_OPEN, NEAREST, KadWalk
from swarm.reach.multiaddrs import address_to_bytes, peer_to_bytes
from swarm.reach.protobuf import decode, encode

KEY = key_of(ManifestId(bytes(32)))
WHERE = (Endpoint.parse("/ip4/5.5.5.1/tcp/4001"),)


def peer(number: int) -> PeerId:
    digest = hashlib.sha256(number.to_bytes(8, "big")).digest()
    return PeerId(SourceId(base58.b58encode(b"\x12\x20" + digest).decode()))


ME = peer(1 << 60)


def encoded(of: PeerId, *addresses: bytes) -> bytes:
    return encode([(1, peer_to_bytes(of)), *((2, address) for address in addresses)])


def test_a_key_is_a_multihash_that_does_not_tell_the_id() -> None:
    assert KEY[:2] == b"\x12\x20"
    assert len(KEY) == 34
    assert bytes(32) not in KEY
    assert key_of(ManifestId(bytes(31) + b"\x01")) != KEY


def test_questions_are_as_the_specification_has_them() -> None:
    assert find_node(KEY) == b"\x08\x04\x12\x22" + KEY
    assert get_providers(KEY) == b"\x08\x03\x12\x22" + KEY
    told = decode(add_provider(KEY, ME, WHERE))
    assert told.number(1) == 2
    (provider,) = told.messages(9)
    assert provider.one_bytes(1) == peer_to_bytes(ME)
    assert provider.all_bytes(2) == (address_to_bytes(WHERE[0]),)


def test_an_answer_names_peers_at_addresses_that_can_be_dialled() -> None:
    quic = bytes.fromhex("0405050501910fa1cd03")
    name = address_to_bytes(Endpoint.parse("/dns4/example.org/tcp/80"))
    tcp = address_to_bytes(WHERE[0])
    answer = decode_kad(encode([(8, encoded(peer(1), quic, name, tcp, tcp)), (9, encoded(peer(2)))]))
    assert answer.closer == (KadPeer(peer(1), WHERE),)
    assert answer.providers == (KadPeer(peer(2), ()),)


def test_an_answer_is_bounded() -> None:
    many = [(8, encoded(peer(number))) for number in range(100)]
    assert len(decode_kad(encode(many)).closer) == MAX_KAD_PEERS
    assert decode_kad(encode([(8, encode([(1, b"no peer")]))])).closer == ()
    with pytest.raises(RemoteError):
        decode_kad(b"\x42\xff")


Answers = Callable[[KadPeer], Sequence[KadPeer] | None]


def run(walk: KadWalk, answers: Answers) -> list[PeerId]:
    """Walk until it is over; None is a node that does not answer. Whom it asked, in order."""
    asked: list[PeerId] = []
    while not walk.over:
        batch = []
        while (node := walk.next()) is not None:
            batch.append(node)
        assert 0 < len(batch) <= AT_ONCE
        for node in batch:
            asked.append(node.peer)
            closer = answers(node)
            if closer is None:
                walk.failed(node.peer)
            else:
                walk.answered(node.peer, closer)
    return asked


def near(nodes: Sequence[KadPeer], count: int = NEAREST) -> list[KadPeer]:
    target = int.from_bytes(hashlib.sha256(KEY).digest())

    def distance(node: KadPeer) -> int:
        return target ^ int.from_bytes(hashlib.sha256(peer_to_bytes(node.peer)).digest())

    return sorted(nodes, key=distance)[:count]


@pytest.mark.parametrize("seed", range(5))
def test_a_walk_finds_the_nearest_though_a_third_are_silent(seed: int) -> None:
    rng = random.Random(seed)
    nodes = [KadPeer(peer(1000 * seed + number), WHERE) for number in range(40)]
    silent = {each.peer for each in rng.sample(nodes[1:], 12)}
    walk = KadWalk(KEY, nodes[:1], ME)
    asked = run(walk, lambda node: None if node.peer in silent else near(rng.sample(nodes, 30)))
    assert len(asked) <= MAX_QUESTIONS
    alive = [each for each in nodes if each.peer not in silent]
    assert set(near(alive, 8)) <= set(walk.keepers())


def test_lying_nodes_cost_a_number_of_questions_and_little_memory() -> None:
    rng = random.Random(1)
    told = 0

    def lie(_: KadPeer) -> Sequence[KadPeer]:
        nonlocal told
        told += 1000
        return [KadPeer(peer(rng.randrange(1 << 40)), WHERE) for _ in range(1000)]

    walk = KadWalk(KEY, [KadPeer(peer(1), WHERE)], ME)
    asked = run(walk, lie)
    assert len(asked) == MAX_QUESTIONS
    assert told >= 10_000
    assert len(walk._nodes) <= MAX_HEARD
    assert len(walk.keepers()) <= NEAREST


def test_nobody_waits_for_a_slow_node_once_a_few_have_answered() -> None:
    nodes = near([KadPeer(peer(number), WHERE) for number in range(5)])
    walk = KadWalk(KEY, nodes, ME, nearest=FEW_ANSWERS + 1)
    assert [walk.next() for _ in range(5)] == [*nodes[:4], None]
    walk.slow(nodes[0].peer)
    assert walk.next() == nodes[4]
    for node in nodes[1:FEW_ANSWERS]:
        walk.answered(node.peer, ())
    walk.failed(nodes[4].peer)
    assert not walk.over
    walk.slow(nodes[3].peer)
    assert not walk.over
    walk.answered(nodes[3].peer, ())
    assert walk.over
    walk.answered(nodes[0].peer, ())
    assert set(walk.keepers()) == set(nodes[:4])


def test_for_a_late_node_another_is_asked_and_enough_answers_end_the_walk() -> None:
    nodes = near([KadPeer(peer(number), WHERE) for number in range(5)])
    walk = KadWalk(KEY, nodes, ME, nearest=2)
    assert [walk.next(), walk.next(), walk.next()] == [*nodes[:2], None]
    walk.late(nodes[0].peer)
    assert walk.next() == nodes[2]
    walk.answered(nodes[1].peer, ())
    assert not walk.over
    walk.answered(nodes[2].peer, ())
    assert walk.over
    assert walk.unanswered == (nodes[0].peer,)
    # Its answer counts if it comes all the same.
    walk.answered(nodes[0].peer, ())
    assert walk.unanswered == ()
    assert set(walk.keepers()) == set(nodes[:3])


def test_late_nodes_are_waited_for_as_long_as_too_few_have_answered() -> None:
    nodes = near([KadPeer(peer(number), WHERE) for number in range(100)], 100)
    walk = KadWalk(KEY, nodes, ME, nearest=AT_ONCE)
    asked = 0
    while (node := walk.next()) is not None:
        asked += 1
        walk.late(node.peer)
    assert asked == MOST_OPEN
    assert not walk.over
    walk.slow(nodes[0].peer)
    assert walk.next() == nodes[MOST_OPEN]
    for node in nodes[: MOST_OPEN + 1]:
        walk.failed(node.peer)
    assert not walk.over


def test_doubted_nodes_are_asked_last() -> None:
    nodes = near([KadPeer(peer(number), WHERE) for number in range(5)])
    walk = KadWalk(KEY, nodes, ME, nearest=3, doubted={nodes[0].peer, nodes[1].peer})
    assert run(walk, lambda _: ()) == [each.peer for each in nodes[2:]]
    alone = KadWalk(KEY, nodes, ME, nearest=3, doubted={each.peer for each in nodes})
    assert run(alone, lambda _: ()) == [each.peer for each in nodes[:3]]


def test_what_is_known_of_nodes_is_bounded_and_forgotten() -> None:
    nodes = [KadPeer(peer(number), WHERE) for number in range(2 * MAX_DOUBTED)]
    known = KadNodes(nodes)
    assert len(known.answering) == MAX_ANSWERING
    assert known.patience == FIRST_PATIENCE
    for node in nodes[:MAX_ANSWERING]:
        known.silent(node.peer, 0.0)
    assert known.answering == ()
    for node in nodes:
        known.silent(node.peer, 1.0)
    assert len(known.doubted(2.0)) == MAX_DOUBTED
    assert known.doubted(2.0 + DOUBT_SECONDS) == frozenset()
    for node in nodes:
        known.answered(node, None)
    assert known.patience == FIRST_PATIENCE
    for node in nodes:
        known.answered(node, 0.1)
    assert known.answering == tuple(nodes[-MAX_ANSWERING:])
    assert known.doubted(2.0) == frozenset()
    assert known.patience == pytest.approx(0.3)


def test_one_that_names_itself_us_or_nobody_leads_nowhere() -> None:
    first = KadPeer(peer(1), WHERE)
    walk = KadWalk(KEY, [first], ME)
    assert run(walk, lambda _: [first, KadPeer(ME, WHERE), KadPeer(peer(2), ())]) == [first.peer]
    assert walk.keepers() == (first,)
    assert KadWalk(KEY, [], ME).over
