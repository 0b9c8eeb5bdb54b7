"""Bulk data over swarm's own host with every other libp2p implementation, in both directions."""

from __future__ import annotations

import pytest

from tests.interop.peers import OwnHost
from tests.support.interop_peer import pattern_hash

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

SIZE = 64 << 20
MODES = ("send", "receive", "echo")


@pytest.fixture
def own(processes, other) -> OwnHost:
    """Our host; it half-closes before the answer where the other side can go on after it."""
    return OwnHost(processes, half_close=other.half_close)


@pytest.mark.parametrize("mode", MODES)
def test_we_dial(own, other, mode):
    assert own.move(mode, other.address, SIZE) == pattern_hash(SIZE).hex()


@pytest.mark.parametrize("mode", MODES)
def test_the_other_dials(own, other, mode):
    assert other.move(mode, own.address, SIZE) == pattern_hash(SIZE).hex()


@pytest.mark.parametrize("size", [0, 1])
def test_almost_nothing(own, other, size):
    assert own.move("echo", other.address, size) == pattern_hash(size).hex()
    assert other.move("echo", own.address, size) == pattern_hash(size).hex()
