"""`--only`: which files and pieces a pattern selects."""

from __future__ import annotations

import pytest

from swarm.content.selection import pieces_of, select
from swarm.errors import UsageError
from tests.support.contents import file_manifest, folder_manifest

PIECE = 16 * 1024
FILES = {
    "a.txt": b"a" * (2 * PIECE + 1),
    "b.jpg": b"b" * PIECE,
    "docs/a.txt": b"",
    "docs/deep/c.txt": b"c" * 5,
    "docs/deep/d.jpg": b"d" * (PIECE + 9),
    "docs/e\u0301.txt": b"e",
    "photos/B.JPG": b"f",
    "photos/docs": b"g",
}
MANIFEST = folder_manifest("x", FILES)


def names(*patterns: str) -> set[str]:
    return {"/".join(MANIFEST.files[file].path) for file in select(MANIFEST, patterns)}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.txt", {"a.txt", "docs/a.txt"}),
        ("/a.txt", {"a.txt"}),
        ("./a.txt", {"a.txt"}),
        ("*.jpg", {"b.jpg", "docs/deep/d.jpg"}),
        ("*.[jJ][pP][gG]", {"b.jpg", "docs/deep/d.jpg", "photos/B.JPG"}),
        ("docs/*.jpg", None),
        ("docs/*/*.jpg", {"docs/deep/d.jpg"}),
        ("docs/**/*.txt", {"docs/a.txt", "docs/deep/c.txt", "docs/e\u0301.txt"}),
        ("**/deep", {"docs/deep/c.txt", "docs/deep/d.jpg"}),
        ("**/deep/**", {"docs/deep/c.txt", "docs/deep/d.jpg"}),
        ("docs/", {name for name in FILES if name.startswith("docs/")}),
        ("docs", {name for name in FILES if name.startswith("docs/")} | {"photos/docs"}),
        ("\u00e9.txt", {"docs/e\u0301.txt"}),
        ("?.txt", {"a.txt", "docs/a.txt", "docs/deep/c.txt", "docs/e\u0301.txt"}),
        ("**", set(FILES)),
        ("*", set(FILES)),
        ("", None),
        ("/", None),
        ("..", None),
        ("x/a.txt", {"a.txt"}),
        ("x/docs", {name for name in FILES if name.startswith("docs/")}),
        ("x", set(FILES)),
        ("x/", set(FILES)),
        ("x/*.jpg", {"b.jpg"}),
        ("y/a.txt", None),
        ("DOCS", None),
    ],
)
def test_a_pattern_selects_files_and_whole_folders(pattern: str, expected: set[str] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError, match="no file of 'x' matches") as error:
            select(MANIFEST, [pattern])
        assert "\n" not in str(error.value)
    else:
        assert names(pattern) == expected


def test_no_pattern_selects_everything_and_several_select_what_any_does() -> None:
    assert names() == set(FILES)
    assert names("b.jpg", "c.txt") == {"b.jpg", "docs/deep/c.txt"}
    with pytest.raises(UsageError, match="nothing-like-it"):
        names("b.jpg", "nothing-like-it")


def test_many_wildcards_take_no_long_time() -> None:
    deep = folder_manifest("x", {"/".join(["aaaaaaaaaaaaaaaa"] * 30): b"1"})
    with pytest.raises(UsageError):
        select(deep, ["**/" * 200 + "*a*a*a*a*a*a*a*a*a*a*b"])


def test_the_pieces_of_a_selection_are_those_of_its_files_alone() -> None:
    chosen = select(MANIFEST, ["docs/deep", "a.txt"])
    assert sum(MANIFEST.layout.length(piece) for piece in pieces_of(MANIFEST.layout, chosen)) == sum(
        len(data) for name, data in FILES.items() if name.startswith("docs/deep") or name.endswith("a.txt")
    )
    assert pieces_of(MANIFEST.layout, select(MANIFEST, ())).full


def test_a_single_file_is_selected_by_its_name() -> None:
    manifest = file_manifest("film.mkv", b"1" * 100)
    assert select(manifest, ["*.mkv"]) == {0}
    with pytest.raises(UsageError):
        select(manifest, ["*.avi"])


REAL = folder_manifest(
    "[Grp] Show",
    {
        "[Grp] Show - 01 [1080p].mkv": b"1",
        "[Grp] Extras/a [x].mkv": b"2",
        "[Grp] Extras/a x.mkv": b"3",
        "1.mkv": b"4",
        "!note.txt": b"5",
        "[Grp] Show/inner": b"6",
    },
)


def real(*patterns: str) -> set[str]:
    return {"/".join(REAL.files[file].path) for file in select(REAL, patterns)}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("[Grp] Show - 01 [1080p].mkv", {"[Grp] Show - 01 [1080p].mkv"}),
        ("[Grp] Show/[Grp] Show - 01 [1080p].mkv", {"[Grp] Show - 01 [1080p].mkv"}),
        ("[Grp] Extras/", {"[Grp] Extras/a [x].mkv", "[Grp] Extras/a x.mkv"}),
        ("[Grp] Show/[Grp] Extras/a [x].mkv", {"[Grp] Extras/a [x].mkv"}),
        ("a [x].mkv", {"[Grp] Extras/a [x].mkv"}),
        ("a [xy].mkv", {"[Grp] Extras/a x.mkv"}),
        (r"\[Grp\] Extras/a \[*\].mkv", {"[Grp] Extras/a [x].mkv"}),
        (r"\!note.txt", {"!note.txt"}),
        ("[Grp] Show", {"[Grp] Show/inner"}),
        ("[Gg]*/inner", None),
    ],
)
def test_real_names_with_brackets_need_no_quoting(pattern: str, expected: set[str] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError):
            real(pattern)
    else:
        assert real(pattern) == expected


def test_a_pattern_after_an_exclamation_mark_takes_out() -> None:
    assert names("!*.jpg") == {name for name in FILES if not name.endswith(".jpg")}
    assert names("docs", "!docs/deep") == {"docs/a.txt", "docs/e\u0301.txt", "photos/docs"}
    assert names("!docs/deep", "docs", "!x/photos") == {"docs/a.txt", "docs/e\u0301.txt"}
    with pytest.raises(UsageError, match="no file of 'x' matches --only '!nothing'"):
        names("!nothing")
    with pytest.raises(UsageError, match="--only leaves no file of 'x' to fetch"):
        names("docs", "!**")
