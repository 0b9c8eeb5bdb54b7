"""Which addresses of a peer are tried that several sources name, again and again."""

from __future__ import annotations

import trio

from swarm.endpoint import Endpoint, Route
from swarm.node.whereabouts import Whereabouts
from swarm.strategy.peer_book import MAX_ADDRESSES


def at(*ports: int) -> tuple[Route, ...]:
    return tuple(Endpoint("ip4", "192.0.2.1", "tcp", port) for port in ports)


def test_what_was_said_first_stays_and_of_the_rest_what_was_said_last() -> None:
    where = Whereabouts(at(1, 2))
    assert where.endpoints == at(1, 2)
    for port in range(3, 1000):
        where.learn(at(port))
    where.learn(at(1, 5, 6))
    where.learn(at(*range(2000, 3000))[:3])
    assert where.endpoints == at(1, 2, 997, 998, 999, 5, 6, 2000, 2001, 2002)
    assert len(Whereabouts(at(*range(100))).endpoints) == MAX_ADDRESSES


async def test_only_what_is_new_is_news_and_a_source_that_goes_on_wakes_nobody_for_ever() -> None:
    where = Whereabouts(at(1))
    where.learn(at(1))
    assert not where.news.is_set()
    woken = 0
    for port in range(2, 1000):
        where.news = trio.Event()
        where.learn(at(1, port))
        woken += where.news.is_set()
        where.news = trio.Event()
        where.learn(at(port))
        assert not where.news.is_set()
    assert woken == MAX_ADDRESSES
