"""Events as JSON lines, and docs/events.md as their specification."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import typing
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import events
from swarm.events import Event, PeerFailed, PieceStored, TransferComplete, TransferEvent, Warned
from swarm.ids import ManifestId, PeerId, TransferId
from swarm.observe import reports
from swarm.observe.jsonlines import KINDS, decode, encode, event_name

DOC = Path(__file__).parents[2] / "docs" / "events.md"
ID = ManifestId(bytes(range(32)))

_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers(0, 2**60),
    float: st.floats(0, 1e12),
    bool: st.booleans(),
    ManifestId: st.binary(min_size=32, max_size=32).map(ManifestId),
    NoneType: st.none(),
}
_JSON_TYPES = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    ManifestId: "id",
    NoneType: "null",
}


def _hints(kind: type[Event]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _unnamed(hint: Any) -> Any:
    while hasattr(hint, "__supertype__"):
        hint = hint.__supertype__
    return hint


def _strategy(hint: Any) -> st.SearchStrategy[Any]:
    hint = _unnamed(hint)
    if typing.get_origin(hint) is tuple:
        return st.lists(st.text(), max_size=3).map(tuple)
    if typing.get_origin(hint) in {Union, UnionType}:
        return st.one_of(*(_PLAIN[_unnamed(each)] for each in typing.get_args(hint)))
    return _PLAIN[hint]


def _json_type(hint: Any) -> str:
    hint = _unnamed(hint)
    if typing.get_origin(hint) is tuple:
        return "array of string"
    if typing.get_origin(hint) in {Union, UnionType}:
        return " or ".join(_JSON_TYPES[_unnamed(each)] for each in typing.get_args(hint))
    return _JSON_TYPES[hint]


any_event = st.sampled_from(sorted(KINDS.values(), key=event_name)).flatmap(
    lambda kind: st.builds(kind, **{name: _strategy(hint) for name, hint in _hints(kind).items()})
)


def test_a_line_looks_as_documented() -> None:
    line = encode(PieceStored(TransferId(2), 7, 16384, PeerId("12D3KooWAnn")), 1.23456789)
    assert json.loads(line) == {
        "t": 1.234568,
        "event": "piece_stored",
        "transfer": 2,
        "piece": 7,
        "size": 16384,
        "source": "12D3KooWAnn",
    }
    assert line.startswith('{"t":1.234568,"event":"piece_stored","transfer":2,')


@given(any_event, st.floats(0, 1e6))
def test_every_event_comes_back_from_its_line(event: Event, t: float) -> None:
    line = encode(event, t)
    assert line.isascii()
    assert "\n" not in line
    assert decode(line) == (event, round(t, 6))


def test_every_kind_of_event_has_a_name_of_its_own() -> None:
    assert {"piece_stored", "transfer_complete", "node_listening", "path_fetched", "command_failed"} <= set(
        KINDS
    )
    for module in (events, reports):
        kinds = [
            v
            for v in vars(module).values()
            if isinstance(v, type) and issubclass(v, Event) and v not in {Event, TransferEvent}
        ]
        assert kinds
        for kind in kinds:
            assert KINDS[event_name(kind)] is kind


def test_names_that_no_terminal_can_show_are_escaped() -> None:
    line = encode(Warned("a\udcffb\x1b[31m\nc"), 0)
    assert line.isascii()
    assert "\x1b" not in line
    assert decode(line) == (Warned("a\udcffb\x1b[31m\nc"), 0.0)


def test_what_json_has_no_number_for_is_null() -> None:
    record = json.loads(encode(PeerFailed(TransferId(1), PeerId("x"), "gone", math.inf), 0))
    assert record["retry_in"] is None


COMPLETE = (
    '{"t": 1, "event": "transfer_complete", "transfer": 1, "manifest": %s, "path": "", '
    '"size": 1, "seconds": 1.0, "bytes_received": 2, "bytes_reused": 3, "bytes_patched": 4}'
)


def test_a_line_with_a_good_id_is_read() -> None:
    assert decode(COMPLETE % f'"{ID}"') == (
        TransferComplete(TransferId(1), ID, "", 1, 1.0, 2, 3, 4),
        1.0,
    )


def test_a_newer_writer_may_add_events_and_fields() -> None:
    assert decode('{"t": 1, "event": "piece_dreamt", "depth": 3}') is None
    line = '{"t": 1, "event": "warned", "message": "m", "transfer": null, "colour": "red"}'
    assert decode(line) == (Warned("m"), 1.0)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "[]",
        "7",
        '{"event": "warned", "message": "no time", "transfer": 1}',
        '{"t": "soon", "event": "warned", "message": "m", "transfer": 1}',
        '{"t": 1, "event": "warned"}',
        COMPLETE % '"no id"',
        COMPLETE % "5",
        '{"t": 1, "event": "node_listening", "peer": "p", "addresses": 3}',
    ],
)
def test_what_is_no_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        decode(line)


def _documented() -> dict[str, dict[str, str]]:
    """The events of docs/events.md: name to fields to types."""
    found: dict[str, dict[str, str]] = {}
    fields: dict[str, str] = {}
    for line in DOC.read_text("utf-8").splitlines():
        if heading := re.fullmatch(r"### `(\w+)`", line):
            fields = found[heading[1]] = {}
        elif cell := re.match(r"\| `(\w+)` \| ([a-z ]+) \|", line):
            fields[cell[1]] = cell[2]
    return found


def test_the_document_names_every_event_and_field_with_its_type() -> None:
    expected = {
        name: {field: _json_type(hint) for field, hint in _hints(kind).items()}
        for name, kind in KINDS.items()
    }
    assert _documented() == expected
