"""DNS messages as multicast DNS has them: read with bounds, written with compressed names. Pure.

Sources: RFC 1035 (the message), RFC 2782 (SRV), RFC 6762 (the bits of multicast DNS).

A name is its labels as bytes, in lower case, without the empty last one: names are compared without case.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from swarm.lazy_dataclass import dataclass

Name = tuple[bytes, ...]

A: Final = 1
PTR: Final = 12
TXT: Final = 16
AAAA: Final = 28
SRV: Final = 33
ANY: Final = 255
INTERNET: Final = 1

MAX_MESSAGE_BYTES: Final = 9000
"""The most that multicast DNS may send in one packet."""
MAX_ENTRIES: Final = 256
"""Questions and records of a message that are read; a message with more is malformed for us."""
MAX_NAME_BYTES: Final = 255
MAX_LABELS: Final = 16
"""Of a name; those of multicast DNS have five or so."""
MAX_LABEL_BYTES: Final = 63
MAX_TEXT_BYTES: Final = 255

_HEADER: Final = struct.Struct("!HHHHHH")
_QUESTION: Final = struct.Struct("!HH")
_RECORD: Final = struct.Struct("!HHIH")
_SERVICE: Final = struct.Struct("!HHH")
_RESPONSE: Final = 0x8400
"""A response, with authority."""
_IS_RESPONSE: Final = 0x8000
_OPCODE_AND_ERROR: Final = 0x780F
_TOP_BIT: Final = 0x8000
"""Of a class: a question wants its answer by unicast; a record replaces all others of its name."""
_POINTER: Final = 0xC0
_LAST_PLACE: Final = 0x3FFF
"""A pointer has so many bits."""
_ADDRESS_BYTES: Final = {A: 4, AAAA: 16}


class MalformedDns(ValueError):
    """What was received is no DNS message, or one beyond our bounds."""


class Question(NamedTuple):
    """What is asked: a name and the type of its records; ``unicast`` if the asker alone may be answered."""

    name: Name
    kind: int
    unicast: bool = False


class Service(NamedTuple):
    """The value of an SRV record, without priority and weight."""

    port: int
    target: Name


Value = Name | Service | bytes
"""PTR: the name. SRV: the service. TXT: its strings. A, AAAA: the bytes of the address. Else: empty."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record; ``ttl`` is seconds, ``flush`` says that it replaces all others of its name and type."""

    name: Name
    kind: int
    value: Value
    ttl: int
    flush: bool = False


@dataclass(frozen=True, slots=True)
class DnsMessage:
    """A query or a response; ``records`` are those of all sections, in a query what the asker knows."""

    response: bool
    questions: tuple[Question, ...] = ()
    records: tuple[Record, ...] = ()


def name_of(text: str) -> Name:
    """The name that is written ``_p2p._udp.local``."""
    return tuple(label.encode().lower() for label in text.split("."))


def decode_message(data: bytes) -> DnsMessage:
    """Read one packet; raises MalformedDns."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise MalformedDns("a message is too long")
    try:
        return _Reader(data).message()
    except struct.error:
        raise MalformedDns("a message is cut off") from None


def encode_message(message: DnsMessage) -> bytes:
    """Write one packet. Raises ValueError for a label, a name or a text that DNS cannot hold."""
    writer = _Writer()
    flags = _RESPONSE if message.response else 0
    answers = len(message.records)
    writer.data += _HEADER.pack(0, flags, len(message.questions), answers, 0, 0)
    for question in message.questions:
        writer.name(question.name)
        writer.data += _QUESTION.pack(question.kind, INTERNET | (_TOP_BIT if question.unicast else 0))
    for record in message.records:
        writer.record(record)
    return bytes(writer.data)


class _Reader:
    """Reads one message from its start to its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def message(self) -> DnsMessage:
        """The whole message; an answer that says of itself that it failed is malformed."""
        _, flags, questions, *counts = self._unpack(_HEADER)
        if flags & _OPCODE_AND_ERROR:
            raise MalformedDns("not a query and not an answer")
        if questions + sum(counts) > MAX_ENTRIES:
            raise MalformedDns("a message has too many records")
        return DnsMessage(
            bool(flags & _IS_RESPONSE),
            tuple(self._question() for _ in range(questions)),
            tuple(record for _ in range(sum(counts)) if (record := self._record()) is not None),
        )

    def _question(self) -> Question:
        name = self._name()
        kind, family = self._unpack(_QUESTION)
        return Question(name, kind, bool(family & _TOP_BIT))

    def _record(self) -> Record | None:
        """One record; None for one of no interest here."""
        name = self._name()
        kind, family, ttl, size = self._unpack(_RECORD)
        end = self._at + size
        if end > len(self._data):
            raise MalformedDns("a record is cut off")
        value = self._value(kind, end) if family & ~_TOP_BIT == INTERNET else None
        self._at = end
        # A time to live with its highest bit set counts as none (RFC 2181).
        ttl = 0 if ttl >> 31 else ttl
        return None if value is None else Record(name, kind, value, ttl, bool(family & _TOP_BIT))

    def _value(self, kind: int, end: int) -> Value | None:
        if kind == PTR:
            return self._name()
        if kind == SRV:
            _, _, port = self._unpack(_SERVICE)
            return Service(port, self._name())
        if kind == TXT:
            return self._texts(end)
        if kind in _ADDRESS_BYTES:
            if end - self._at != _ADDRESS_BYTES[kind]:
                raise MalformedDns("an address has a wrong length")
            return self._data[self._at : end]
        return None

    def _texts(self, end: int) -> tuple[bytes, ...]:
        found = []
        at = self._at
        while at < end:
            size = self._data[at]
            if at + 1 + size > end:
                raise MalformedDns("a text is cut off")
            if size:
                found.append(self._data[at + 1 : at + 1 + size])
            at += 1 + size
        return tuple(found)

    def _name(self) -> Name:
        """A name, which may go on at an earlier place: each jump leads back, so there is an end."""
        labels: list[bytes] = []
        total = 1
        start, at, end = self._at, self._at, None
        while (size := self._byte(at)) != 0:
            if size & _POINTER == _POINTER:
                end = end or at + 2
                target = (size & ~_POINTER) << 8 | self._byte(at + 1)
                if target >= start:
                    raise MalformedDns("a name goes on at no earlier place")
                start = at = target
                continue
            total += size + 1
            if size & _POINTER or total > MAX_NAME_BYTES or len(labels) == MAX_LABELS:
                raise MalformedDns("a label or a name is too long")
            self._byte(at + size)
            labels.append(self._data[at + 1 : at + 1 + size].lower())
            at += 1 + size
        self._at = end or at + 1
        return tuple(labels)

    def _byte(self, at: int) -> int:
        if at >= len(self._data):
            raise MalformedDns("a name is cut off")
        return self._data[at]

    def _unpack(self, form: struct.Struct) -> tuple[int, ...]:
        values = form.unpack_from(self._data, self._at)
        self._at += form.size
        return values


class _Writer:
    """Writes one message; remembers where names stand, so that later ones can point there."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._places: dict[Name, int] = {}

    def name(self, name: Name) -> None:
        """Write a name, its end as a pointer if that was written before."""
        if sum(map(len, name)) + len(name) + 1 > MAX_NAME_BYTES:
            raise ValueError("a name is too long")
        for number, label in enumerate(name):
            place = self._places.get(name[number:])
            if place is not None:
                self.data += struct.pack("!H", _POINTER << 8 | place)
                return
            if not 0 < len(label) <= MAX_LABEL_BYTES:
                raise ValueError("a label is empty or too long")
            if len(self.data) <= _LAST_PLACE:
                self._places[name[number:]] = len(self.data)
            self.data += bytes((len(label),)) + label
        self.data.append(0)

    def record(self, record: Record) -> None:
        """Write a record with its value."""
        self.name(record.name)
        family = INTERNET | (_TOP_BIT if record.flush else 0)
        self.data += _RECORD.pack(record.kind, family, record.ttl, 0)
        start = len(self.data)
        self._value(record)
        struct.pack_into("!H", self.data, start - 2, len(self.data) - start)

    def _value(self, record: Record) -> None:
        value = record.value
        if isinstance(value, Service):
            self.data += _SERVICE.pack(0, 0, value.port)
            self.name(value.target)
        elif isinstance(value, bytes):
            self.data += value
        elif record.kind == PTR:
            self.name(value)
        else:
            for text in value or (b"",):
                if len(text) > MAX_TEXT_BYTES:
                    raise ValueError("a text is too long")
                self.data += bytes((len(text),)) + text
