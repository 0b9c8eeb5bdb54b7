"""The reader against cbor2: it reads exactly what cbor2's canonical mode writes, less the excluded types."""

from __future__ import annotations

from typing import Any

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.content import cbor

LIMIT = 1 << 16

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.binary(max_size=40)
    | st.text(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=12,
)


def allowed(value: Any, depth: int = cbor.MAX_DEPTH) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(
            isinstance(key, str) and allowed(item, depth - 1) for key, item in value.items()
        )
    if isinstance(value, list):
        return depth > 0 and all(allowed(item, depth - 1) for item in value)
    if isinstance(value, int):
        return -(1 << 64) <= value < 1 << 64
    return value is None or isinstance(value, str | bytes)


def expected(data: bytes) -> tuple[bool, Any]:
    """Whether ``data`` is to be read, and as what, by re-encoding what cbor2 makes of it."""
    try:
        value = cbor2.loads(data)
        return allowed(value) and cbor2.dumps(value, canonical=True) == data, value
    except Exception:
        return False, None


@settings(deadline=None, max_examples=150)
@given(values)
def test_what_is_written_is_read(value: cbor.Value) -> None:
    data = cbor.encode(value)
    if allowed(value):
        assert cbor.decode(data, max_bytes=LIMIT) == value


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_any_change_is_read_as_cbor2_does_or_refused(data: st.DataObject) -> None:
    encoded = bytearray(cbor.encode(data.draw(values)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(encoded)))
        encoded[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    agree(bytes(encoded))


@settings(deadline=None, max_examples=600)
@given(st.binary(max_size=24))
def test_random_bytes_are_read_as_cbor2_does_or_refused(data: bytes) -> None:
    agree(data)


def agree(data: bytes) -> None:
    sound, value = expected(data)
    try:
        read = cbor.decode(data, max_bytes=LIMIT)
    except cbor.CborError:
        assert not sound
    else:
        assert sound
        assert read == value
        assert cbor.encode(read) == data
