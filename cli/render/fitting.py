"""One line of progress that fits a terminal: what matters least gives way first."""

from __future__ import annotations

import math

from rich.cells import cell_len, set_cell_size

from cli.quantities import counted, format_rate, format_remaining
from cli.render.lines import HASHES, Phase, Standing, completions, percent
from swarm.content.paths import printable
from swarm.lazy_dataclass import dataclass
from swarm.sizes import format_size

WIDEST_BAR = 24
NARROWEST_BAR = 8
WIDEST_NAME = 32
NARROWEST_NAME = 8
_GAP = 2
_GREEN, _DIM, _PLAIN = "\x1b[32m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Style:
    """What the terminal can show."""

    unicode: bool = True
    colour: bool = True


@dataclass(frozen=True, slots=True)
class _Part:
    """One figure; those with the lowest ``weight`` give way first."""

    weight: int
    text: str
    narrowest: int = 0
    """The columns to which it can be cut; 0 for one that is shown whole or not at all."""


_BAR, _NAME = 60, 70


def line(standing: Standing, columns: int, style: Style) -> str:
    """Return the line, at most ``columns`` wide.

    The percentage stays longest, then the rate, the time left, the name and the bar; pieces go first.
    """
    parts = [part for part in _parts(standing) if part.text]
    while len(parts) > 1 and _least(parts) > columns:
        parts.remove(min(parts, key=lambda part: part.weight))
    spare = columns - _least(parts)
    cells = []
    for part in parts:
        if not part.narrowest:
            cells.append(part.text)
            continue
        width = min(part.narrowest + spare, _widest(part))
        spare -= max(0, width - part.narrowest)
        cells.append(_bar(standing, width, style) if part.weight == _BAR else _cut(part.text, width))
    return (" " * _GAP).join(cells)


def _parts(standing: Standing) -> list[_Part]:
    """In the order in which they are shown."""
    snapshot, phase = standing
    done = percent(snapshot, phase)
    # Never 100% of what is not all there.
    figure = "" if done is None else f"{min(math.floor(done), 100):>3}%"
    name = printable(snapshot.name)
    parts = [
        # A rate says by itself that something is being fetched.
        _Part(20, phase.value if name and phase is not Phase.FETCHING else ""),
        # Without a name the phase says what goes on.
        _Part(_NAME, name or phase.value, min(NARROWEST_NAME, cell_len(name or phase.value))),
        _Part(_BAR, "" if done is None else "bar", NARROWEST_BAR),
        _Part(100, figure),
    ]
    sent = _Part(50, f"up {format_rate(snapshot.up_rate)}")
    peers = _Part(40, counted(snapshot.connected, "peer"))
    left = _Part(80, "" if snapshot.eta is None else f"{format_remaining(snapshot.eta)} left")
    if phase in HASHES:
        hashed = f"{format_size(snapshot.hashed)} of {format_size(snapshot.hash_total)}"
        return [*parts, left, _Part(30, hashed)]
    if phase is Phase.SEEDING:
        complete = _Part(35, ", ".join(completions(snapshot)))
        return [*parts, sent, peers, complete, _Part(30, f"sent {format_size(snapshot.sent)}")]
    return [
        *parts,
        _Part(90, format_rate(snapshot.down_rate)),
        left,
        sent,
        peers,
        _Part(30, f"{format_size(snapshot.have_size)} of {format_size(snapshot.size)}"),
        _Part(10, f"{snapshot.have_pieces}/{snapshot.pieces} pieces"),
    ]


def _least(parts: list[_Part]) -> int:
    widths = (part.narrowest or cell_len(part.text) for part in parts)
    return sum(widths) + _GAP * (len(parts) - 1)


def _widest(part: _Part) -> int:
    return WIDEST_BAR if part.weight == _BAR else min(cell_len(part.text), WIDEST_NAME)


def _cut(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    # Names differ at their ends as often as at their beginnings.
    tail = text[-(width // 3) :]
    return f"{set_cell_size(text, width - cell_len(tail) - 1)}…{tail}"


def _bar(standing: Standing, width: int, style: Style) -> str:
    share = (percent(standing.snapshot, standing.phase) or 0.0) / 100
    full = min(width, int(share * width))
    done, rest = ("━", "─") if style.unicode else ("#", ".")
    if not style.colour:
        return done * full + rest * (width - full)
    return f"{_GREEN}{done * full}{_DIM}{rest * (width - full)}{_PLAIN}"
