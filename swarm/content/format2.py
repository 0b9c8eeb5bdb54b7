"""Format 2 of the manifest: many files, symbolic links and empty folders, in columns.

Source: docs/manifest.md, section 3. A column is checked a few thousand names at a time, each rule for all of
them at once, because an operation on every single name would take too long for a million. Checking is a
generator that pauses every few milliseconds at most, so that nothing else has to wait for it.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate, chain, compress, islice, pairwise, repeat
from operator import add, lt, or_
from typing import Any

from swarm.content import cbor
from swarm.content.entries import (
    EMPTY_BLAKE3,
    MAX_ENTRIES,
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    MAX_PIECES,
    MAX_TOTAL_LENGTH,
    FileEntry,
    LinkEntry,
    Path,
)
from swarm.content.entry_tree import (
    BIG_ENDIAN,
    FILE,
    FOLDER,
    IS_FILE,
    IS_FOLDER,
    IS_LINK,
    LINK,
    PROGRAM,
    SIZE_BYTES,
    Columns,
    EntryTree,
    folder_starts,
)
from swarm.content.paths import (
    MAX_NAME_BYTES,
    MAX_PATH_BYTES,
    MAX_PATH_DEPTH,
    check_name,
    clash_key,
    folded,
    quoted,
    valid_names,
)
from swarm.errors import ManifestError
from swarm.ids import DIGEST_BYTES
from swarm.lazy_pattern import lazy_pattern

VERSION = 2
FIELDS = 9
MAX_TARGET_BYTES = MAX_PATH_BYTES
"""UTF-8 bytes of the target of a link."""
_CHUNK = 16 * 1024
"""Bytes of names checked together, in about a millisecond."""
_LINKS = 128
"""Links checked together."""
_KINDS = bytes((FILE, PROGRAM, LINK, FOLDER))

_NAME, _KIND, _NAMES, _PIECE, _SIZES, _HASHES, _PIECES, _TARGETS = map(
    cbor.text_key, ("name", "kinds", "names", "piece", "sizes", "hashes", "pieces", "targets")
)

Steps = Generator[None, None, None]


def read(reader: cbor.Reader, data: bytes) -> tuple[str, int, Columns]:
    """Read the fields after the version: name, piece length, columns; raises CborError."""
    view = memoryview(data)

    def column(key: bytes) -> memoryview:
        reader.key(key)
        start, end = reader.part(MAX_MANIFEST_BYTES)
        return view[start:end]

    reader.key(_NAME)
    name = reader.text(MAX_NAME_BYTES)
    kinds, names = bytes(column(_KIND)), column(_NAMES)
    reader.key(_PIECE)
    piece_length = reader.unsigned()
    sizes, hashes, pieces, targets = map(column, (_SIZES, _HASHES, _PIECES, _TARGETS))
    reader.end()
    return name, piece_length, Columns(kinds, sizes, names, targets, hashes, pieces)


def checked(columns: Columns, piece_length: int) -> Generator[None, None, EntryTree]:
    """Check all that is in the columns, in steps; returns the tree. Raises ManifestError."""
    starts, levels = _check_tree(columns)
    yield
    yield from _check_names(columns, starts, levels)
    yield from _check_targets(columns, levels)
    total = sum(columns.sizes_of(IS_FILE))
    if total > MAX_TOTAL_LENGTH:
        raise ManifestError(f"the files claim {total} bytes")
    yield
    tree = EntryTree(columns, piece_length, starts)
    yield
    yield from _check_files(columns, tree)
    return tree


Levels = list[tuple[int, int]]
"""The first entry of each level of folders, and the one after its last."""


def _check_tree(columns: Columns) -> tuple[array[int], Levels]:
    """Return where the entries of each folder start, and the levels."""
    kinds, count = columns.kinds, len(columns.kinds)
    files = kinds.count(FILE) + kinds.count(PROGRAM)
    if count > MAX_ENTRIES or files > MAX_FILES:
        raise ManifestError(
            f"a manifest can have at most {MAX_FILES} files and {MAX_ENTRIES} files, links and folders"
        )
    if kinds.translate(None, _KINDS):
        raise ManifestError("an entry is neither file, link nor folder")
    if len(columns.sizes) != count * SIZE_BYTES:
        raise ManifestError(f"{count} entries need {count} sizes, not {len(columns.sizes)} bytes of them")
    if len(columns.hashes) != files * DIGEST_BYTES:
        raise ManifestError(f"{files} files need {files} hashes, not {len(columns.hashes)} bytes of them")
    starts = folder_starts(columns)
    if not starts:
        raise ManifestError(f"the folders claim more than the {count} entries that there are")
    return starts, _levels(kinds, starts)


def _levels(kinds: bytes, starts: array[int]) -> Levels:
    levels: Levels = []
    first, folders, begin = 0, 1, 0
    while folders:
        if len(levels) == MAX_PATH_DEPTH + 1:
            raise ManifestError(f"a path must have 1 to {MAX_PATH_DEPTH} names")
        first += folders
        end = starts[first]
        folders = kinds.count(FOLDER, begin, end)
        levels.append((begin, end))
        begin = end
    if begin != len(kinds):
        raise ManifestError("some entries are in no folder")
    if levels[-1][0] == levels[-1][1] and len(levels) > 1:
        # Only empty folders are on the level above.
        levels.pop()
    if len(levels) > MAX_PATH_DEPTH:
        raise ManifestError(f"a path must have 1 to {MAX_PATH_DEPTH} names")
    return levels


def _check_names(columns: Columns, starts: array[int], levels: Levels) -> Steps:
    """Check each name by itself, the order and uniqueness in each folder, and the lengths of paths."""
    # No path can be too long unless one of its names is longer than this.
    enough = (MAX_PATH_BYTES - len(levels) + 1) // len(levels)
    suspected = False
    number, latest = 0, ""
    for part in _parts(columns.names):
        count = part.count(b"\n") - 1
        if number + count > len(columns.kinds):
            break
        keys, longest = _keys(part)
        suspected = suspected or longest > enough
        first = bisect_left(starts, number)
        inner = starts[first : bisect_left(starts, number + count, first)]
        in_order: Iterator[int] = map(lt, chain((latest,), keys), keys)
        if inner:
            fresh = bytearray(count)
            for start in inner:
                fresh[start - number] = 1
            in_order = map(or_, in_order, fresh)
        if not all(in_order):
            raise _wrong_order(latest, keys, part, {start - number for start in inner})
        latest = keys[-1]
        number += count
        yield
    if number != len(columns.kinds):
        raise ManifestError(f"{len(columns.kinds)} entries need as many names")
    if suspected:
        yield from _check_paths(columns, starts, levels)


def _parts(names: memoryview) -> Iterator[bytes]:
    """Yield some names at a time, with a line feed before and after each."""
    at = 0
    while at < len(names):
        part = bytes(names[at : at + _CHUNK])
        end = part.rfind(b"\n") + 1
        if not end:
            raise ManifestError(f"a name is longer than {MAX_NAME_BYTES} bytes or does not end")
        yield b"\n" + part[:end]
        at += end


def _keys(part: bytes) -> tuple[list[str], int]:
    """Return the clash keys of some names, and the bytes of the longest name; raises ManifestError."""
    try:
        plain = valid_names(part)
        if plain is None:
            raise _wrong_name(part[1:-1].decode())
    except UnicodeDecodeError as error:
        raise ManifestError("a name is not UTF-8") from error
    keys = folded(plain).split("\n")
    longest = max(map(len, keys if part.isascii() else part[1:-1].split(b"\n")))
    if longest > MAX_NAME_BYTES:
        raise _wrong_name(part[1:-1].decode())
    return keys, longest


def _wrong_name(text: str) -> ManifestError:
    for name in text.split("\n"):
        try:
            check_name(name)
        except ManifestError as error:
            return error
    raise AssertionError("every name is valid")


def _wrong_order(latest: str, keys: list[str], part: bytes, fresh: set[int]) -> ManifestError:
    for at, (key, name) in enumerate(zip(keys, part[1:-1].decode().split("\n"), strict=True)):
        if at not in fresh and key <= latest:
            if key == latest:
                return ManifestError(f"the name {quoted(name)} clashes with an earlier name in its folder")
            return ManifestError(f"the name {quoted(name)} is a duplicate or out of order")
        latest = key
    raise AssertionError("every name is in order")


def _check_paths(columns: Columns, starts: array[int], levels: Levels) -> Steps:
    """Add up the bytes of each path."""
    # Bytes of the path of each folder with the separator after it.
    above = array("I", [0])
    sizes = _name_sizes(columns.names)
    number = folder = 0
    for _, end in levels:
        while number < end:
            some = min(end - number, 2048)
            here: list[int] = []
            while len(here) < some:
                while starts[folder + 1] <= number + len(here):
                    folder += 1
                here.extend(repeat(above[folder], min(starts[folder + 1] - number, some) - len(here)))
            total = list(map(add, here, islice(sizes, some)))
            if max(total) > MAX_PATH_BYTES:
                raise ManifestError(f"a path is longer than {MAX_PATH_BYTES} bytes")
            marks = columns.kinds[number : number + some].translate(IS_FOLDER)
            above.extend(size + 1 for size in compress(total, marks))
            number += some
            yield


def _name_sizes(names: memoryview) -> Iterator[int]:
    for part in _parts(names):
        yield from map(len, part[1:-1].split(b"\n"))


# What may precede the names of a target.
_LEAD = lazy_pattern(rb"^(?:\.\.?/)+|^\.\.?$", re.MULTILINE)


def _check_targets(columns: Columns, levels: Levels) -> Steps:
    """Check that each link is relative and stays in the shared folder."""
    sizes = columns.sizes_of(IS_LINK)
    at = 0
    for depth, (begin, end) in enumerate(levels):
        left = columns.kinds.count(LINK, begin, end)
        while left:
            some = list(islice(sizes, min(left, _LINKS)))
            left -= len(some)
            if max(some) > MAX_TARGET_BYTES or not min(some):
                raise ManifestError(f"the target of a link has no byte or more than {MAX_TARGET_BYTES}")
            ends = list(accumulate(some, initial=0))
            part = bytes(columns.targets[at : at + ends[-1]])
            targets = [part[first:last] for first, last in pairwise(ends)]
            at += ends[-1]
            if at > len(columns.targets):
                break
            if not _targets_stay(targets, depth):
                raise _wrong_target(targets, depth)
            yield
    if at != len(columns.targets):
        raise ManifestError("the targets of the links are not as long as the links say")


def _wrong_target(targets: list[bytes], depth: int) -> ManifestError:
    for target in targets:
        try:
            check_target(target.decode(), depth)
        except UnicodeDecodeError:
            return ManifestError("the target of a link is not UTF-8")
        except ManifestError as error:
            return error
    raise AssertionError("every target is right")


def _targets_stay(targets: list[bytes], depth: int) -> bool:
    """Whether all targets are right for links in folders at that depth."""
    lines = b"\n".join(targets)
    if lines.count(b"\n") != len(targets) - 1:
        return False
    if b"." in lines and (b"./" in lines or b".." in lines or b"." in targets):
        if b".." in lines and _leaves(depth).search(lines):
            return False
        # A name takes the place of the dots, so that what follows them is still the start of a name.
        lines = _LEAD.sub(b"x/", lines)
    lines = b"\n%s\n" % lines
    try:
        return valid_names(lines.replace(b"/\n", b"\n").replace(b"/", b"\n")) is not None
    except UnicodeDecodeError:
        return False


@cache
def _leaves(depth: int) -> re.Pattern[bytes]:
    """Return a pattern for a target that goes up more folders than there are above the link."""
    return re.compile(rb"^(?:\./)*(?:\.\.(?:/|$)(?:\./)*){%d}" % (depth + 1), re.MULTILINE)


def check_target(target: str, depth: int) -> str:
    """Return the target of a link in a folder ``depth`` levels below the shared one, if it may be shared.

    Raises ManifestError for an absolute target, one that leads out of the shared folder, one that goes up
    after it went down (which may lead anywhere if a part is a link), and one that is no path of valid names.
    """
    try:
        encoded = target.encode()
    except UnicodeEncodeError as error:
        raise ManifestError(f"its target {quoted(target)} is not UTF-8") from error
    if not 0 < len(encoded) <= MAX_TARGET_BYTES:
        raise ManifestError(f"its target is empty or longer than {MAX_TARGET_BYTES} bytes")
    if target.startswith("/"):
        raise ManifestError(f"its target {quoted(target)} is absolute")
    if _targets_stay([encoded], depth):
        return target
    if _leaves(depth).search(encoded):
        raise ManifestError(f"its target {quoted(target)} is outside the shared folder")
    for name in _LEAD.sub(b"", encoded).removesuffix(b"/").decode().split("/"):
        if name == "..":
            raise ManifestError(f"its target {quoted(target)} goes up after it went down")
        try:
            check_name(name)
        except ManifestError as error:
            raise ManifestError(f"in its target, {error}") from error
    raise ManifestError(f"its target {quoted(target)} is not allowed")


def _check_files(columns: Columns, tree: EntryTree) -> Steps:
    """Check the lengths of files, and what follows from them."""
    layout = tree.layout
    if layout.piece_count > MAX_PIECES:
        raise ManifestError(f"a manifest can have at most {MAX_PIECES} pieces: use a larger piece length")
    if len(columns.pieces) != tree.further_pieces * DIGEST_BYTES:
        raise ManifestError(
            f"the files of several pieces need {tree.further_pieces} piece hashes, "
            f"not {len(columns.pieces)} bytes of them"
        )
    for count, file in enumerate(layout.empty_files()):
        if columns.hashes[file * DIGEST_BYTES : (file + 1) * DIGEST_BYTES] != EMPTY_BLAKE3:
            shown = quoted("/".join(tree.file_path(file)))
            raise ManifestError(f"the empty file {shown} does not have the hash of no bytes")
        if not count % 4096:
            yield


class Draft:
    """The columns of a new manifest; entries are added level by level, and in order in each folder."""

    def __init__(self) -> None:
        self.kinds = bytearray()
        self.sizes = array("Q")
        self.names = bytearray()
        self.targets = bytearray()
        self.hashes = bytearray()
        self.pieces = bytearray()

    def add(self, name: str, kind: int, size: int) -> None:
        """Add an entry; see `Columns` for its size."""
        self.kinds.append(kind)
        self.sizes.append(size)
        self.names += name.encode() + b"\n"

    def add_all(self, names: Sequence[str], kinds: bytes, sizes: Iterable[int]) -> None:
        """Add at least one entry, all in one folder and in order."""
        self.kinds += kinds
        self.sizes.extend(sizes)
        self.names += "\n".join((*names, "")).encode()

    def add_link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        encoded = target.encode()
        self.add(name, LINK, len(encoded))
        self.targets += encoded

    def add_hashes(self, whole: bytes, pieces: bytes) -> None:
        """Add the hashes of the next file, in the order of the files."""
        self.hashes += whole
        if len(pieces) > DIGEST_BYTES:
            self.pieces += pieces

    def lists(self, columns: Columns) -> bool:
        """Whether these columns, the hashes aside, are the same."""
        return (
            columns.kinds == self.kinds
            and columns.names == self.names
            and columns.targets == self.targets
            and columns.sizes == self._sizes().tobytes()
        )

    def _sizes(self) -> array[int]:
        sizes = self.sizes
        if BIG_ENDIAN:
            sizes = sizes[:]
            sizes.byteswap()
        return sizes

    def encode(self, name: str, piece_length: int) -> bytes:
        """Return the encoded manifest; it is not checked."""
        sizes = self._sizes()
        fields: dict[str, cbor.Value] = {
            "v": VERSION,
            "name": name,
            "kinds": bytes(self.kinds),
            "names": bytes(self.names),
            "piece": piece_length,
            "sizes": sizes.tobytes(),
            "hashes": bytes(self.hashes),
            "pieces": bytes(self.pieces),
            "targets": bytes(self.targets),
        }
        return cbor.encode(fields)


def draft(files: Iterable[FileEntry], links: Iterable[LinkEntry], folders: Iterable[Path]) -> Draft:
    """Arrange files, links and empty folders; raises ManifestError if two have one path."""
    root: dict[str, Any] = {}
    for file in files:
        _put(root, file.path, file)
    for link in links:
        _put(root, link.path, link)
    for path in folders:
        _put(root, path, {})
    made = Draft()
    level = [root]
    while level:
        below: list[dict[str, Any]] = []
        for folder in level:
            for name in sorted(folder, key=clash_key):
                _add(made, name, folder[name], below)
        level = below
    return made


def _add(made: Draft, name: str, found: Any, below: list[dict[str, Any]]) -> None:
    if isinstance(found, FileEntry):
        made.add(name, PROGRAM if found.executable else FILE, found.length)
        made.add_hashes(found.blake3, found.pieces)
    elif isinstance(found, LinkEntry):
        made.add_link(name, found.target)
    else:
        made.add(name, FOLDER, len(found))
        below.append(found)


def _put(root: dict[str, Any], path: Path, what: Any) -> None:
    folder: Any = root
    for name in path[:-1]:
        folder = folder.setdefault(name, {})
        if not isinstance(folder, dict):
            break
    if not path or not isinstance(folder, dict) or path[-1] in folder:
        raise ManifestError(f"the path {quoted('/'.join(path))} clashes with another one")
    folder[path[-1]] = what
