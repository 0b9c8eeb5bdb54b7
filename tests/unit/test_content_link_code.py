"""QR codes of links: what is in them, and their form."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from swarm.content.link import SwarmLink
from swarm.content.link_code import MAX_CODE_BYTES, coded_link, link_blocks, link_svg

ID = "bafyr4ier7d6e2p75r6m7qob4sat6zrtqzenwt6yzhlaog5vpxlpounl53u"
PEER = "/ip4/192.0.2.{}/tcp/4001/p2p/12D3KooWDepk5gnX7EjM5eyGqPNMUzsZTvhAjpz9QkjX5TaqZX2C"
FINDER = ["1111111", "1000001", "1011101", "1011101", "1011101", "1000001", "1111111"]
QUIET = 2
"""Light cells around the code in a terminal."""


def test_a_code_has_the_first_peers_of_a_link_that_is_too_long() -> None:
    short = f"swarm:{ID}?name=a.bin&peer={PEER.format(1)}"
    assert coded_link(short) == short
    many = SwarmLink.parse(short + "".join(f"&peer={PEER.format(number)}" for number in range(2, 30)))
    coded = SwarmLink.parse(coded_link(str(many)))
    assert len(str(coded)) <= MAX_CODE_BYTES
    assert 5 < len(coded.peers) < 29
    assert coded.peers == many.peers[: len(coded.peers)]
    assert (coded.id, coded.name) == (many.id, many.name)
    # A name that leaves no room is left out: only the id is binding.
    long = str(SwarmLink(many.id, name="ü" * 120))
    assert coded_link(long + f"&meet={PEER.format(1)}") in {long, f"swarm:{ID}"}


def test_the_picture_is_a_plain_svg_without_scripts_or_addresses() -> None:
    root = ET.fromstring(link_svg(f"swarm:{ID}?name=a.bin"))  # noqa: S314 - our own
    assert {each.tag.rpartition("}")[2] for each in root.iter()} <= {"svg", "path"}
    assert re.fullmatch(r"0 0 (\d+) \1", root.attrib["viewBox"])
    assert all(name in {"d", "fill", "stroke"} for each in root for name in each.attrib)


def test_the_lines_of_a_terminal_are_the_code() -> None:
    lines = link_blocks(f"swarm:{ID}")
    assert len(set(map(len, lines))) == 1
    # Each letter is two cells: which of them are dark.
    cells = {"█": "00", "▀": "01", "▄": "10", " ": "11"}
    rows = [
        "".join(cells[letter][half] for letter in line)
        for line in lines
        for half in (0, 1)
    ]  # fmt: skip
    rows = [row[QUIET:-QUIET] for row in rows[QUIET:]]
    size = len(rows[0])
    assert (size - 17) % 4 == 0
    for top, left in ((0, 0), (0, size - 7), (size - 7, 0)):
        assert [row[left : left + 7] for row in rows[top : top + 7]] == FINDER
