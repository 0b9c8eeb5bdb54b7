from __future__ import annotations

import sys
import unicodedata

import pytest

from swarm.content.paths import (
    MAX_MARKS,
    MAX_NAME_BYTES,
    MAX_TITLE_BYTES,
    RESERVED_SUFFIXES,
    all_names_valid,
    check_name,
    check_title,
    clash_key,
    printable,
    without_ignored,
)
from swarm.errors import ManifestError

GOOD = [
    "a",
    "file.txt",
    ".hidden",
    "..a",
    "...a",
    "-rf",
    "~",
    "a b  c",
    " leading space",
    "name with 'quotes' & $dollars; (and) [brackets] {braces} #100% +x =y,z@",
    "CONSOLE",
    "COM10",
    "COM",
    "LPT",
    "nullable.txt",
    "aux-1.txt",
    "xNUL",
    "Grüße",
    "e\u0301",
    "文件.txt",
    "ملف.txt",
    "קובץ",
    "می\u200cخواهم.txt",
    "👩\u200d👩\u200d👧.jpg",
    "☺\ufe0f",
    "x².txt",
    "ﬁ",
    "\ue000",
    "\U0010fffd",
    "n" * MAX_NAME_BYTES,
    "ß" * 127,
]


@pytest.mark.parametrize("name", GOOD, ids=ascii)
def test_ordinary_names_pass_unchanged(name: str) -> None:
    assert check_name(name) is name


@pytest.mark.parametrize("name", ["n" * (MAX_NAME_BYTES + 1), "ß" * 128, "𝄞" * 64], ids=ascii)
def test_a_name_is_measured_in_bytes(name: str) -> None:
    with pytest.raises(ManifestError, match=f"longer than {MAX_NAME_BYTES} bytes"):
        check_name(name)


def test_what_the_rule_refuses_by_category() -> None:
    """Every control, separator, surrogate and noncharacter; every format character but the listed ones."""
    visible = {0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    joiners = {0x200C, 0x200D}
    layout = set(range(0x13430, 0x13440))  # Egyptian hieroglyph format controls
    for code in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        if category in {"Cc", "Zl", "Zp", "Cs"} or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
            must_refuse = True
        else:
            must_refuse = category == "Cf" and code not in visible | joiners | layout
        if must_refuse:
            with pytest.raises(ManifestError):
                check_name(f"a{chr(code)}b")
            assert printable(chr(code)).isascii()


def test_what_the_rule_accepts_by_category() -> None:
    """Letters, marks, numbers, punctuation, symbols and spaces, but for what Windows and paths forbid."""
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code))[0] in "LMNPSZ" and chr(code) not in '/\\<>:"|?*\u2028\u2029':
            check_name(f"a{chr(code)}b")
            assert printable(chr(code)) == chr(code)


@pytest.mark.parametrize("suffix", RESERVED_SUFFIXES)
def test_names_of_unfinished_transfers_are_reserved_at_the_top_only(suffix: str) -> None:
    for name in (suffix, f"a{suffix}", f"A{suffix.upper()}"):
        assert check_name(name)
        with pytest.raises(ManifestError, match="reserved"):
            check_title(name)
    assert check_title(f"a{suffix}.txt")


def test_a_title_leaves_room_for_the_suffixes() -> None:
    longest = "t" * MAX_TITLE_BYTES
    assert check_title(longest) == longest
    assert all(len(f".{longest}{suffix}".encode()) <= MAX_NAME_BYTES for suffix in RESERVED_SUFFIXES)
    with pytest.raises(ManifestError, match="longer"):
        check_title(longest + "t")


@pytest.mark.parametrize("row", ["\u0301", "\u0301\u200d", "\u0f71\u034f\ufe0f", "\u0f73", "\U0001d165"])
def test_marks_in_a_row_are_limited(row: str) -> None:
    most = row * MAX_MARKS
    for sound in (f"a{most}", f"a{most}b{most}", f"a{most}🙂{most}"):
        if len(sound.encode()) <= MAX_NAME_BYTES:
            assert check_name(sound) == sound
            assert all_names_valid(sound, without_ignored(sound))
    with pytest.raises(ManifestError, match=f"more than {MAX_MARKS} combining marks"):
        check_name(f"a{most}{row}b")
    assert not all_names_valid(f"x/a{most}{row}b", without_ignored(f"x/a{most}{row}b"))


def test_characters_beyond_the_bmp_are_not_taken_for_marks() -> None:
    assert check_name("🙂" * 60) == "🙂" * 60


@pytest.mark.parametrize(
    "names",
    [
        ("README", "readme", "ReadMe"),
        ("É", "e\u0301", "E\u0301", "é"),
        ("Σ", "σ", "ς"),
        ("ß", "ẞ", "ss", "SS"),
        ("K", "k", "\u212a"),
        ("가", "\u1100\u1161"),
        ("ΐ", "ΐ", "\u03b9\u0308\u0301"),
        ("ab", "a\u200db", "a\u200cb", "ab\ufe0f", "a\u034fb"),
        ("a\u0323\u0301", "a\u0301\u0323", "a\u0301\u034f\u0323"),
    ],
)
def test_names_that_some_file_system_confuses_share_a_key(names: tuple[str, ...]) -> None:
    assert len({clash_key(name) for name in names}) == 1


@pytest.mark.parametrize("names", [("a", "b"), ("e", "é"), ("x2", "x²"), ("ａ", "a"), ("i", "ı")])
def test_names_that_every_file_system_tells_apart_do_not_clash(names: tuple[str, ...]) -> None:
    assert len({clash_key(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode /path", "plain ünïcode /path"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\nb\r\tc\x00", "a\\x0ab\\x0d\\x09c\\x00"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("gpj\u202e.exe", "gpj\\u202e.exe"),
        ("\u2028\ufeff", "\\u2028\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("", ""),
    ],
)
def test_untrusted_text_is_shown_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
