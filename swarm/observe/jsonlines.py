"""Events as JSON, one object per line; docs/events.md is the specification."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import typing
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from swarm import events
from swarm.events import Event, TransferEvent
from swarm.ids import ManifestId
from swarm.lazy_pattern import lazy_pattern
from swarm.observe import reports

FORMAT_VERSION = 2
_TIME_DIGITS = 6
_WORD_START = lazy_pattern(r"(?<!^)(?=[A-Z])")


def event_name(kind: type[Event]) -> str:
    """Return the name of a kind of event in JSON: ``PieceStored`` is ``piece_stored``."""
    return _WORD_START.sub("_", kind.__name__).lower()


def _kinds() -> Iterator[type[Event]]:
    for module in (events, reports):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Event) and value not in {Event, TransferEvent}:
                yield value


KINDS = MappingProxyType({event_name(kind): kind for kind in _kinds()})
"""Every kind of event that a line may hold, by its name in JSON."""


@functools.cache
def _types(name: str) -> dict[str, Any]:
    """The types of the fields of the kind that has this name."""
    kind = KINDS[name]
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def encode(event: Event, t: float) -> str:
    """Return one line without its end; ``t`` is seconds since the command started."""
    name = event_name(type(event))
    fields = {field: _plain(getattr(event, field)) for field in _types(name)}
    record = {"t": round(t, _TIME_DIGITS), "event": name, **fields}
    # ASCII only: file names may hold what no terminal or locale can encode.
    return json.dumps(record, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def decode(line: str) -> tuple[Event, float] | None:
    """Read one line back; None for a kind of event that this version does not know.

    Fields that this version does not know are ignored. Raises ValueError for text that is not an
    object with ``t`` and the fields of its event.
    """
    record = json.loads(line)
    t = record.get("t") if isinstance(record, dict) else None
    if not isinstance(t, int | float):
        raise ValueError("a line is an object with a number 't'")  # noqa: TRY004 - bad text, not a bad call
    name = str(record.get("event"))
    if name not in KINDS:
        return None
    try:
        fields = {field: _typed(record[field], hint) for field, hint in _types(name).items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a {name}: {error!r}") from error
    return KINDS[name](**fields), float(t)


def _plain(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, ManifestId) else value


def _typed(value: Any, hint: Any) -> Any:
    if hint is ManifestId:
        return ManifestId.parse(value)
    return tuple(value) if typing.get_origin(hint) is tuple else value
