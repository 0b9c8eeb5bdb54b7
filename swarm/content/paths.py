"""The rules for names and paths of a manifest, and how untrusted text is displayed.

A valid name can be created on Linux, macOS and Windows, denotes the same file on each, stays inside its
folder, and cannot mislead on a terminal. The character sets are listed here instead of being taken from
Unicode categories, so that every implementation decides alike. Only combining classes come from Unicode.

The number of combining marks in a row is limited because canonical decomposition sorts them: names made of
marks in the wrong order take three times as long as any others.

A hostile manifest must be cheap to refuse, however many valid paths precede the first invalid one. So paths
are checked in blocks, each rule for the whole block at once. Only a block that breaks a rule is checked path
by path, to report what is wrong. Clashes are checked over all paths at the end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import compress, islice, takewhile
from operator import eq, itemgetter, lt

from blake3 import blake3

from swarm.content.entries import FormatExceeded, Path
from swarm.errors import ManifestError
from swarm.lazy_pattern import lazy_pattern

MAX_MARKS = 10
"""Combining marks in a row. Real text needs a handful. The Stream-Safe Text Format (Unicode Standard Annex
#15, section 13) allows 30, but 30 in the wrong order cost three times as much."""

# Default-ignorable characters that a name may carry and that some file systems skip when comparing.
JOINERS = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u200c\u200d\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef"
)
"""The content of a regular expression's character set."""
_IGNORED = lazy_pattern(f"[{JOINERS}]")
_IGNORED_RUN = lazy_pattern(f"[{JOINERS}][{JOINERS}]*")

# Combining class 0, but they decompose into two marks.
_PAIRS = "\u0f73\u0f75\u0f81"
_IN_PAIRS = lazy_pattern(f"[{_PAIRS}]")
_PLAIN_MARK = "\u0f72"
# Shorter runs of marks are skipped and longer ones matched as a whole, so the scan stays linear.
_LOOKED_AT = 8
_TOO_MANY = lazy_pattern(rb"[^\0]{%d}" % (MAX_MARKS + 1))


def without_ignored(text: str) -> str:
    """Return ``text`` without the default-ignorable characters that some file systems skip in comparisons."""
    # Searching for one character first is faster, because most texts have none. `_IGNORED_RUN` starts with
    # a single set, not a repeated one, so that the regex engine can skip to it.
    return text if text.isascii() or not _IGNORED.search(text) else _IGNORED_RUN.sub("", text)


def has_too_many_marks(text: str) -> bool:
    """Whether more than `MAX_MARKS` characters in a row have a canonical combining class other than 0.

    ``text`` must be the result of `without_ignored`: ignored characters do not interrupt a row.
    """
    if text.isascii():
        return False
    one, runs = _patterns()
    if not one.search(text):
        return False
    long = " ".join([run for run in runs.findall(text) if len(run) > MAX_MARKS])
    classes = map(unicodedata.combining, _IN_PAIRS.sub(_PLAIN_MARK, long))
    return _TOO_MANY.search(bytes(classes)) is not None


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return patterns for one mark and for runs of marks; the caller checks the combining classes.

    Every character beyond U+FFFF counts as a mark, because listing single ones makes matching slow.
    """
    marks = "".join(filter(unicodedata.combining, map(chr, range(0x10000))))
    one = f"[{marks}{_PAIRS}\U00010000-\U0010ffff]"
    return re.compile(one), re.compile(f"{one}{{{_LOOKED_AT},}}")


MAX_NAME_BYTES = 255
"""UTF-8 bytes of one name: the limit of ext4, XFS, Btrfs, APFS and NTFS (in UTF-16 units there)."""
MAX_PATH_BYTES = 1024
"""UTF-8 bytes of a relative path with its separators: the smallest PATH_MAX in use (macOS)."""
MAX_PATH_DEPTH = 64
"""Names in one path."""

PART_SUFFIX = ".swarm-part"
JOURNAL_SUFFIX = ".swarm-journal"
LOCK_SUFFIX = ".swarm-lock"
RESERVED_SUFFIXES = (PART_SUFFIX, JOURNAL_SUFFIX, LOCK_SUFFIX)
"""Suffixes of the files of an unfinished transfer; no shared name may end in one."""
MAX_TITLE_BYTES = MAX_NAME_BYTES - max(len(suffix) for suffix in RESERVED_SUFFIXES) - 1
"""UTF-8 bytes of a manifest's own name: leaves room for a reserved suffix and a leading dot."""

_SHORT_DIGITS = 16

MAX_QUOTED = 120
"""Characters of untrusted text that an error message quotes."""

# C0 and C1 controls except line feed, DEL, line and paragraph separator, lone surrogates, noncharacters.
_CONTROL = "\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
_CONTROL_BEYOND = "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(1, 17))
# Invisible format characters (general category Cf): bidirectional overrides and isolates, byte order
# mark, soft hyphen, tags and the like. U+200C and U+200D are allowed, because Persian, Indic scripts and
# emoji need them; the clash key ignores them.
_FORMAT = "\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
_FORMAT_BEYOND = "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
_BEYOND = _CONTROL_BEYOND + _FORMAT_BEYOND
_ILLEGAL = '\\\\<>:"|?*'

_REFUSED = lazy_pattern(f"[/\n{_CONTROL}{_FORMAT}{_ILLEGAL}{_BEYOND}]")
_UNPRINTABLE = lazy_pattern(f"[\n{_CONTROL}{_FORMAT}{_BEYOND}]")
# Windows treats these names as devices in every folder, whatever follows the first dot.
_DEVICE = "(?ai:(?:CON|PRN|AUX|NUL|CONIN\\$|CONOUT\\$|(?:COM|LPT)[0-9\u00b9\u00b2\u00b3]) *(?:\\.[^/\n]*)?)"
_IS_DEVICE = lazy_pattern(_DEVICE)
# The same rules for a text of many names. Sets of characters beyond U+FFFF are slow, so those are matched in
# UTF-8.
_END = "(?=[/\n]|\\Z)"
_WRONG = lazy_pattern(f"[{_CONTROL}{_FORMAT}{_ILLEGAL}]")
_WRONG_BEYOND = lazy_pattern(
    rb"[\xf0-\xf4](?:[\x8f\x9f\xaf\xbf]\xbf[\xbe\xbf]"
    rb"|(?<=\xf0)(?:\x9b\xb2[\xa0-\xa3]|\x9d\x85[\xb3-\xba])|(?<=\xf3)\xa0[\x80\x81])"
)
_WRONG_NAME = lazy_pattern(
    f"[/\n. ](?:(?<=[. ]){_END}|(?<=[/\n])(?:[{JOINERS}]*(?:\\.[{JOINERS}]*){{0,2}}|{_DEVICE}){_END})"
)


# Names in ASCII are checked as bytes, which is several times faster.
_ASCII_ALLOWED = bytes(code for code in range(0x20, 0x7F) if chr(code) not in '/\\<>:"|?*') + b"\n"
_ASCII_DEVICE = lazy_pattern(rb"\n(?i:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9]) *[.\n]")
# What takes a closer look than `_WRONG_NAME` takes: most foreign names have none of it.
_UNUSUAL = f"{JOINERS}{_CONTROL}{_FORMAT}{_ILLEGAL}"


def valid_names(lines: bytes) -> str | None:
    """Return the names in ``lines`` `without_ignored`, a line feed between them; None if one is not valid.

    ``lines`` is UTF-8 with a line feed before and after each name. Lengths are not checked. Raises
    UnicodeDecodeError.
    """
    if lines.isascii():
        if (
            lines.translate(None, _ASCII_ALLOWED)
            or b".\n" in lines
            or b" \n" in lines
            or b"\n\n" in lines
            or _ASCII_DEVICE.search(lines)
        ):
            return None
        return lines[1:-1].decode("ascii")
    text = lines[1:-1].decode()
    if _special().search(text):
        plain = without_ignored(text)
        return plain if "/" not in text and all_names_valid(text, plain) else None
    if b".\n" in lines or b" \n" in lines or b"\n\n" in lines or _ODD_DEVICE.search(lines):
        return None
    return text


@cache
def _special() -> re.Pattern[str]:
    """Return a pattern for characters that most names do not have."""
    marks = "".join(filter(unicodedata.combining, map(chr, range(0x10000))))
    return re.compile(f"[/{_UNUSUAL}{marks}{_PAIRS}\U00010000-\U0010ffff]")


_ODD_DEVICE = lazy_pattern(
    rb"\n(?i:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)(?:[0-9]|\xc2[\xb9\xb2\xb3])) *[.\n]"
)


def all_names_valid(text: str, plain: str) -> bool:
    """Whether all names in ``text``, separated by ``/`` or line feeds, are safe; lengths are not checked.

    ``plain`` is ``text`` `without_ignored`. This applies the rules of `check_name` to thousands of names at
    once, but cannot tell which is broken.
    """
    return not (
        _WRONG.search(text)
        or (_is_beyond(text) and _WRONG_BEYOND.search(text.encode("utf-8")))
        or _WRONG_NAME.search(f"/{text}")
        or has_too_many_marks(plain)
    )


def check_name(text: str) -> str:
    """Return ``text`` if it is a safe name of one file or folder.

    Raises ManifestError for an empty name, ``.`` and ``..``; a separator; a control, format or
    noncharacter; a character, ending or device name that Windows refuses; more than `MAX_MARKS` combining
    marks in a row; and a name over `MAX_NAME_BYTES`.
    """
    # HFS+ ignores joiners in comparisons, so "." with a joiner in it is the folder itself.
    if without_ignored(text) in {"", ".", ".."}:
        raise ManifestError(f"{quoted(text)} is not a valid file name")
    found = _REFUSED.search(text)
    if found:
        code = f"U+{ord(found[0]):04X}"
        which = f"'{found[0]}' ({code})" if "!" <= found[0] <= "~" else code
        raise ManifestError(f"the name {quoted(text)} contains the forbidden character {which}")
    if len(text.encode("utf-8")) > MAX_NAME_BYTES:
        raise ManifestError(f"the name {quoted(text)} is longer than {MAX_NAME_BYTES} bytes")
    if text[-1] in ". ":
        raise ManifestError(f"the name {quoted(text)} ends in a dot or a space")
    if has_too_many_marks(without_ignored(text)):
        raise ManifestError(f"the name {quoted(text)} has more than {MAX_MARKS} combining marks in a row")
    if _IS_DEVICE.fullmatch(text):
        raise ManifestError(f"the name {quoted(text)} is a device on Windows")
    return text


def check_title(text: str) -> str:
    """Return ``text`` if it is safe as the name of a manifest.

    Raises ManifestError where `check_name` does, for a name over `MAX_TITLE_BYTES`, and for one that ends
    in a reserved suffix.
    """
    check_name(text)
    if len(text.encode("utf-8")) > MAX_TITLE_BYTES:
        raise ManifestError(f"the name {quoted(text)} is longer than {MAX_TITLE_BYTES} bytes")
    if clash_key(text).endswith(RESERVED_SUFFIXES):
        raise ManifestError(f"the name {quoted(text)} is reserved for unfinished transfers")
    return text


def temporary_names(name: str, suffix: str) -> tuple[str, str]:
    """Return the name of a temporary file for ``name``, and one that is no longer than ``name`` itself.

    The second is for file systems on which the first is too long: eCryptfs takes 143 bytes, others 255. It
    begins like ``name`` and holds a hash of it. Only a name shorter than hash and suffix gets a longer one.
    """
    mark = f"{blake3(name.encode('utf-8')).hexdigest()[:_SHORT_DIGITS]}{suffix}"
    room = max(0, min(len(name.encode("utf-8")), MAX_NAME_BYTES) - len(mark))
    # File systems count bytes or UTF-16 units; the mark has as many of the one as of the other.
    head = name.encode("utf-8")[:room].decode("utf-8", "ignore")
    return name + suffix, head + mark


def clash_key(name: str) -> str:
    """Return a key that is equal for two names if some file system treats them as the same.

    Canonical decomposition, full case folding, default-ignorable characters removed: the union of what
    APFS, HFS+, NTFS and case-folding ext4 ignore. Compatibility forms stay distinct.
    """
    return folded(without_ignored(name))


def folded(plain: str) -> str:
    """Return the `clash_key` of names from which `without_ignored` has removed the ignored characters."""
    if plain.isascii():
        return plain.lower()
    # Canonical caseless matching, definition D145 of the Unicode standard, section 3.13.
    decomposed = unicodedata.normalize("NFD", plain)
    caseless = decomposed.casefold()
    return caseless if caseless == decomposed else unicodedata.normalize("NFD", caseless)


def printable(text: str) -> str:
    """Return ``text`` with every character escaped that a terminal would interpret, hide or reorder."""
    return _UNPRINTABLE.sub(_escape, text)


def quoted(text: str) -> str:
    """Return ``text`` printable, in quotes and cut to `MAX_QUOTED` characters, for one-line messages."""
    return f"'{printable(text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + '…')}'"


def _is_beyond(text: str) -> bool:
    """Whether a character is beyond U+FFFF; ``text`` must not contain surrogates."""
    return len(text.encode("utf-16-le")) > 2 * len(text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


MAX_PATH_NAMES = 45_000
"""Names in all paths of a manifest: two bytes of a manifest become a name of sixty bytes in memory."""
MAX_PATHS_BYTES = 768 * 1024
"""UTF-8 bytes of all paths of a manifest, with their separators."""


class PathTree:
    """The paths of a manifest, added in canonical order, with the clash keys of their names."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._keys: list[Path] = []
        self._previous: Path = ()
        self._names = self._bytes = 0

    def add(self, paths: Sequence[Path]) -> None:
        """Add the next paths of the manifest, at least one.

        Raises ManifestError for the first path that has an invalid name, is too long, is out of order, or
        exceeds the limits on all paths.
        """
        text = "\n".join(["/".join(path) for path in paths])
        plain = without_ignored(text)
        if not self._accept_block(paths, text, plain):
            for path in paths:
                self._check(path)
        keys = folded(plain)
        self._paths += paths
        # Clash keys contain no separator. Paths equal to their keys are stored once.
        self._keys += paths if keys == text else [tuple(key.split("/")) for key in keys.split("\n")]
        self._previous = paths[-1]

    def finish(self) -> None:
        """Compare all paths; raises ManifestError if two names in one folder clash."""
        paths, keys = self._paths, self._keys
        order = sorted(range(len(keys)), key=keys.__getitem__)
        by_key = [keys[index] for index in order]
        # If names clash, neighbours in key order share more leading names than neighbours in path order.
        shared = _shared_names(by_key)
        if shared is None or shared != _shared_names(paths):
            raise _clash(by_key, [paths[index] for index in order])

    def _accept_block(self, paths: Sequence[Path], text: str, plain: str) -> bool:
        """Whether all paths obey every rule except clashes; if so, counts them towards the limits."""
        if not (self._previous < paths[0] and _are_ascending(paths) and _are_valid(paths, text, plain)):
            return False
        names = self._names + sum(map(len, paths))
        size = self._bytes + _size(text) - (len(paths) - 1)
        if names > MAX_PATH_NAMES or size > MAX_PATHS_BYTES:
            return False
        self._names, self._bytes = names, size
        return True

    def _check(self, path: Path) -> None:
        """Check one path by the rules of `_accept_block`; raises ManifestError saying what is wrong."""
        if not 1 <= len(path) <= MAX_PATH_DEPTH:
            raise ManifestError(f"a path must have 1 to {MAX_PATH_DEPTH} names, not {len(path)}")
        for name in path:
            check_name(name)
        size = _size("/".join(path))
        if size > MAX_PATH_BYTES:
            raise ManifestError(f"the path {_quoted_path(path)} is longer than {MAX_PATH_BYTES} bytes")
        self._names += len(path)
        self._bytes += size
        if self._names > MAX_PATH_NAMES:
            raise FormatExceeded(f"the paths of a manifest can have at most {MAX_PATH_NAMES} names in total")
        if self._bytes > MAX_PATHS_BYTES:
            raise FormatExceeded(f"the paths of a manifest can have at most {MAX_PATHS_BYTES} bytes in total")
        if path <= self._previous:
            raise ManifestError(f"the file {_quoted_path(path)} is a duplicate or out of order")
        self._previous = path


def _shared_names(paths: list[Path]) -> int | None:
    """Count the leading names that sorted paths share with the next path, in total.

    Returns None if one path is a prefix of the next. The names of all paths minus this count are the
    nodes of the tree.
    """
    upper, lower = paths[:-1], paths[1:]
    depth = shared = 0
    while upper:
        name = itemgetter(depth)
        alike = list(map(eq, map(name, upper), map(name, lower)))
        upper, lower = list(compress(upper, alike)), list(compress(lower, alike))
        depth += 1
        shared += len(upper)
        if depth in map(len, upper):
            return None
    return shared


def _clash(keys: list[Path], paths: list[Path]) -> ManifestError:
    """Return the error that names two clashing files; both lists are in key order and contain a clash."""
    for key, other_key, path, other in zip(keys, keys[1:], paths, paths[1:], strict=False):
        alike = _shared(path, other)
        if not alike == _shared(key, other_key) < len(key):
            earlier, later = sorted((path, other))
            name = earlier[min(alike, len(key) - 1)]
            return ManifestError(
                f"the file {_quoted_path(later)} clashes with the earlier name {quoted(name)}"
            )
    raise AssertionError("no name clashes")


def _shared(path: Path, other: Path) -> int:
    """Return the number of leading names that two paths share."""
    return sum(1 for _ in takewhile(bool, map(eq, path, other)))


def _are_valid(paths: Sequence[Path], text: str, plain: str) -> bool:
    """Whether every path has a legal number of names, and all of them are safe and short enough."""
    depths = [len(path) for path in paths]
    return (
        min(depths) > 0
        and max(depths) <= MAX_PATH_DEPTH
        # No name contains a separator.
        and text.count("/") == sum(depths) - len(depths)
        and text.count("\n") == len(depths) - 1
        and all_names_valid(text, plain)
        and _are_short(text)
    )


def _are_short(text: str) -> bool:
    encoded = text.encode("utf-8")
    longest = max(map(len, encoded.split(b"\n")))
    if longest <= MAX_NAME_BYTES:
        return True
    names = encoded.replace(b"/", b"\n").split(b"\n")
    return longest <= MAX_PATH_BYTES and max(map(len, names)) <= MAX_NAME_BYTES


def _are_ascending(paths: Sequence[Path]) -> bool:
    # Comparing code points gives the same order as comparing UTF-8.
    return all(map(lt, paths, islice(paths, 1, None)))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8"))


def _quoted_path(path: Path) -> str:
    return quoted("/".join(path))
