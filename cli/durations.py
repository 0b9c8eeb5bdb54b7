"""Times as people write them: ``90s``, ``30m``, ``2h``, ``1d``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from swarm.lazy_pattern import lazy_pattern

if TYPE_CHECKING:
    FloatType = click.ParamType[float]
else:  # generic since click 8.4 only
    FloatType = click.ParamType

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = lazy_pattern(r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(?P<unit>[smhd])", re.IGNORECASE)
_STEPS = (("d", 86400), ("h", 3600), ("m", 60))


def parse_duration(text: str) -> float:
    """Read ``90s``, ``1.5h``; returns seconds. Raises ValueError with one line that says what is accepted."""
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found["number"]) * UNITS[found["unit"].lower()] if found else 0.0
    if not seconds:
        raise ValueError(f"{text!r} is not a time such as 90s, 30m, 2h or 1d")
    return seconds


def format_time(seconds: float) -> str:
    """Write seconds with the largest unit that divides them: ``2h``, ``90m``, ``1.5s``."""
    for unit, size in _STEPS:
        if seconds >= size and not seconds % size:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


class DurationType(FloatType):
    """A time on the command line."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds; click ends with exit code 2 and our line if the text means nothing."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
