"""Deterministic CBOR: each value has exactly one encoding, and any other encoding is refused.

The accepted subset is DAG-CBOR without floats, links and other tags: unsigned and negative integers of at
most 64 bits, byte strings, UTF-8 text, arrays, maps with text keys, booleans, null; definite lengths,
shortest heads, map keys ordered by length and then bytewise, no duplicates. Sources: RFC 8949 section 4.2.3
(length-first core deterministic encoding); the IPLD DAG-CBOR specification.

Encoding uses cbor2's canonical mode. Decoding uses the cursor in this module, because the input is hostile. A
general decoder builds the whole tree before anything can be refused: 32 MiB of empty arrays become 2 GiB of
objects. The cursor allocates nothing before it has seen the bytes, and its caller stops at the first wrong
field.
"""

from __future__ import annotations

from typing import TypeAlias

import cbor2

Value: TypeAlias = "bool | int | str | bytes | list[Value] | dict[str, Value] | None"

MAX_DEPTH = 8
MAX_ITEMS = 4096

_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(7)
_FALSE, _TRUE, _NULL = 0xF4, 0xF5, 0xF6
_TOO_SHORT = "the bytes end too early"
_INLINE = 24
_SHORT_TEXT, _LONG_TEXT = _TEXT << 5, _TEXT << 5 | _INLINE
_UNBOUNDED = 1 << 64
_LARGE = 1 << 16
# For additional information 24..27: the bytes of the argument, and the least value that needs that many.
_WIDTHS = {24: (1, 24), 25: (2, 1 << 8), 26: (4, 1 << 16), 27: (8, 1 << 32)}
_KINDS = (
    "an unsigned integer",
    "a negative integer",
    "bytes",
    "text",
    "an array",
    "a map",
    "a tag",
    "a simple value",
)


class CborError(ValueError):
    """The bytes are not the deterministic encoding of the expected value."""


def text_key(name: str) -> bytes:
    """Encode a map key of at most 23 ASCII characters, for `Reader.key`."""
    return bytes((_TEXT << 5 | len(name),)) + name.encode("ascii")


def encode(value: Value) -> bytes:
    """Return the deterministic encoding of ``value``; its integers must fit into 64 bits."""
    if isinstance(value, dict) and any(
        isinstance(each, bytes) and len(each) > _LARGE for each in value.values()
    ):
        return _encode_large(value)
    return cbor2.dumps(value, canonical=True)


def _encode_large(fields: dict[str, Value]) -> bytes:
    """Encode a map with long byte strings, which cbor2 takes 40 ns a byte for, without a pause."""
    parts = [_head(_MAP, len(fields))]
    for key in sorted(fields, key=lambda key: (len(key.encode()), key.encode())):
        parts.append(cbor2.dumps(key))
        value = fields[key]
        if isinstance(value, bytes):
            parts += (_head(_BYTES, len(value)), value)
        else:
            parts.append(cbor2.dumps(value, canonical=True))
    return b"".join(parts)


def _head(major: int, argument: int) -> bytes:
    """Return the shortest head with an argument."""
    head = cbor2.dumps(argument)
    return bytes((head[0] | major << 5,)) + head[1:]


def decode(data: bytes, *, max_bytes: int, max_depth: int = MAX_DEPTH, max_items: int = MAX_ITEMS) -> Value:
    """Decode ``data``, which must be exactly one value in its deterministic encoding.

    ``max_bytes`` limits the input, ``max_items`` the number of values (keys included), ``max_depth`` the
    nesting of arrays and maps. Raises `CborError` for anything else.
    """
    if len(data) > max_bytes:
        raise CborError(f"{len(data)} bytes are more than the {max_bytes} allowed")
    reader = Reader(data)
    value = _Tree(reader, max_items).value(max_depth)
    reader.end()
    return value


class Reader:
    """A cursor over deterministic CBOR; each method reads one item or raises `CborError`.

    Reads ``data`` from ``start`` to ``end``, all of it by default. ``at`` is the offset of the next item; a
    caller that parses some bytes itself advances it.
    """

    __slots__ = ("_data", "_end", "at")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self.at = start
        self._end = len(data) if end is None else end

    def end(self) -> None:
        """Check that nothing follows."""
        if self.at != self._end:
            raise CborError(f"{self._end - self.at} bytes follow the end")

    def peek(self) -> int:
        """Return the first byte of the next item without consuming it."""
        if self.at >= self._end:
            raise CborError(_TOO_SHORT)
        return self._data[self.at]

    def key(self, encoded: bytes) -> None:
        """Read the map key that `text_key` encoded."""
        if not self._data.startswith(encoded, self.at, self._end):
            if self._end - self.at < len(encoded):
                raise CborError(_TOO_SHORT)
            raise CborError(f"the field '{encoded[1:].decode()}' is missing or out of place")
        self.at += len(encoded)

    def has_key(self, encoded: bytes) -> bool:
        """Read the map key that `text_key` encoded if it comes next; says whether it did."""
        found = self._data.startswith(encoded, self.at, self._end)
        if found:
            self.at += len(encoded)
        return found

    def null(self) -> None:
        """Read a null."""
        if self.peek() != _NULL:
            raise CborError(f"{_KINDS[self.peek() >> 5]} instead of null")
        self.at += 1

    def unsigned(self) -> int:
        """Read an unsigned integer."""
        return self._argument(_UINT, _UNBOUNDED)

    def array(self, max_size: int) -> int:
        """Read the head of an array; return the number of items that follow."""
        return self._argument(_ARRAY, max_size)

    def fields(self, count: int) -> None:
        """Read the head of a map, which must have exactly ``count`` pairs."""
        found = self._argument(_MAP, _UNBOUNDED)
        if found != count:
            raise CborError(f"a map of {found} fields instead of {count}")

    def map(self, max_size: int) -> int:
        """Read the head of a map; return the number of pairs that follow."""
        return self._argument(_MAP, max_size)

    def data(self, max_size: int) -> bytes:
        """Read a byte string."""
        return self._take(self._argument(_BYTES, max_size))

    def part(self, max_size: int) -> tuple[int, int]:
        """Read a byte string without copying it; return where it starts and ends."""
        size = self._argument(_BYTES, max_size)
        start = self.at
        self.skip(size)
        return start, start + size

    def skip(self, size: int) -> None:
        """Skip ``size`` bytes."""
        if size > self._end - self.at:
            raise CborError(_TOO_SHORT)
        self.at += size

    def text(self, max_bytes: int) -> str:
        """Read a text of at most ``max_bytes`` bytes of UTF-8."""
        start = self.at + 1
        # Fast path for short ASCII, at a third of the cost: a manifest has one text for each file.
        if start < self._end and _SHORT_TEXT <= (first := self._data[start - 1]) < _LONG_TEXT:
            stop = start + first - _SHORT_TEXT
            text = self._data[start:stop]
            if stop <= self._end and stop - start <= max_bytes and text.isascii():
                self.at = stop
                return text.decode("ascii")
        return self._utf8(self._argument(_TEXT, max_bytes))

    def boolean(self) -> bool:
        """Read a boolean."""
        first = self.peek()
        if first not in (_FALSE, _TRUE):
            raise CborError(f"{_KINDS[first >> 5]} instead of a boolean")
        self.at += 1
        return first == _TRUE

    def negative(self) -> int:
        """Read a negative integer."""
        return -1 - self._argument(_NEGATIVE, _UNBOUNDED)

    def _argument(self, major: int, limit: int) -> int:
        """Read a head; return its argument: the value of an integer, or the size of anything else."""
        first = self.peek()
        if first >> 5 != major:
            raise CborError(f"{_KINDS[first >> 5]} instead of {_KINDS[major]}")
        self.at += 1
        argument = first & 0x1F
        if argument >= _INLINE:
            argument = self._long(argument)
        if argument > limit:
            raise CborError(f"{_KINDS[major]} of size {argument}, but at most {limit} is allowed")
        return argument

    def _long(self, information: int) -> int:
        if information not in _WIDTHS:
            raise CborError("indefinite lengths are not allowed")
        width, least = _WIDTHS[information]
        number = int.from_bytes(self._take(width), "big")
        if number < least:
            raise CborError("an integer or length is not in its shortest form")
        return number

    def _take(self, size: int) -> bytes:
        start = self.at
        if size > self._end - start:
            raise CborError(_TOO_SHORT)
        self.at = start + size
        return self._data[start : self.at]

    def _utf8(self, size: int) -> str:
        try:
            return self._take(size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise CborError("text is not UTF-8") from error


class _Tree:
    """Builds Python values from a reader, up to a number of items."""

    def __init__(self, reader: Reader, items: int) -> None:
        self._reader = reader
        self._items = items

    def value(self, depth: int) -> Value:
        self._spend(1)
        major = self._reader.peek() >> 5
        if major == _BYTES:
            return self._reader.data(_UNBOUNDED)
        if major == _TEXT:
            return self._reader.text(_UNBOUNDED)
        if major in (_ARRAY, _MAP):
            return self._container(major, depth)
        return self._scalar(major)

    def _scalar(self, major: int) -> int | bool | None:
        if major == _UINT:
            return self._reader.unsigned()
        if major == _NEGATIVE:
            return self._reader.negative()
        if major == _TAG:
            raise CborError("tags are not allowed")
        if self._reader.peek() != _NULL:
            return self._reader.boolean()
        self._reader.null()
        return None

    def _container(self, major: int, depth: int) -> Value:
        if depth <= 0:
            raise CborError("arrays and maps are nested too deep")
        if major == _ARRAY:
            size = self._reader.array(self._items)
            return [self.value(depth - 1) for _ in range(size)]
        return self._map(self._reader.map(self._items), depth)

    def _map(self, size: int, depth: int) -> dict[str, Value]:
        built: dict[str, Value] = {}
        previous = (-1, b"")
        for _ in range(size):
            self._spend(1)
            key = self._reader.text(_UNBOUNDED)
            raw = key.encode("utf-8")
            if (len(raw), raw) <= previous:
                raise CborError("map keys are duplicate or out of order")
            previous = (len(raw), raw)
            built[key] = self.value(depth - 1)
        return built

    def _spend(self, items: int) -> None:
        self._items -= items
        if self._items < 0:
            raise CborError("too many values")
