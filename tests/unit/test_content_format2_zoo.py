"""Hostile manifests of format 2: each is refused for its own reason, in steps, in little memory."""

from __future__ import annotations

import time
import tracemalloc
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cbor2
import pytest
from blake3 import blake3

from swarm.content.entries import EMPTY_BLAKE3, MAX_FILES, MAX_PIECES, MAX_TOTAL_LENGTH
from swarm.content.entry_tree import FILE, FOLDER, LINK, PROGRAM
from swarm.content.envelope import Envelope
from swarm.content.format2 import MAX_TARGET_BYTES
from swarm.content.manifest import Manifest
from swarm.content.paths import MAX_MARKS, MAX_PATH_DEPTH
from swarm.errors import ManifestError
from tests.support.frozen_heap import frozen_heap
from tests.unit.test_content_manifest_zoo import JOINERS, MARKS, MAX_MESSAGE, NAMES, canonical

PIECE = 16 * 1024
HASH = blake3(b"1").digest()
MASS = 12_000
"""Entries of a specimen that is large: more than format 1 has."""
# What is promised; the longest step takes some 2 ms.
MAX_STEP_SECONDS = 0.02
PASSES = 3
"""The least of several measurements is a step's time: the machine only ever adds to it."""
MAX_MEMORY = 3
MIN_SPECIMENS = 200


class Specimen(NamedTuple):
    label: str
    data: bytes
    reason: str


class Entry(NamedTuple):
    """One entry as it is encoded; ``size`` is that of a file, or what a folder claims to hold."""

    name: str | bytes
    kind: int = FILE
    size: int = 1
    target: str | bytes = b""


def encoded(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def fields(*entries: Entry, **changes: Any) -> dict[str, Any]:
    """The fields of a manifest with these entries, level by level, then the changes; ``...`` takes away."""
    files = [entry for entry in entries if entry.kind in {FILE, PROGRAM}]
    sizes = [len(encoded(entry.target)) if entry.kind == LINK else entry.size for entry in entries]
    counts = [-(-entry.size // PIECE) for entry in files if PIECE < entry.size <= MAX_TOTAL_LENGTH // 1000]
    made = {
        "v": 2,
        "name": "things",
        "kinds": bytes(entry.kind for entry in entries),
        "names": b"".join(encoded(entry.name) + b"\n" for entry in entries),
        "piece": PIECE,
        "sizes": array("Q", sizes).tobytes(),
        "hashes": b"".join(HASH if entry.size else EMPTY_BLAKE3 for entry in files),
        "pieces": HASH * sum(counts),
        "targets": b"".join(encoded(entry.target) for entry in entries),
    } | changes
    return {key: value for key, value in made.items() if value is not ...}


def manifest(*entries: Entry, **changes: Any) -> bytes:
    return canonical(fields(*entries, **changes))


def folder(name: str, entries: int) -> Entry:
    return Entry(name, FOLDER, entries)


def link(name: str, target: str | bytes) -> Entry:
    return Entry(name, LINK, 0, target)


SOUND = (
    Entry("a"),
    folder("b", 3),
    folder("none", 0),
    link("z", "b/x"),
    Entry("c", PROGRAM, PIECE + 1),
    Entry("d", FILE, 0),
    link("up", "../a"),
)


def hostile_names() -> Iterator[Specimen]:
    for name, reason in NAMES:
        if "\n" in name:
            continue
        label = ascii(name)[:40]
        wanted = "longer than 255" if reason.startswith("at most") else reason
        for kind in (Entry(name), folder(name, 0), link(name, "a")):
            yield Specimen(f"kind {kind.kind} {label}", manifest(kind), wanted)
        yield Specimen(f"deeper {label}", manifest(folder("dir", 1), Entry(name)), wanted)
        yield Specimen(f"title {label}", manifest(Entry("a"), name=name), reason)
    for name in (b"\xff", b"\xed\xa0\x80", b"a\xc0\xafb"):
        yield Specimen(f"name {name!r}", manifest(Entry(name)), "not UTF-8")


def hostile_order() -> Iterator[Specimen]:
    def case(label: str, reason: str, *names: str) -> Specimen:
        return Specimen(label, manifest(*map(Entry, names)), reason)

    yield case("twice", "clashes", "a", "a")
    yield case("order", "out of order", "b", "a")
    yield case("order of code points", "out of order", "B", "a")
    yield case("case", "clashes", "README", "readme")
    yield case("normal form", "clashes", "e\u0301", "é")
    yield case("normal form and case", "clashes", "E\u0301", "é")
    yield case("sharp s", "clashes", "STRASSE", "straße")
    yield case("joiner", "clashes", "ab", "a\u200db")
    yield case("order of marks", "clashes", "a\u0301\u0323", "a\u0323\u0301")
    kinds = [Entry("x"), folder("x", 0), link("x", "a")]
    for one in kinds:
        for other in kinds:
            yield Specimen(f"{one.kind} is {other.kind}", manifest(one, other), "clashes")
            upper = other._replace(name="X")
            yield Specimen(f"{one.kind} is {upper.kind} in case", manifest(one, upper), "clashes")
    inner = [folder("a", 2), folder("b", 2), Entry("x"), Entry("y"), Entry("x"), Entry("X")]
    yield Specimen("clash in the second folder", manifest(*inner), "clashes")


def hostile_trees() -> Iterator[Specimen]:
    yield Specimen("more than there is", manifest(folder("a", 3), Entry("x")), "claim more")
    yield Specimen("far more", manifest(folder("a", (1 << 64) - 1), Entry("x")), "claim more")
    yield Specimen("all too many", manifest(folder("a", 1), folder("b", 1 << 63), Entry("x")), "claim more")
    yield Specimen("its own parent", manifest(folder("a", 1)), "in no folder")
    yield Specimen("a ring", manifest(Entry("0"), folder("a", 1), folder("b", 2)), "")
    yield Specimen("unknown kind", manifest(Entry("a", 4)), "neither file, link nor folder")
    deep = [folder("d", 1)] * MAX_PATH_DEPTH
    yield Specimen("too deep", manifest(*deep, Entry("x")), "64 names")
    long = [folder("d" * 250, 1)] * 5
    yield Specimen("long path", manifest(*long, Entry("x")), "longer than 1024 bytes")
    one = manifest(*SOUND)
    for key, what in (
        ("kinds", "sizes"), ("names", "names"), ("sizes", "sizes"), ("hashes", "hashes"),
        ("pieces", "piece hashes"), ("targets", "targets"),
    ):  # fmt: skip
        value = fields(*SOUND)[key]
        yield Specimen(f"{key} cut", manifest(*SOUND, **{key: value[:-1]}), "")
        yield Specimen(f"{key} more", manifest(*SOUND, **{key: value + value[-1:]}), "")
        yield Specimen(f"no {key}", manifest(*SOUND, **{key: ...}), "map of 8 fields")
        yield Specimen(f"empty {key}", manifest(*SOUND, **{key: b""}), what if key != "kinds" else "")
        for wrong in (None, "", [], 7, {}, True):
            yield Specimen(f"{key} is {wrong!r}", manifest(*SOUND, **{key: wrong}), "instead of bytes")
    for key in ("name", "piece", "v"):
        yield Specimen(f"no {key}", manifest(*SOUND, **{key: ...}), "")
    yield Specimen("one field more", manifest(*SOUND, author="me"), "map of 10 fields")
    for piece in (0, PIECE - 1, 3 * PIECE, 1 << 25, 1 << 63):
        yield Specimen(f"piece length {piece}", manifest(*SOUND, piece=piece), "power of two")
    yield Specimen("a byte more", one + b"\0", "1 bytes follow")
    yield Specimen("a byte less", one[:-1], "end too early")
    yield Specimen("indefinite", cbor2.dumps(fields(*SOUND), indefinite_containers=True), "indefinite")
    yield Specimen("reversed", cbor2.dumps(dict(reversed(fields(*SOUND).items()))), "'v' is missing")
    for claimed in (1 << 32, (1 << 64) - 1):
        claim = b"\x5b" + claimed.to_bytes(8, "big")
        at = one.index(b"\x65kinds") + 6
        yield Specimen(f"kinds claim {claimed}", one[:at] + claim, "")


def hostile_files() -> Iterator[Specimen]:
    yield Specimen("empty with a hash", manifest(Entry("a", FILE, 0), hashes=HASH), "hash of no bytes")
    yield Specimen("exabyte", manifest(Entry("a", FILE, 1 << 60)), "claim")
    yield Specimen("most of an integer", manifest(Entry("a", FILE, (1 << 64) - 1)), "claim")
    half = MAX_TOTAL_LENGTH // 2 + 1
    two = [Entry("a", FILE, half), Entry("b", FILE, half)]
    yield Specimen("too long together", manifest(*two, pieces=b""), "claim")
    yield Specimen("too few hashes", manifest(Entry("a", FILE, 2 * PIECE), pieces=HASH), "2 piece hashes")
    pieces = (MAX_PIECES + 1) * PIECE
    yield Specimen("too many pieces", manifest(Entry("a", FILE, pieces), pieces=b""), f"at most {MAX_PIECES}")
    yield Specimen("too many files", manifest(Entry("a"), kinds=bytes(MAX_FILES + 1)), f"at most {MAX_FILES}")


def hostile_links() -> Iterator[Specimen]:
    outside = "outside the shared folder"
    for target, reason in {
        "/": "absolute",
        "/etc/passwd": "absolute",
        "..": outside,
        "../x": outside,
        "./../x": outside,
        "././..": outside,
        "../../../../../../etc/passwd": outside,
        "a/../b": "after it went down",
        "a/..": "after it went down",
        "a/../../b": "after it went down",
        "a//b": "not a valid",
        "a/./b": "not a valid",
        "//a": "absolute",
        "..//a": outside,
        "a\\b": "U+005C",
        "C:\\x": "U+003A",
        "a:b": "U+003A",
        "a\x00b": "U+0000",
        "a\nb": "U+000A",
        "a\x1b[2J": "U+001B",
        "a\u202eb": "U+202E",
        "con": "device",
        "x/nul.txt": "device",
        "x.": "dot or a space",
        "x /y": "dot or a space",
        "e" + "\u0301" * 17: "marks in a row",
        "x/" * (MAX_TARGET_BYTES // 2) + "y": f"more than {MAX_TARGET_BYTES}",
    }.items():
        yield Specimen(f"target {ascii(target)[:40]}", manifest(link("l", target)), reason)
        below = manifest(Entry("0"), link("a", "0"), link("l", target), link("z", "0"))
        yield Specimen(f"target among others {ascii(target)[:40]}", below, reason)
    yield Specimen("no target", manifest(link("l", "")), "no byte")
    yield Specimen("target not UTF-8", manifest(link("l", b"\xff")), "not UTF-8")
    deep = manifest(folder("a", 1), folder("b", 1), link("l", "../../../x"))
    yield Specimen("up one folder too many", deep, outside)
    shifted = fields(link("a", "bb"), link("b", "c"))
    yield Specimen("a size too short", canonical(shifted | {"targets": b"bbcc"}), "not as long")


def of(count: int, name: Callable[[int], str], make: Callable[[str], Entry] = Entry) -> list[Entry]:
    return sorted((make(name(number)) for number in range(count)), key=lambda entry: encoded(entry.name))


def masses() -> dict[str, list[Entry]]:
    """Sound to the end: the dearest to refuse. In each, a last entry is added that is not."""
    few, chain = MASS // 4, 58
    return {
        "files": of(MASS, "{:07}".format),
        "files in folders": [*of(12, "{:02}".format, lambda name: folder(name, 1000))]
        + of(1000, "{:04}".format) * 12,
        "four new folders above each": [
            *of(MASS // 5, "{:05}".format, lambda name: folder(name, 1)),
            *[folder(name, 1) for name in "abc" for _ in range(MASS // 5)],
            *[Entry("f")] * (MASS // 5),
        ],
        "folders in folders": [
            *of(MASS // chain, "{:04x}".format, lambda name: folder(name, 1)),
            *[folder("a", 1)] * (MASS // chain * (chain - 1)),
            *[Entry("f")] * (MASS // chain),
        ],
        "empty folders": of(MASS, "{:05x}".format, lambda name: folder(name, 0)),
        "links": of(MASS, "{:05x}".format, lambda name: link(name, "a")),
        "links with dots": of(MASS, "{:05x}".format, lambda name: link(name, "./a/b")),
        "long links": of(few, "{:05x}".format, lambda name: link(name, "a/" * 500 + "a")),
        "foreign links": of(few, "{:05x}".format, lambda name: link(name, "é/" * 300 + "a")),
        "empty files": of(MASS, "{:07}".format, lambda name: Entry(name, FILE, 0)),
        "files of two pieces": of(MASS, "{:07}".format, lambda name: Entry(name, FILE, 2 * PIECE)),
        "upper case": of(MASS, "A{:07}".format),
        "long names": of(few, lambda n: f"{n:06}" + "x" * 240),
        "dots and spaces": of(few, lambda n: f"{n:06}" + ". " * 100 + "x"),
        "foreign names": of(few, lambda n: f"{n:06}" + "é" * 100),
        "Hangul": of(few, lambda n: f"{n:06}" + "각" * 80),
        "names beyond U+FFFF": of(few, lambda n: f"{n:06}" + "🙂" * 60),
        "marks out of order": of(few, lambda n: f"{n:06}" + ("A" + MARKS) * 11),
        "joiners": of(few, lambda n: f"{n:06}" + "a\u034f" * 80),
        "long paths": [
            *of(MASS // 50, lambda n: f"{n:05}" + "x" * 100, lambda name: folder(name, 1)),
            *[folder("x" * 160, 1)] * (MASS // 50 * 4),
            *[Entry("y" * 200)] * (MASS // 50),
        ],
    }


def hostile_masses() -> Iterator[Specimen]:
    for label, entries in masses().items():
        yield Specimen(f"many {label}, then a byte", manifest(*entries) + b"\0", "1 bytes follow")
        last = entries[-1]
        bad = [*entries[:-1], last._replace(name="zz.")]
        yield Specimen(f"many {label}, the last one bad", manifest(*bad), "ends in a dot")
        twice = [*entries[:-1], last._replace(name=entries[-2].name)]
        yield Specimen(f"many {label}, more targets", manifest(*entries, targets=b"x" * 9), "")
        if entries[-1].size and entries[-1].kind == FILE and "folders" not in label and label != "long paths":
            yield Specimen(f"many {label}, the last one again", manifest(*twice), "clashes")
    # Sorting a long row of marks costs the square of its length; it is refused before it is sorted.
    classes = sorted({unicodedata.combining(chr(code)): chr(code) for code in range(0x300, 0x750)}.items())
    row = "".join(mark for _, mark in reversed(classes) if _)[:120]
    rows = of(MASS // 4, lambda n: f"{n:06}" + row)
    yield Specimen("many rows of marks", manifest(*rows), f"more than {MAX_MARKS} combining marks")


MASSES = list(hostile_masses())
SPECIMENS = [
    *MASSES, *hostile_names(), *hostile_order(), *hostile_trees(), *hostile_files(), *hostile_links()
]  # fmt: skip


def test_the_zoo_is_large_and_what_it_is_made_of_is_sound() -> None:
    assert len(SPECIMENS) >= MIN_SPECIMENS
    counted = Counter(specimen.label for specimen in SPECIMENS)
    assert [label for label, count in counted.items() if count > 1] == []
    for entries in ((), SOUND, *masses().values()):
        data = manifest(*entries)
        made = Manifest.decode(data)
        assert made.encode() == data
        assert Manifest("things", True, PIECE, made.files, made.links, made.empty_folders).version in {1, 2}


@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda specimen: ascii(specimen.label))
def test_is_refused_in_short_steps(specimen: Specimen) -> None:
    passes: list[list[float]] = []
    for _ in range(PASSES):
        passes.append([])
        steps = Manifest.decode_steps(specimen.data, 0, len(specimen.data))
        with frozen_heap(), pytest.raises(ManifestError) as bare:
            while True:
                began = time.thread_time()
                next(steps)
                passes[-1].append(time.thread_time() - began)
    message = str(bare.value)
    assert specimen.reason in message
    assert message.translate(JOINERS).isprintable()
    assert len(message) < MAX_MESSAGE
    assert max(map(min, zip(*passes, strict=True)), default=0.0) < MAX_STEP_SECONDS
    with pytest.raises(ManifestError):
        Envelope.from_bytes(canonical({"v": 1, "manifest": specimen.data}))


@pytest.mark.parametrize("specimen", MASSES, ids=lambda specimen: ascii(specimen.label))
def test_a_large_one_is_refused_in_little_memory(specimen: Specimen) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ManifestError):
            Manifest.decode(specimen.data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= MAX_MEMORY * len(specimen.data) + 512 * 1024
