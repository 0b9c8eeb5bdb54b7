"""The one rule for names that come from somewhere else, and how untrusted text is shown.

A name that passes can be created on Linux, macOS and Windows, means the same file on each, stays
inside its folder, and cannot deceive on a terminal. The sets are listed here rather than taken from
Unicode categories, so that every version and every language decides alike; only what a combining mark is
(`swarm.content.marks`) is Unicode's to say.
"""

from __future__ import annotations

import re
import unicodedata

from swarm.content.marks import JOINERS, MAX_MARKS, has_too_many_marks, without_ignored
from swarm.errors import ManifestError

MAX_NAME_BYTES = 255
"""UTF-8 bytes of one name: the limit of ext4, XFS, Btrfs, APFS and NTFS (there in UTF-16 units)."""
MAX_PATH_BYTES = 1024
"""UTF-8 bytes of a relative path with its separators: the least PATH_MAX in use (macOS)."""
MAX_PATH_DEPTH = 64
"""Names in one path."""

PART_SUFFIX = ".swarm-part"
JOURNAL_SUFFIX = ".swarm-journal"
LOCK_SUFFIX = ".swarm-lock"
RESERVED_SUFFIXES = (PART_SUFFIX, JOURNAL_SUFFIX, LOCK_SUFFIX)
"""Ends of names that belong to unfinished transfers; no shared name may have one."""
MAX_TITLE_BYTES = MAX_NAME_BYTES - max(len(suffix) for suffix in RESERVED_SUFFIXES) - 1
"""UTF-8 bytes of a manifest's own name: a reserved suffix and a leading dot must still fit."""

MAX_QUOTED = 120
"""Characters of untrusted text that an error's message repeats."""

# C0 and C1 controls but the line's end, DEL, line and paragraph separator, lone surrogates, noncharacters.
_CONTROL = "\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
_CONTROL_BEYOND = "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(1, 17))
# Invisible format characters (general category Cf): bidirectional overrides and isolates, byte order
# mark, soft hyphen, tags and the like. U+200C and U+200D are left out: Persian, Indic scripts and
# emoji need them; the clash rule sees through them.
_FORMAT = "\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
_FORMAT_BEYOND = "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
_BEYOND = _CONTROL_BEYOND + _FORMAT_BEYOND
_ILLEGAL = '\\\\<>:"|?*'

_REFUSED = re.compile(f"[/\n{_CONTROL}{_FORMAT}{_ILLEGAL}{_BEYOND}]")
_UNPRINTABLE = re.compile(f"[\n{_CONTROL}{_FORMAT}{_BEYOND}]")
# Windows takes these for devices in every folder, whatever follows the first dot.
_DEVICE = "(?ai:(?:CON|PRN|AUX|NUL|CONIN\\$|CONOUT\\$|(?:COM|LPT)[0-9\u00b9\u00b2\u00b3]) *(?:\\.[^/\n]*)?)"
_IS_DEVICE = re.compile(_DEVICE)
# The same in texts of many names. Sets of characters beyond U+FFFF are slow, so those are found in UTF-8.
_END = "(?=[/\n]|\\Z)"
_WRONG = re.compile(f"[{_CONTROL}{_FORMAT}{_ILLEGAL}]")
_WRONG_BEYOND = re.compile(
    rb"[\xf0-\xf4](?:[\x8f\x9f\xaf\xbf]\xbf[\xbe\xbf]"
    rb"|(?<=\xf0)(?:\x9b\xb2[\xa0-\xa3]|\x9d\x85[\xb3-\xba])|(?<=\xf3)\xa0[\x80\x81])"
)
_WRONG_NAME = re.compile(
    f"[/\n. ](?:(?<=[. ]){_END}|(?<=[/\n])(?:[{JOINERS}]*(?:\\.[{JOINERS}]*){{0,2}}|{_DEVICE}){_END})"
)


def all_sound(text: str, plain: str) -> bool:
    """Whether ``text`` is safe names with ``/`` or a line's end between them, their lengths left out.

    ``plain`` is the same `without_ignored`. It says at once for thousands of names what `check_name` says
    of each, but not what is wrong.
    """
    return not (
        _WRONG.search(text)
        or (_is_beyond(text) and _WRONG_BEYOND.search(text.encode("utf-8")))
        or _WRONG_NAME.search(f"/{text}")
        or has_too_many_marks(plain)
    )


def check_name(text: str) -> str:
    """Return ``text`` if it is a safe name of one file or folder.

    Raises ManifestError for an empty name, ``.`` and ``..``, a separator, a control, format or
    noncharacter, a character or ending or device name that Windows does not take, for more than
    `MAX_MARKS` combining marks in a row, and for a name over `MAX_NAME_BYTES`.
    """
    # HFS+ compares without the ignored characters: to it "." with a joiner in it is the folder itself.
    if without_ignored(text) in {"", ".", ".."}:
        raise ManifestError(f"{quoted(text)} is not a name of a file")
    found = _REFUSED.search(text)
    if found:
        raise ManifestError(f"the name {quoted(text)} contains the forbidden character U+{ord(found[0]):04X}")
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
    """Return ``text`` if it is safe as the name of a whole shared file or folder.

    Raises ManifestError where `check_name` does, for a name over `MAX_TITLE_BYTES`, and for one
    that ends like the files of an unfinished transfer.
    """
    check_name(text)
    if len(text.encode("utf-8")) > MAX_TITLE_BYTES:
        raise ManifestError(f"the name {quoted(text)} is longer than {MAX_TITLE_BYTES} bytes")
    if clash_key(text).endswith(RESERVED_SUFFIXES):
        raise ManifestError(f"the name {quoted(text)} is reserved for unfinished transfers")
    return text


def clash_key(name: str) -> str:
    """What two names share when some file system takes them for one.

    Canonical decomposition, full case folding, default-ignorable characters removed: the union of
    what APFS, HFS+, NTFS and case-folding ext4 ignore. Compatibility forms stay distinct.
    """
    return folded(without_ignored(name))


def folded(plain: str) -> str:
    """The `clash_key` of names that are `without_ignored`."""
    if plain.isascii():
        return plain.lower()
    # Canonical caseless matching, definition D145 of the Unicode standard, section 3.13.
    decomposed = unicodedata.normalize("NFD", plain)
    caseless = decomposed.casefold()
    return caseless if caseless == decomposed else unicodedata.normalize("NFD", caseless)


def printable(text: str) -> str:
    """``text`` with everything escaped that a terminal would obey, hide or reorder."""
    return _UNPRINTABLE.sub(_escape, text)


def quoted(text: str) -> str:
    """``text`` printable, in quotes and cut to `MAX_QUOTED` characters: for messages of one line."""
    return f"'{printable(text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + '…')}'"


def _is_beyond(text: str) -> bool:
    """Whether some character is beyond U+FFFF; ``text`` has no surrogates."""
    return len(text.encode("utf-16-le")) > 2 * len(text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
