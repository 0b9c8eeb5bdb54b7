"""Protocol Buffers, the part that libp2p's small protocols use: numbers and byte strings, in any order.

Source: the encoding page of the Protocol Buffers documentation; unsigned varints as in the multiformats
specification, so at most nine bytes. A message is read into its fields; which of them it must have is the
business of who reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from swarm.errors import RemoteError
from swarm.reach.reach_limits import MAX_FIELDS

Field = int | bytes

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
MAX_VARINT_BYTES = 10
"""Protobuf writes a negative number with ten."""
_MAX_VALUE = (1 << 64) - 1
_MAX_NUMBER = (1 << 29) - 1


class Fields:
    """The fields of one message; unknown ones are kept and harm nobody."""

    def __init__(self) -> None:
        self._values: dict[int, list[Field]] = {}

    def add(self, number: int, value: Field) -> None:
        """Note one occurrence of a field."""
        self._values.setdefault(number, []).append(value)

    def number(self, field: int, default: int | None = None) -> int:
        """The last value of a numeric field; RemoteError for one of another type, or a missing one."""
        values = self._values.get(field)
        if values is None:
            if default is None:
                raise RemoteError(f"a message lacks its field {field}")
            return default
        value = values[-1]
        if not isinstance(value, int):
            raise RemoteError(f"field {field} of a message is no number")
        return value

    def all_bytes(self, field: int) -> tuple[bytes, ...]:
        """Every value of a field of byte strings, in order; RemoteError for one of another type."""
        found = []
        for value in self._values.get(field, ()):
            if not isinstance(value, bytes):
                raise RemoteError(f"field {field} of a message is no byte string")
            found.append(value)
        return tuple(found)

    def one_bytes(self, field: int) -> bytes | None:
        """The last value of a field of byte strings, None without one."""
        values = self.all_bytes(field)
        return values[-1] if values else None

    def text(self, field: int) -> str:
        """A field of text, an empty one without it; RemoteError if it is not UTF-8."""
        try:
            return (self.one_bytes(field) or b"").decode("utf-8")
        except UnicodeDecodeError:
            raise RemoteError(f"field {field} of a message is not UTF-8") from None

    def message(self, field: int) -> Fields | None:
        """A nested message, None without one; RemoteError if it is malformed."""
        data = self.one_bytes(field)
        return None if data is None else decode(data)

    def messages(self, field: int) -> Iterator[Fields]:
        """Every nested message of a field."""
        return map(decode, self.all_bytes(field))


def encode_varint(value: int) -> bytes:
    """Encode an unsigned number; raises ValueError if it does not fit 64 bits."""
    if not 0 <= value <= _MAX_VALUE:
        raise ValueError(f"{value} is no unsigned number of 64 bits")
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number at ``at``; return it and where it ends. RemoteError for a cut or overlong one."""
    value = 0
    for index in range(MAX_VARINT_BYTES):
        if at + index >= len(data):
            raise RemoteError("a message is cut off")
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if value > _MAX_VALUE:
                break
            return value, at + index + 1
    raise RemoteError("a number in a message is too long")


def encode(fields: Iterable[tuple[int, Field | None]]) -> bytes:
    """Encode fields in the order given; those that are None are left out."""
    encoded = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            encoded += encode_varint(number << 3 | _VARINT) + encode_varint(value)
        elif value is not None:
            encoded += encode_varint(number << 3 | _BYTES) + encode_varint(len(value)) + value
    return bytes(encoded)


def decode(data: bytes, *, most: int = MAX_FIELDS) -> Fields:
    """Read a message; raises RemoteError if it is malformed or has more than ``most`` fields."""
    fields = Fields()
    at = count = 0
    while at < len(data):
        count += 1
        if count > most:
            raise RemoteError(f"a message has more than {most} fields")
        key, at = decode_varint(data, at)
        number, kind = key >> 3, key & 7
        if not 0 < number <= _MAX_NUMBER:
            raise RemoteError(f"a message has a field of number {number}")
        if kind == _VARINT:
            value, at = decode_varint(data, at)
            fields.add(number, value)
            continue
        if kind == _BYTES:
            size, at = decode_varint(data, at)
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise RemoteError(f"a message has a field of kind {kind}")
        if size > len(data) - at:
            raise RemoteError("a message is cut off")
        body = data[at : at + size]
        fields.add(number, body if kind == _BYTES else int.from_bytes(body, "little"))
        at += size
    return fields


def delimited(body: bytes) -> bytes:
    """A message with its length in front, as libp2p sends it."""
    return encode_varint(len(body)) + body
