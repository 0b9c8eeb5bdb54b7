"""Sizes, rates and times as people write and read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from swarm.lazy_pattern import lazy_pattern
from swarm.sizes import format_size

if TYPE_CHECKING:
    IntType = click.ParamType[int]
else:  # generic since click 8.4 only
    IntType = click.ParamType

UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SHORT = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BY_LOWER_CASE = {**_SHORT, **{unit.lower(): factor for unit, factor in UNITS.items()}}
_QUANTITY = lazy_pattern(r"(?P<number>[0-9]{1,18}(?:\.[0-9]{1,9})?)\s*(?P<unit>[A-Za-z]*)(?P<per>/s)?")
_MICROSECOND, _MILLISECOND, _SECOND = 10**3, 10**6, 10**9


def parse_size(text: str, *, rate: bool = False) -> int:
    """Read ``64KiB``, ``10MB``, ``5M``, ``1048576`` (bytes); with ``rate`` also ``2.5MiB/s``.

    A rate needs a unit: ``5`` would be five bytes per second, and nobody means that. Raises ValueError
    with one line that says what is accepted.
    """
    what = "rate such as 500kB/s or 2.5MiB/s" if rate else "size such as 64KiB or 10MB"
    found = _QUANTITY.fullmatch(text.strip())
    unit = (found["unit"] or "B").lower() if found else ""
    if found is None or unit not in _BY_LOWER_CASE or (found["per"] and not rate):
        raise ValueError(f"{text!r} is not a {what} (units: {', '.join(UNITS)})")
    if rate and not found["unit"]:
        number = found["number"]
        raise ValueError(f"{text!r} is not a rate without a unit: write {number}kB/s or {number}MB/s")
    size = int(float(found["number"]) * _BY_LOWER_CASE[unit])
    if size < 1:
        raise ValueError(f"{text!r} is less than one byte")
    return size


def format_rate(rate: float) -> str:
    """Write bytes per second: ``2.5MiB/s``."""
    return f"{format_size(rate)}/s"


def format_duration(seconds: float) -> str:
    """Write a round trip in the unit that fits: ``812ns``, ``431.231µs``, ``12.345ms``, ``1.500s``."""
    nanoseconds = round(seconds * _SECOND)
    if nanoseconds < _MICROSECOND:
        return f"{nanoseconds}ns"
    if nanoseconds < _MILLISECOND:
        return f"{nanoseconds / _MICROSECOND:.3f}µs"
    # Rounded to the precision shown first, so that 999.9996 ms becomes 1.000s and not 1000.000ms.
    microseconds = round(nanoseconds / _MICROSECOND)
    if microseconds < _MILLISECOND:
        return f"{microseconds / 1000:.3f}ms"
    return f"{seconds:.3f}s"


def format_remaining(seconds: float | None) -> str:
    """Write an estimate of seconds as ``0:42`` or ``1:02:03``; ``-:--`` when there is none."""
    if seconds is None:
        return "-:--"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class SizeType(IntType):
    """A size in bytes on the command line."""

    name = "size"
    rate = False

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes; click ends with exit code 2 and our line if the text means nothing."""
        if isinstance(value, int):
            return value
        try:
            return parse_size(value, rate=self.rate)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class RateType(SizeType):
    """A rate in bytes per second on the command line."""

    name = "rate"
    rate = True


class LimitType(RateType):
    """A rate, or ``none`` for no limit, which is 0."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes per second, 0 for no limit."""
        return 0 if value == "none" else super().convert(value, param, ctx)


class PieceSizeType(SizeType):
    """A piece length: a power of two between the limits of the manifest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes, or end with exit code 2 unless a manifest may have pieces of that length."""
        size = super().convert(value, param, ctx)
        from swarm.content.manifest import MAX_PIECE_LENGTH, MIN_PIECE_LENGTH

        if size & (size - 1) or not MIN_PIECE_LENGTH <= size <= MAX_PIECE_LENGTH:
            least, most = format_size(MIN_PIECE_LENGTH), format_size(MAX_PIECE_LENGTH)
            self.fail(f"{value!r} is not a power of two from {least} to {most}", param, ctx)
        return size


def counted(number: int, noun: str) -> str:
    """Return ``1 peer``, ``2 peers``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
