"""Limits that depend on the time of day: ``mon-fri 08:00-18:00 up 2MB/s down 10MB/s``. Pure.

A line holds while the clock on the wall shows a time within it, whatever has happened to that clock: an hour
that a change to summer time leaves out is not there, one that comes twice counts twice. A time after midnight
belongs to the day on which its line began. Where several lines hold, the first does.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from swarm.errors import UsageError
from swarm.lazy_dataclass import dataclass

MAX_LINES: Final = 64
MAX_LINE_CHARS: Final = 200
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES: Final = 24 * 60
_GROUPS: Final = {"daily": "mon-sun", "weekdays": "mon-fri", "weekends": "sat-sun"}
_TIMES: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})", re.ASCII)
_RATE: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([kmgt]i?)?b(?:/s)?", re.ASCII)
_FACTORS: Final = {
    "": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40,
}  # fmt: skip
_EXAMPLE: Final = "write it like 'mon-fri 08:00-18:00 up 2MB/s down 10MB/s'"


@dataclass(frozen=True, slots=True)
class LimitPair:
    """What may be sent and received, in bytes per second; None is no limit."""

    upload: int | None = None
    download: int | None = None


@dataclass(frozen=True, slots=True)
class ScheduleLine:
    """One line: days of the week from Monday as 0, minutes of the day, and what it limits.

    ``end`` is at or before ``start`` where the line goes on past midnight; both the same are a whole day.
    A side that is not among ``sides`` stays as it is otherwise.
    """

    text: str
    days: frozenset[int]
    start: int
    end: int
    limits: LimitPair
    sides: frozenset[str]

    def holds(self, day: int, minute: int) -> bool:
        """Whether the line holds at a minute of a day of the week."""
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        if minute >= self.start and day in self.days:
            return True
        return minute < self.end and (day - 1) % 7 in self.days


@dataclass(frozen=True, slots=True)
class LimitSchedule:
    """The lines, in order."""

    lines: tuple[ScheduleLine, ...] = ()

    @classmethod
    def parse(cls, texts: tuple[str, ...]) -> LimitSchedule:
        """Read the lines; raises UsageError with one line that says what is wrong."""
        if len(texts) > MAX_LINES:
            raise UsageError(f"a schedule has at most {MAX_LINES} lines, not {len(texts)}")
        return cls(tuple(map(parse_line, texts)))

    @property
    def texts(self) -> tuple[str, ...]:
        """The lines as they were given."""
        return tuple(line.text for line in self.lines)

    def at(self, local: datetime, otherwise: LimitPair) -> LimitPair:
        """What holds at a local time; ``otherwise`` is what holds where no line says something."""
        day, minute = local.weekday(), 60 * local.hour + local.minute
        for line in self.lines:
            if line.holds(day, minute):
                return LimitPair(
                    line.limits.upload if "up" in line.sides else otherwise.upload,
                    line.limits.download if "down" in line.sides else otherwise.download,
                )
        return otherwise


def parse_line(text: str) -> ScheduleLine:
    """Read one line: days, if not every day; times, if not the whole day; what it limits."""
    words = text.lower().split()
    shown = ascii(text[:MAX_LINE_CHARS])
    if len(text) > MAX_LINE_CHARS or not text.isprintable():
        raise UsageError(f"{shown}: a line of a schedule has at most {MAX_LINE_CHARS} letters")
    days, start, end = frozenset(range(7)), 0, 0
    if words and words[0] not in {"up", "down"} and not words[0][0].isdigit():
        days = _days(words.pop(0), shown)
    if words and words[0][0].isdigit():
        start, end = _times(words.pop(0), shown)
    given: dict[str, int | None] = {}
    while len(words) >= 2 and words[0] in {"up", "down"} and words[0] not in given:
        side, rate, *words = words
        given[side] = _rate(rate, shown)
    if words or not given:
        raise UsageError(f"{shown} is no line of a schedule: {_EXAMPLE}")
    limits = LimitPair(given.get("up"), given.get("down"))
    return ScheduleLine(" ".join(text.split()), days, start, end, limits, frozenset(given))


def _days(word: str, shown: str) -> frozenset[int]:
    days: set[int] = set()
    for part in _GROUPS.get(word, word).split(","):
        first, mark, last = part.partition("-")
        if first not in DAYS or (mark and last not in DAYS):
            raise UsageError(f"{shown}: {word!a} names no days ({', '.join(DAYS)}): {_EXAMPLE}")
        begin = DAYS.index(first)
        length = (DAYS.index(last) - begin) % 7 if mark else 0
        days.update((begin + offset) % 7 for offset in range(length + 1))
    return frozenset(days)


def _times(word: str, shown: str) -> tuple[int, int]:
    found = _TIMES.fullmatch(word)
    hours_and_minutes = list(map(int, found.groups())) if found else [99, 0, 0, 0]
    start = 60 * hours_and_minutes[0] + hours_and_minutes[1]
    end = 60 * hours_and_minutes[2] + hours_and_minutes[3]
    # 24:00 is the end of a day, and no time to begin at.
    if start >= DAY_MINUTES or end > DAY_MINUTES or max(hours_and_minutes[1::2]) > 59:
        raise UsageError(f"{shown}: {word!a} are no times from 00:00 to 24:00: {_EXAMPLE}")
    return start, end


def _rate(word: str, shown: str) -> int | None:
    if word == "none":
        return None
    found = _RATE.fullmatch(word)
    rate = int(float(found[1]) * _FACTORS[found[2] or ""]) if found else 0
    if not 1 <= rate < 1 << 60:
        raise UsageError(f"{shown}: {word!a} is no rate such as 500kB/s, 2.5MiB/s or none: {_EXAMPLE}")
    return rate
