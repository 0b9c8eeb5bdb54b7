"""Hostile manifests: each is refused for its own reason, quickly, in one line, from a file and bare."""

from __future__ import annotations

import time
import tracemalloc
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cbor2
import pytest
from blake3 import blake3

from swarm.content.envelope import MAX_ENVELOPE_BYTES, Envelope
from swarm.content.manifest import (
    MAX_FILES_1,
    MAX_MANIFEST_BYTES,
    MAX_PIECES_1,
    MAX_TOTAL_LENGTH,
    Manifest,
)
from swarm.content.paths import (
    MAX_MARKS,
    MAX_PATH_DEPTH,
    MAX_PATH_NAMES,
    MAX_PATHS_BYTES,
    MAX_TITLE_BYTES,
    RESERVED_SUFFIXES,
)
from swarm.errors import ManifestError

PIECE = 16 * 1024
# Ten times what is promised, and of CPU time, so that a busy machine fails no test.
MAX_CPU_SECONDS = 1.0
MAX_KEPT = 32 * 1024 * 1024
MIN_SPECIMENS = 150
MAX_MESSAGE = 400
# One mark of each combining class there is up to the Syriac ones, the last class first.
_CLASSES = {unicodedata.combining(mark): mark for mark in map(chr, range(0x300, 0x750))}
MARKS = "".join(mark for _, mark in sorted(_CLASSES.items(), reverse=True) if _)[:MAX_MARKS]
JOINERS = dict.fromkeys((0x200C, 0x200D, 0xFE0F))


class Specimen(NamedTuple):
    label: str
    data: bytes
    reason: str


def digest(text: str) -> bytes:
    return blake3(text.encode()).digest()


def file(*path: Any, length: Any = 1, **changes: Any) -> dict[str, Any]:
    """A sound entry of a file with unknown bytes, then the changes."""
    count = -(-length // PIECE) if isinstance(length, int) and 0 <= length <= MAX_TOTAL_LENGTH else 1
    pieces = b"".join(digest(f"{path}{index}") for index in range(count))
    whole = {0: digest(""), 1: pieces}.get(count, digest(f"{path}"))
    entry = {"path": list(path), "blake3": whole, "length": length, "pieces": pieces, "executable": False}
    return {key: value for key, value in (entry | changes).items() if value is not ...}


def folder(*entries: Any, **changes: Any) -> dict[str, Any]:
    """A folder with these entries, then the changes; a value of ``...`` takes the field away."""
    fields = {"v": 1, "name": "things", "piece": PIECE, "folder": True, "entries": list(entries)} | changes
    return {key: value for key, value in fields.items() if value is not ...}


def single(name: Any = "thing", **changes: Any) -> dict[str, Any]:
    return folder(file(name), name=name, folder=False) | changes


def canonical(value: Any) -> bytes:
    return cbor2.dumps(value, canonical=True)


SOUND = folder(file("a", length=PIECE + 1), file("b", "c", length=0), file("b", "d"))
DEVICES = ["CON", "prn", "Aux", "NUL", "COM1", "com9", "LPT1", "lpt0", "COM¹", "LPT³", "CONIN$", "conout$"]
CONTROLS = (0, 1, 7, 8, 9, 10, 13, 0x1B, 0x1F, 0x7F, 0x80, 0x9B, 0x9F, 0x2028, 0x2029)
DIRECTIONS = (0x61C, 0x200E, 0x200F, 0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2066, 0x2067, 0x2068, 0x2069)
INVISIBLE = (0xAD, 0x180E, 0x200B, 0x2060, 0x206F, 0xFEFF, 0xFFF9, 0x1D173, 0xE0001, 0xE0041)
NONCHARACTERS = (0xFDD0, 0xFDEF, 0xFFFE, 0xFFFF, 0x1FFFE, 0x10FFFF)
# What a name must not be or contain, with the reason given.
NAMES = [
    *((name, "not a valid file name") for name in ("", ".", "..", "\u200d", ".\u200c.", "\ufe0f")),
    *((name, "U+002F") for name in ("/", "/etc", "a/b", "../x", "a/", "//")),
    *((name, "U+005C") for name in ("\\", "..\\x", "a\\b", "\\\\host\\share")),
    *((f"gpj{chr(code)}.exe", f"U+{code:04X}") for code in CONTROLS + DIRECTIONS + INVISIBLE + NONCHARACTERS),
    ("\x1b[2J\x1b]0;owned\x07", "U+001B"),
    *((f"a{mark}b", f"U+{ord(mark):04X}") for mark in '<>:"|?*'),
    ("C:", "U+003A"),
    ("file.txt:stream", "U+003A"),
    *((name, "ends in") for name in ("a.", "a ", "...", " ", "a. .", "nul.", "x.txt.")),
    *((name, "device") for name in (*DEVICES, "nul.txt", "CON .tar.gz", "com1.x.y")),
    *((name, "marks in a row") for name in ("e" + "\u0301" * 17, "\u0301\u034f" * 17, "\u0f73" * 17)),
    ("\U0001d165" * 17, "marks in a row"),
    *((name, "at most 255") for name in ("n" * 256, "ß" * 128, "𝄞" * 64)),
]


def hostile_names() -> Iterator[Specimen]:
    for name, reason in NAMES:
        label = ascii(name)[:40]
        yield Specimen(f"title {label}", canonical(single(name)), reason)
        yield Specimen(f"file {label}", canonical(folder(file("dir", name))), reason)
        yield Specimen(f"directory {label}", canonical(folder(file(name, "x"))), reason)


def hostile_titles() -> Iterator[Specimen]:
    for suffix in RESERVED_SUFFIXES:
        for name in (f"x{suffix}", f"X{suffix.upper()}", f"x{suffix[:-1]}\u200d{suffix[-1]}", suffix):
            yield Specimen(f"reserved {name!a}", canonical(single(name)), "reserved")
    yield Specimen(
        "long title", canonical(single("t" * (MAX_TITLE_BYTES + 1))), f"longer than {MAX_TITLE_BYTES}"
    )


def hostile_paths() -> Iterator[Specimen]:
    def case(label: str, reason: str, *paths: tuple[str, ...]) -> Specimen:
        return Specimen(label, canonical(folder(*(file(*path) for path in paths))), reason)

    yield case("no path", "must have 1 to", ())
    yield case("deepest path", f"at most {MAX_PATH_DEPTH}", ("d",) * (MAX_PATH_DEPTH + 1))
    yield case("long path", "longer than 1024", ("d" * 250,) * 5)
    yield case("longest path", "longer than 1024", ("d" * 255,) * MAX_PATH_DEPTH)
    yield case("duplicate", "duplicate", ("a",), ("a",))
    yield case("duplicate deeper", "duplicate", ("d", "a"), ("d", "a"))
    yield case("order", "out of order", ("b",), ("a",))
    yield case("order by name, not by text", "out of order", ("a!", "x"), ("a", "x"))
    yield case("order by folder", "out of order", ("b", "x"), ("a", "x"))
    yield case("order above the BMP", "out of order", ("\U00010000",), ("\uff21",))
    yield case("file is a folder", "clashes", ("a",), ("a", "b"))
    yield case("file is a folder, deeper", "clashes", ("d", "a"), ("d", "a", "b"))
    yield case("file is a folder in another case", "clashes", ("A",), ("a", "b"))
    yield case("folder is a file in another case", "clashes", ("A", "b"), ("a",))
    yield case("case", "clashes", ("README",), ("readme",))
    yield case("case of a folder", "clashes", ("Src", "a"), ("src", "b"))
    yield case("case of a deep folder", "clashes", ("x", "Src", "a"), ("x", "src", "b"))
    yield case("case far apart", "clashes", ("A",), ("B",), ("Z",), ("a",))
    yield case("case of Greek sigma", "clashes", ("Σ",), ("ς",))
    yield case("case of sharp s", "clashes", ("STRASSE",), ("straße",))
    yield case("case of long s", "clashes", ("s",), ("ſ",))
    yield case("case of the Kelvin sign", "clashes", ("k",), ("\u212a",))
    yield case("normal form", "clashes", ("e\u0301",), ("é",))
    yield case("normal form of a folder", "clashes", ("e\u0301", "x"), ("é", "y"))
    yield case("normal form and case", "clashes", ("E\u0301",), ("é",))
    yield case("normal form of Hangul", "clashes", ("\u1100\u1161",), ("가",))
    yield case("normal form, order of marks", "clashes", ("a\u0301\u0323",), ("a\u0323\u0301",))
    yield case("joiner", "clashes", ("ab",), ("a\u200db",))
    yield case("variation selector", "clashes", ("☺",), ("☺\ufe0f",))


def hostile_numbers() -> Iterator[Specimen]:
    def entry(label: str, reason: str, **changes: Any) -> Specimen:
        return Specimen(label, canonical(folder(file("a") | changes)), reason)

    for piece in (0, 1, PIECE - 1, PIECE + 1, PIECE // 2, 3 * PIECE, 1 << 25, 1 << 63, (1 << 64) - 1):
        yield Specimen(f"piece length {piece}", canonical(folder(file("a"), piece=piece)), "power of two")
    yield Specimen("one piece more", canonical(folder(file("a") | {"length": PIECE + 1})), "needs 2 piece")
    yield entry("one piece less", "needs 0 piece", length=0)
    yield entry("no piece", "needs 1 piece", pieces=b"")
    yield entry("ragged pieces", "needs 1 piece", pieces=bytes(33))
    yield entry("exabyte", "claims", length=1 << 60)
    yield entry("most of an integer", "claims", length=(1 << 64) - 1)
    yield entry("too long by one", "claims", length=MAX_TOTAL_LENGTH + 1)
    yield entry("largest file, few hashes", "piece hashes", length=MAX_TOTAL_LENGTH)
    yield entry("short hash", "hash of 31", blake3=bytes(31))
    yield entry("long hash", "at most 32", blake3=bytes(33))
    yield entry("no hash", "hash of 0", blake3=b"")
    yield entry("the only piece is another", "different hashes", blake3=digest("other"))
    yield Specimen(
        "an empty file is another",
        canonical(folder(file("a", length=0, blake3=bytes(32)))),
        "hash of no bytes",
    )
    yield Specimen("too many pieces", _too_many_pieces(), f"at most {MAX_PIECES_1} pieces")


def _too_many_pieces() -> bytes:
    half = (MAX_PIECES_1 // 2 + 1) * PIECE
    whole = {"blake3": bytes(32), "pieces": bytes(half // PIECE * 32), "length": half, "executable": False}
    return canonical(folder({"path": ["a"]} | whole, {"path": ["b"]} | whole))


def hostile_shapes() -> Iterator[Specimen]:
    for key in ("name", "piece", "folder", "entries"):
        yield Specimen(f"without {key}", canonical(folder(file("a"), **{key: ...})), "")
    yield Specimen("without v", canonical(folder(file("a"), v=...)), "'v' is missing")
    for key in ("path", "blake3", "length", "pieces", "executable"):
        yield Specimen(
            f"entry without {key}", canonical(folder(file("a", **{key: ...}))), "4 fields instead of 5"
        )
    yield Specimen("extra field", canonical(folder(file("a"), author="me")), "map of 6 fields")
    yield Specimen("extra field of a file", canonical(folder(file("a", mtime=1))), "6 fields instead of 5")
    yield Specimen(
        "renamed field of a file", canonical(folder(file("a", length=..., lenght=1))), "'length' is missing"
    )
    wrong = {
        "v": ("1", b"\x01", None, True, -1, 1.0, [1]),
        "name": (b"things", 1, None, ["things"], {"things": 1}, True),
        "piece": ("16384", None, -PIECE, float(PIECE), True, b"\x40\x00", PIECE << 64),
        "folder": (1, 0, None, "true", cbor2.undefined),
        "entries": ({}, None, "a", b"", 0, {"0": file("a")}),
    }
    for key, values in wrong.items():
        for value in values:
            yield Specimen(f"{key} is {value!r}", canonical(folder(file("a"), **{key: value})), "instead of")
    wrong_of_file = {
        "path": ("a", b"a", None, {"a": 1}, [1], [b"a"], [None], [["a"]]),
        "blake3": ("0" * 32, None, [0] * 32, 0),
        "length": (-1, 1.0, None, "1", True, b"\x01"),
        "pieces": ([bytes(32)], None, "", 0),
        "executable": (0, 1, None, "no"),
    }
    for key, values in wrong_of_file.items():
        for value in values:
            data = canonical(folder(file("a") | {key: value}))
            yield Specimen(f"{key} of a file is {value!r}", data, "instead of")
    for value in (None, [], "a", 7, ["a", 1, False, bytes(32), bytes(32)]):
        yield Specimen(f"a file is {value!r}", canonical(folder(value)), "instead of a map")
    for value in (None, 0, "", b"", [], [1], True, cbor2.CBORTag(42, b"\0")):
        yield Specimen(f"all is {str(value)[:20]}", canonical(value), "instead of a map")
    yield Specimen("empty map", canonical({}), "end too early")
    yield Specimen("newer", canonical(folder(v=3)), "newer swarm")
    yield Specimen("much newer", canonical({"v": 99, "x": [1.5, {}]}), "newer swarm")
    yield Specimen("older than the first", canonical(folder(v=0)), "unknown format")
    yield Specimen(
        "file with two entries",
        canonical(single() | {"entries": [file("thing"), file("x")]}),
        "must have one entry",
    )
    yield Specimen("file with no entry", canonical(single(entries=[])), "must have one entry")
    yield Specimen("file named otherwise", canonical(single(entries=[file("x")])), "named like")
    yield Specimen("file in a folder", canonical(single(entries=[file("thing", "x")])), "named like")


def hostile_encodings() -> Iterator[Specimen]:
    sound = canonical(SOUND)
    yield Specimen("nothing", b"", "end too early")
    yield Specimen("trailing zero", sound + b"\0", "1 bytes follow")
    yield Specimen("twice", sound * 2, "bytes follow")
    yield Specimen("first half", sound[: len(sound) // 2], "end too early")
    yield Specimen("last byte cut", sound[:-1], "end too early")
    yield Specimen("insertion order", cbor2.dumps(dict(reversed(SOUND.items()))), "'v' is missing")
    yield Specimen("indefinite", cbor2.dumps(SOUND, indefinite_containers=True), "indefinite")
    yield Specimen("indefinite map", b"\xbf" + sound[1:] + b"\xff", "indefinite")
    yield Specimen("self-described", b"\xd9\xd9\xf7" + sound, "a tag instead of")
    yield Specimen(
        "duplicate key", sound.replace(b"\x64name\x66things", b"\x61v\x01", 1), "'name' is missing"
    )
    for width, head in enumerate(
        (b"\xb8\x05", b"\xb9\x00\x05", b"\xba\0\0\0\x05", b"\xbb" + bytes(7) + b"\x05")
    ):
        yield Specimen(f"long map head {width}", head + sound[1:], "shortest form")
    for head in (b"\x18\x01", b"\x19\x00\x01", b"\x1a\0\0\0\x01", b"\x1b" + bytes(7) + b"\x01"):
        yield Specimen(
            f"long version {head.hex()}", sound.replace(b"\x61v\x01", b"\x61v" + head, 1), "shortest form"
        )
    yield Specimen("long text head", sound.replace(b"\x66things", b"\x78\x06things"), "shortest form")
    yield Specimen("long bytes head", sound.replace(b"\x58\x20", b"\x59\x00\x20", 1), "shortest form")
    yield Specimen("reserved information", b"\xbc" + sound[1:], "indefinite")
    yield Specimen("text is not UTF-8", sound.replace(b"\x66things", b"\x66thing\xff"), "not UTF-8")
    yield Specimen("text is a surrogate", sound.replace(b"\x66things", b"\x66abc\xed\xa0\x80"), "not UTF-8")
    yield Specimen("text is overlong", sound.replace(b"\x66things", b"\x66thin\xc0\xaf"), "not UTF-8")
    yield Specimen(
        "half float", sound.replace(b"\x61v\x01", b"\x61v\xf9\x3c\x00"), "a simple value instead of"
    )
    yield Specimen("big number", sound.replace(b"\x61v\x01", b"\x61v\xc2\x41\x01"), "a tag instead of")
    for head, what in ((b"\x9b", "entries"), (b"\xbb", "map"), (b"\x5b", "bytes"), (b"\x7b", "text")):
        for claimed in (1 << 32, (1 << 63) - 1, (1 << 64) - 1):
            claim = head + claimed.to_bytes(8, "big")
            yield Specimen(f"everything is {what} of {claimed}", claim, "")
            yield Specimen(f"entries are {what} of {claimed}", _with_entries(claim), "")
            yield Specimen(f"pieces are {what} of {claimed}", _with_pieces(claim), "")
    more = b"\x99" + (MAX_FILES_1 + 1).to_bytes(2, "big")
    yield Specimen("too many files", _with_entries(more), f"at most {MAX_FILES_1}")
    yield Specimen(
        "many empty arrays",
        _with_entries(b"\x99" + MAX_FILES_1.to_bytes(2, "big") + b"\x80" * MAX_FILES_1),
        "an array instead of",
    )
    yield Specimen("nested arrays", b"\x81" * 1_000_000, "an array instead of")
    yield Specimen("nested arrays for entries", _with_entries(b"\x81" * 1_000_000), "an array instead of")
    yield Specimen("nested tags", b"\xc1" * 1_000_000, "a tag instead of")
    yield Specimen("nested maps", b"\xa1\x61v" * 300_000, "a map instead of")
    yield Specimen("random text", b"<!DOCTYPE html><html></html>", "")
    yield Specimen("torrent", b"d8:announce0:4:infod4:name1:a12:piece lengthi16384eee", "")
    yield Specimen("zip", b"PK\x03\x04" + bytes(100), "")


def _with_entries(data: bytes) -> bytes:
    return canonical(folder())[:-1] + data


def _with_pieces(data: bytes) -> bytes:
    sound = canonical(folder(file("a")))
    return sound[: sound.index(b"\x66pieces") + 7] + data


def hostile_trees(small: Callable[..., dict[str, Any]]) -> Iterator[Specimen]:
    """As many files as there may be, in folders, with names that take a closer look."""
    deep = MAX_PATH_NAMES // 5
    twice = {"length": 2 * PIECE, "pieces": 2 * digest("1")}
    masses = {
        "files in one folder": [small("d", f"{index:05}") for index in range(MAX_FILES_1)],
        "folders of one file": [small(f"{index:05}", "a") for index in range(MAX_FILES_1)],
        "folders in folders": [small(f"{index:05}", "a", "b") for index in range(MAX_FILES_1)],
        "foreign folders": [small(f"{index:05}日", "é", "日") for index in range(MAX_FILES_1)],
        "new folders above each": [small(f"{index:05}", *"abcd") for index in range(deep)],
        "new foreign folders above each": [small(f"{index:05}日", *"é日é日") for index in range(deep)],
        "new shouting folders above each": [small(f"{index:05}A", *"ABCD") for index in range(deep)],
        "long foreign names": [small(f"{index:05}" + "é" * 36) for index in range(MAX_FILES_1)],
        "names beyond U+FFFF": [small(f"{index:05}" + "🙂" * 18) for index in range(MAX_FILES_1)],
        "names of marks out of order": [
            small(f"{index:05}" + ("A" + MARKS) * 3) for index in range(MAX_FILES_1)
        ],
        "names of joined marks": [
            small(f"{index:05}" + (MARKS + "\u034fA") * 3) for index in range(MAX_FILES_1)
        ],
        "names of joiners": [small(f"{index:05}a" + "\u034f" * 35) for index in range(MAX_FILES_1)],
        "joiners between letters": [small(f"{index:05}" + "a\u034f" * 24) for index in range(MAX_FILES_1)],
        "names like a device's": [small(f"con{index:05}.txt") for index in range(MAX_FILES_1)],
        "names that end in a joiner": [small(f"{index:05}\u200d") for index in range(MAX_FILES_1)],
        "files of two pieces": [small(f"{index:05}") | twice for index in range(MAX_FILES_1)],
    }
    for label, entries in masses.items():
        yield Specimen(f"many {label}, then a byte", canonical(folder(*entries)) + b"\0", "1 bytes follow")
        late = {"path": [*entries[-1]["path"][:-1], "zz."]}
        entries[-1] = entries[-1] | late
        yield Specimen(f"many {label}, the last one bad", canonical(folder(*entries)), "ends in a dot")


def hostile_masses() -> Iterator[Specimen]:
    """Sound to the very end and as large as a limit allows: the dearest to refuse."""
    one, nothing = digest("1"), {"blake3": digest(""), "length": 0, "pieces": b""}

    def small(*path: str) -> dict[str, Any]:
        return {"path": path, "blake3": one, "length": 1, "pieces": one, "executable": False}

    flat = [small(f"{index:05}") for index in range(MAX_FILES_1)]
    yield Specimen("many files, then a byte", canonical(folder(*flat)) + b"\0", "1 bytes follow")
    yield Specimen(
        "many files, the last one bad", canonical(folder(*flat[:-1], small(".."))), "not a valid file name"
    )
    yield Specimen(
        "many files, the last one again", canonical(folder(*flat[:-1], flat[-2])), "duplicate or out of order"
    )
    long = [small(f"{index:05}" + "x" * (MAX_PATHS_BYTES // MAX_FILES_1 - 5)) for index in range(MAX_FILES_1)]
    yield Specimen("many long names, then a byte", canonical(folder(*long)) + b"\0", "1 bytes follow")
    foreign = [small(f"{index:05}日本") for index in range(MAX_FILES_1)]
    yield Specimen("many foreign names, then a byte", canonical(folder(*foreign)) + b"\0", "1 bytes follow")
    empty = [small(f"{index:05}") | nothing for index in range(MAX_FILES_1)]
    yield Specimen("many empty files, then a byte", canonical(folder(*empty)) + b"\0", "1 bytes follow")
    yield from hostile_trees(small)
    row = "".join(mark for _, mark in sorted(_CLASSES.items(), reverse=True) if _)[:120]
    rows = [small(f"{index:04}" + row) for index in range(MAX_PATHS_BYTES // 300)]
    yield Specimen("many rows of marks", canonical(folder(*rows)), "marks in a row")
    deep = MAX_PATH_NAMES // MAX_PATH_DEPTH
    nested = [small(f"{index:05}", *"d" * (MAX_PATH_DEPTH - 1)) for index in range(deep)]
    yield Specimen("many names, then a byte", canonical(folder(*nested)) + b"\0", "1 bytes follow")
    long_paths = [small(f"{index:05}" + "x" * 200) for index in range(MAX_PATHS_BYTES // 200)]
    yield Specimen("too long names", canonical(folder(*long_paths)), f"at most {MAX_PATHS_BYTES} bytes")
    whole = {"blake3": bytes(32), "pieces": bytes(32 * MAX_PIECES_1), "executable": False}
    most = canonical(folder({"path": ["a"], "length": MAX_PIECES_1 * PIECE} | whole))
    yield Specimen("most pieces, then a byte", most + b"\0", "1 bytes follow")
    fewer = canonical(folder({"path": ["a"], "length": MAX_PIECES_1 * PIECE + 1} | whole))
    yield Specimen("most pieces of a longer file", fewer, "piece hashes")


MASSES = list(hostile_masses())
SPECIMENS = [
    *MASSES,
    *hostile_names(),
    *hostile_titles(),
    *hostile_paths(),
    *hostile_numbers(),
    *hostile_shapes(),
    *hostile_encodings(),
]


def test_the_zoo_is_large_and_has_no_doubles() -> None:
    assert len(SPECIMENS) >= MIN_SPECIMENS
    counted = Counter(specimen.data for specimen in SPECIMENS)
    assert [specimen.label for specimen in SPECIMENS if counted[specimen.data] > 1] == []


def test_what_the_zoo_is_made_of_is_sound() -> None:
    for sound in (SOUND, single(), folder(), folder(file("a"))):
        data = canonical(sound)
        assert Manifest.decode(data).encode() == data
        assert Envelope.from_bytes(canonical({"v": 1, "manifest": data})).manifest.encode() == data


@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda specimen: ascii(specimen.label))
def test_is_refused(specimen: Specimen) -> None:
    started = time.process_time()
    with pytest.raises(ManifestError) as bare:
        Manifest.decode(specimen.data)
    with pytest.raises(ManifestError) as wrapped:
        Envelope.from_bytes(canonical({"v": 1, "manifest": specimen.data}))
    assert time.process_time() - started < MAX_CPU_SECONDS
    for refused in (bare, wrapped):
        message = str(refused.value)
        assert specimen.reason in message
        assert message.translate(JOINERS).isprintable()
        assert len(message) < MAX_MESSAGE


@pytest.mark.parametrize(
    "specimen", [s for s in SPECIMENS if len(s.data) > 1000], ids=lambda s: ascii(s.label)
)
def test_a_large_one_is_refused_in_little_memory(specimen: Specimen) -> None:
    envelope = canonical({"v": 1, "manifest": specimen.data})
    tracemalloc.start()
    try:
        with pytest.raises(ManifestError):
            Envelope.from_bytes(envelope)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A sound file of a hundred bytes becomes an entry of a few hundred, and so many again for its keys while
    # clashes are looked for; hashes are not copied.
    factor = 0 if "most pieces" in specimen.label else 9 if specimen in MASSES else 2
    assert peak <= min(MAX_KEPT, factor * len(specimen.data) + 64 * 1024)


def test_a_file_too_large_is_refused_unread() -> None:
    for read, size in (
        (Manifest.decode, MAX_MANIFEST_BYTES + 1),
        (Envelope.from_bytes, MAX_ENVELOPE_BYTES + 1),
    ):
        with pytest.raises(ManifestError, match="at most"):
            read(bytes(size))


def test_names_beyond_the_budget_are_refused() -> None:
    deep = MAX_PATH_NAMES // MAX_PATH_DEPTH + 1
    entries = [file(f"{index:05}", *"d" * (MAX_PATH_DEPTH - 1)) for index in range(deep)]
    with pytest.raises(ManifestError, match="names in total"):
        Manifest.decode(canonical(folder(*entries)))


def test_more_files_than_format_1_has_room_for_take_format_2() -> None:
    sound = Manifest.decode(canonical(folder(file("a")))).files[0]
    entries = [sound._replace(path=(f"{index:06}",)) for index in range(MAX_FILES_1 + 1)]
    assert Manifest("things", True, PIECE, entries[1:]).version == 1
    made = Manifest("things", True, PIECE, entries)
    assert made.version == 2
    assert made.files == entries
    assert Manifest.decode(made.encode()).files == entries
