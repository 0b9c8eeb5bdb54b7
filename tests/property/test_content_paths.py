from __future__ import annotations

import posixpath
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarm.content.paths import MAX_NAME_BYTES, check_name, clash_key, printable
from swarm.errors import ManifestError

ALPHABET = [*'aB.. /\\:*?"<>|~$-_\x00\x1b\u202e\u200dé\u0301ß', "con", "nul", "com1"]
names = st.text(max_size=12) | st.lists(st.sampled_from(ALPHABET), max_size=8).map("".join)


def refused(name: str) -> str:
    try:
        check_name(name)
    except ManifestError as error:
        return str(error)
    return ""


@settings(deadline=None, max_examples=800)
@example("..")
@example("CON.txt")
@given(names)
def test_what_passes_stays_in_its_folder_everywhere(name: str) -> None:
    refusal = refused(name)
    if refusal:
        assert printable(refusal) == refusal
        return
    assert 0 < len(name.encode()) <= MAX_NAME_BYTES
    assert posixpath.normpath(posixpath.join("/top", name)) == f"/top/{name}"
    assert PurePosixPath(name).parts == (name,)
    windows = PureWindowsPath(name)
    assert windows.parts == (name,)
    assert not windows.is_reserved()
    assert not windows.drive
    assert printable(name) == name


@settings(deadline=None, max_examples=500)
@given(st.text(max_size=12))
def test_printable_text_is_one_line_of_harmless_characters(text: str) -> None:
    shown = printable(text)
    assert shown.splitlines() in ([], [shown])
    assert not set(shown) & set(map(chr, [*range(32), *range(0x7F, 0xA0), 0x202E, 0x200B]))
    assert printable(shown) == shown
    shown.encode("utf-8")


@settings(deadline=None, max_examples=500)
@given(st.text(max_size=8))
def test_a_clash_key_ignores_case_and_normal_form(text: str) -> None:
    key = clash_key(text)
    for form in ("NFC", "NFD"):
        assert clash_key(unicodedata.normalize(form, text)) == key
    assert clash_key(text.casefold()) == key
    assert clash_key(key) == key
