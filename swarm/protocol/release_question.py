"""The question of `/swarm/release/1.0.0`: is there a newer release of a series? Source: docs/protocol.md.

The answer is a big-endian ``u32`` length and a release record of so many bytes, none if nothing is newer.
"""

from __future__ import annotations

import struct
from typing import Final

from swarm.content.release import MAX_SEQUENCE, SeriesId
from swarm.errors import RemoteError
from swarm.ids import DIGEST_BYTES
from swarm.lazy_dataclass import dataclass

MAX_WAIT_SECONDS: Final = 60
"""The longest time that a peer waits for something newer before it answers."""

_QUESTION = struct.Struct(f">{DIGEST_BYTES}sQH")
QUESTION_BYTES: Final = _QUESTION.size


@dataclass(frozen=True, slots=True)
class ReleaseQuestion:
    """Asks for a release above number ``known``; the answer may take ``seconds`` to come."""

    series: SeriesId
    known: int
    seconds: int


def encode_question(question: ReleaseQuestion) -> bytes:
    """Encode a question."""
    return _QUESTION.pack(question.series.digest, question.known, question.seconds)


def decode_question(data: bytes) -> ReleaseQuestion:
    """Decode the `QUESTION_BYTES` bytes of a question; raises RemoteError if it breaks a limit."""
    digest, known, seconds = _QUESTION.unpack(data)
    if seconds > MAX_WAIT_SECONDS:
        raise RemoteError(f"a question for a release waits at most {MAX_WAIT_SECONDS} s, not {seconds}")
    if known > MAX_SEQUENCE:
        raise RemoteError(f"no release has the number {known}")
    return ReleaseQuestion(SeriesId(digest), known, seconds)
