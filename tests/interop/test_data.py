"""Bulk data over swarm's own host with every other libp2p implementation, in both directions."""

from __future__ import annotations

import pytest

from tests.interop.peers import OwnHost
from tests.support.interop_peer import pattern_hash

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

SIZES = (0, 1, 64 << 20)
MODES = ("send", "receive", "echo")
EXPECTED = len(MODES) * [pattern_hash(size).hex() for size in SIZES]


@pytest.fixture
def own(processes, other) -> OwnHost:
    """Our host; it half-closes before the answer where the other side can go on after it."""
    return OwnHost(processes, half_close=other.half_close)


def test_we_dial(own, other):
    assert own.move(MODES, other.address, SIZES) == EXPECTED


def test_the_other_dials(own, other):
    assert other.move(MODES, own.address, SIZES) == EXPECTED
