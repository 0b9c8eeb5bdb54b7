"""Judges a server's answer to a request for a part of a file. Pure.

An answer is a part (206), the whole file (200, from its beginning), a redirect, or a fault. A fault says what
it concerns: the file as it lies there, the server as a whole, or only this answer.
"""

from __future__ import annotations

import re
from enum import Enum

from swarm.lazy_dataclass import dataclass
from swarm.lazy_pattern import lazy_pattern
from swarm.protocol.http_reader import ResponseHead

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MOST_RETRY_SECONDS = 300.0
"""A server that asks for a longer rest is asked after this, all the same."""
BUSY_SECONDS = 10.0
"""The rest of a server that is busy and does not say for how long."""
NO_RANGES = "it sends the whole file where a part was asked for"
NOT_GIVEN = "it does not give the file"

_CONTENT_RANGE = lazy_pattern(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.ASCII)
_UNSATISFIED = lazy_pattern(r"bytes \*/([0-9]{1,19})", re.ASCII)
_SECONDS = lazy_pattern(r"[0-9]{1,9}", re.ASCII)
_ETAG = lazy_pattern(r'"[!#-~\x80-\xff]{0,256}"')
_PRINTED = lazy_pattern(r"[ -~]{1,64}", re.ASCII)
_GONE = frozenset({401, 402, 403, 404, 405, 406, 410, 414, 451})
_BUSY = frozenset({429, 503})


class Concerns(Enum):
    """What a fault says something about."""

    FILE = "file"
    """The file is not there, or is not the one that is wanted: it is not asked for again in this run."""
    SERVER = "server"
    """The server wants to be left alone for a while."""
    ANSWER = "answer"
    """It may go better the next time."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an answer is of no use, in one short line; ``retry_after`` is seconds, of a server that says so."""

    concerns: Concerns
    reason: str
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """The body is ``length`` bytes of the file (None: to its end) from where the request began.

    ``whole``: the server sends all of the file whatever it is asked for.
    """

    length: int | None
    whole: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """The file is at another URL, as the server wrote it."""

    location: str


@dataclass(frozen=True, slots=True)
class Wish:
    """Bytes ``start`` to ``stop`` of a file of ``size`` bytes; its earlier answers had ``validator``."""

    start: int
    stop: int
    size: int
    validator: str = ""

    @property
    def header(self) -> str:
        """The value of the header Range."""
        return f"bytes={self.start}-{self.stop - 1}"


def validator_of(head: ResponseHead) -> str:
    """What says that two answers are of the same file: its strong ETag, otherwise when it was changed."""
    etag = head.get("etag")
    if _ETAG.fullmatch(etag):
        return etag
    changed = head.get("last-modified")
    return changed if _PRINTED.fullmatch(changed) else ""


def judge(head: ResponseHead, wish: Wish) -> Part | Moved | Fault:
    """What the answer to ``wish`` is."""
    if head.status in REDIRECTS:
        location = head.get("location")
        return Moved(location) if location else Fault(Concerns.FILE, "it redirects to nowhere")
    if head.status not in (200, 206):
        return _refusal(head, wish)
    encoding = head.get("content-encoding").strip().lower()
    if encoding not in ("", "identity"):
        return Fault(Concerns.FILE, "it sends the file in an encoding that was not asked for")
    if wish.validator and validator_of(head) not in ("", wish.validator):
        return Fault(Concerns.FILE, "the file there has changed meanwhile")
    return _part(head, wish) if head.status == 206 else _whole(head, wish)


def _part(head: ResponseHead, wish: Wish) -> Part | Fault:
    match = _CONTENT_RANGE.fullmatch(head.get("content-range").strip())
    if match is None:
        return Fault(Concerns.FILE, "it does not say which part of the file it sends")
    first, last, total = int(match[1]), int(match[2]), match[3]
    if total != "*" and int(total) != wish.size:
        return _wrong_size(int(total), wish)
    if first != wish.start or not first <= last < wish.stop:
        return Fault(Concerns.FILE, "it sends another part of the file than was asked for")
    length = last + 1 - first
    if head.length not in (None, length):
        return Fault(Concerns.FILE, "the length of its answer is not that of the part")
    return Part(length, whole=False)


def _whole(head: ResponseHead, wish: Wish) -> Part | Fault:
    if head.length is not None and head.length != wish.size:
        return _wrong_size(head.length, wish)
    if wish.start:
        return Fault(Concerns.FILE, NO_RANGES)
    return Part(wish.size, whole=True)


def _refusal(head: ResponseHead, wish: Wish) -> Fault:
    if head.status == 416:
        match = _UNSATISFIED.fullmatch(head.get("content-range").strip())
        if match is not None:
            return _wrong_size(int(match[1]), wish)
        return Fault(Concerns.FILE, "the file there has no such part (416)")
    if head.status in _BUSY:
        seconds = head.get("retry-after").strip()
        rest = float(seconds) if _SECONDS.fullmatch(seconds) else BUSY_SECONDS
        return Fault(Concerns.SERVER, f"it is busy ({head.status})", max(1.0, min(rest, MOST_RETRY_SECONDS)))
    if head.status in _GONE:
        return Fault(Concerns.FILE, f"{NOT_GIVEN} ({head.status})")
    if 400 <= head.status < 500 and head.status not in (408, 425):
        return Fault(Concerns.FILE, f"it refuses the request ({head.status})")
    return Fault(Concerns.ANSWER, f"it fails ({head.status})")


def _wrong_size(size: int, wish: Wish) -> Fault:
    return Fault(Concerns.FILE, f"the file there has {size} bytes, not {wish.size}")
