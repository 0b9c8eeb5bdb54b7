"""Text takes less of a slow uplink than it has bytes, noise takes no more, and both arrive whole."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.netns.network import Network, why_unavailable
from tests.netns.packing import fetch, share, tar_of_sources
from tests.support.processes import Processes
from tests.support.requirements import require

MIB = 1 << 20
FRAMING = 1.08
"""Packets, records and frames around the payload, acknowledgements, and what is sent twice."""


@pytest.fixture(autouse=True, scope="module")
def namespaces() -> None:
    why = why_unavailable()
    require(not why, why)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("data", "share_of_the_file"),
    [(tar_of_sources(8 * MIB), 0.6), (random.Random(1).randbytes(2 * MIB), FRAMING)],
    ids=["text", "noise"],
)
def test_what_shrinks_is_compressed_on_a_slow_uplink(
    tmp_path: Path, data: bytes, share_of_the_file: float
) -> None:
    content = tmp_path / "content.bin"
    content.write_bytes(data)
    with Network(2, bits=20_000_000) as network, Processes(tmp_path) as processes:
        run = fetch(network, processes, share(network, processes, content), content)
    assert run.wire <= share_of_the_file * len(data)
