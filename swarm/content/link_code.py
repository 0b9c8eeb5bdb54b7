"""A link as a QR code (ISO/IEC 18004), for a phone's camera: as SVG, or as text for a terminal. Pure."""

from __future__ import annotations

import io
from typing import Final

from swarm.content.link import SwarmLink
from swarm.lazy_dataclass import replace

MAX_CODE_BYTES: Final = 800
"""What a camera still reads from a screen; a code takes 2,953."""


def coded_link(text: str) -> str:
    """The link with as many of its peers as a code takes, the first ones first. Raises ManifestError."""
    link = SwarmLink.parse(text)
    while len(str(link)) > MAX_CODE_BYTES and link.peers:
        link = replace(link, peers=link.peers[:-1])
    while len(str(link)) > MAX_CODE_BYTES and (link.meets or link.origins):
        link = replace(link, meets=link.meets[:-1], origins=link.origins[:-1])
    return str(link if len(str(link)) <= MAX_CODE_BYTES else SwarmLink(link.id))


def link_svg(text: str) -> str:
    """An SVG image of the code, dark on white, of no size of its own."""
    import segno

    out = io.BytesIO()
    code = segno.make(coded_link(text), error="l", micro=False)
    code.save(out, kind="svg", light="#fff", omitsize=True, xmldecl=False, svgclass=None, lineclass=None)
    return out.getvalue().decode("ascii")


def link_blocks(text: str) -> list[str]:
    """Lines of half blocks, light where the terminal shows its letters: read with either background."""
    import segno

    out = io.StringIO()
    segno.make(coded_link(text), error="l", micro=False).terminal(out, compact=True, border=2)
    return out.getvalue().rstrip("\n").split("\n")
