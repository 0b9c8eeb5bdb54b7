"""The little of protobuf that p2pd's control socket needs: messages of numbers and byte strings."""

from __future__ import annotations

from collections.abc import Iterable

Field = int | bytes


def varint(value: int) -> bytes:
    """Encode an unsigned LEB128 number."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def message(fields: Iterable[tuple[int, Field]]) -> bytes:
    """Encode a protobuf message of numbers and byte strings."""
    encoded = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            encoded += varint(number << 3) + varint(value)
        else:
            encoded += varint(number << 3 | 2) + varint(len(value)) + value
    return bytes(encoded)


def parse(data: bytes) -> dict[int, list[Field]]:
    """Decode a protobuf message of numbers and byte strings."""
    fields: dict[int, list[Field]] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        value: Field = number()
        if key & 7 == 2:
            size = int(value)
            value = data[at : at + size]
            at += size
        fields.setdefault(key >> 3, []).append(value)
    return fields
