"""Files over HTTP while they are fetched: which bytes are asked for, and how they are described. Pure."""

from __future__ import annotations

import hashlib
import hmac
import mimetypes
import re
from typing import Final

from swarm.lazy_dataclass import dataclass

PATH: Final = re.compile(r"/v1/transfers/([^/]{1,200})/files/([0-9]{1,9})", re.ASCII)
KEY_CHARS: Final = 40
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)
_SHOWN: Final = ("video/", "audio/", "image/")
DOWNLOADED: Final = "application/octet-stream"

SEALED: Final = (
    ("content-security-policy", "default-src 'none'; sandbox"),
    ("cross-origin-resource-policy", "same-origin"),
)
"""What a file of strangers is served with: whatever is in it, it is no part of the page and runs nothing."""
SHOWN: Final = (
    (
        "content-security-policy",
        "default-src 'none'; media-src 'self'; img-src 'self'; style-src 'unsafe-inline'",
    ),
    *SEALED[1:],
)
"""The same for a film, a sound or a picture. The browser makes a document around it, which loads it again,
and in a sandbox could not. Its type says that nothing in it runs, and ``nosniff`` that none is guessed."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes from ``start`` to before ``stop``."""

    start: int
    stop: int


def wanted(header: str | None, length: int) -> ByteRange | None:
    """The bytes that a ``Range`` header asks for; all where it is missing, malformed or of several ranges.

    None if the file has none of them.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or not (found[1] or found[2]):
        return ByteRange(0, length)
    if not found[1]:
        last = min(int(found[2]), length)
        return ByteRange(length - last, length) if last else None
    start = int(found[1])
    stop = min(int(found[2]) + 1, length) if found[2] else length
    if found[2] and int(found[2]) < start:
        return ByteRange(0, length)
    return ByteRange(start, stop) if start < stop else None


def asks_range(header: str | None) -> bool:
    """Whether a ``Range`` header asks for one range, be it of all bytes: then the answer is a partial one."""
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or not (found[1] or found[2]):
        return False
    return not (found[1] and found[2] and int(found[2]) < int(found[1]))


def media_type(name: str) -> str:
    """The type of a film, a sound or a picture by its name; of anything else that of mere bytes."""
    kind = mimetypes.guess_type(name)[0] or ""
    return kind if kind.startswith(_SHOWN) and not kind.endswith("xml") else DOWNLOADED


def sealed(kind: str) -> tuple[tuple[str, str], ...]:
    """The headers with which a file of that type is served."""
    return SEALED if kind == DOWNLOADED else SHOWN


def file_key(token: str, transfer: str, file: int) -> str:
    """What opens one file and nothing else: a player cannot send the token, and must not have it."""
    text = f"file\0{transfer}\0{file}".encode()
    return hmac.new(token.encode(), text, hashlib.sha256).hexdigest()[:KEY_CHARS]
