"""Characters that are no letters of their own: ignored ones, and marks, too many of which are costly.

Canonical decomposition sifts the marks that follow a letter into their order. Names of nothing but marks
in the wrong order take three times as long as any others; with few in a row they do not.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

MAX_MARKS = 10
"""Combining marks in a row. Writing needs a handful; the Stream-Safe Text Format (Unicode Standard Annex #15,
section 13) allows 30, but 30 in the wrong order cost three times as much."""

# Default-ignorable characters that a name may carry and that some file systems skip when comparing.
JOINERS = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u200c\u200d\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef"
)
"""A set of a pattern."""
_IGNORED = re.compile(f"[{JOINERS}]")
_IGNORED_RUN = re.compile(f"[{JOINERS}][{JOINERS}]*")

# Class 0 as they are, but two marks when decomposed.
_PAIRS = "\u0f73\u0f75\u0f81"
_IN_PAIRS = re.compile(f"[{_PAIRS}]")
_PLAIN_MARK = "\u0f72"
# Shorter runs are passed over, longer ones taken whole: no character is looked at more often than this.
_LOOKED_AT = 8
_TOO_MANY = re.compile(rb"[^\0]{%d}" % (MAX_MARKS + 1))


def without_ignored(text: str) -> str:
    """``text`` as those see it that skip default-ignorable characters when comparing."""
    # Looking for one character is faster than for runs, and most texts have none. That a run begins with
    # one, rather than being one or more, lets the pattern skip to it.
    return text if text.isascii() or not _IGNORED.search(text) else _IGNORED_RUN.sub("", text)


def has_too_many_marks(text: str) -> bool:
    """Whether more than `MAX_MARKS` characters in a row have a canonical combining class other than 0.

    ``text`` is `without_ignored`, as what is ignored when names are compared interrupts no row.
    """
    if text.isascii():
        return False
    one, runs = _patterns()
    if not one.search(text):
        return False
    long = " ".join([run for run in runs.findall(text) if len(run) > MAX_MARKS])
    classes = map(unicodedata.combining, _IN_PAIRS.sub(_PLAIN_MARK, long))
    return _TOO_MANY.search(bytes(classes)) is not None


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Find a mark and runs of them, or of anything beyond U+FFFF: a set of single ones from there is slow."""
    marks = "".join(filter(unicodedata.combining, map(chr, range(0x10000))))
    one = f"[{marks}{_PAIRS}\U00010000-\U0010ffff]"
    return re.compile(one), re.compile(f"{one}{{{_LOOKED_AT},}}")
