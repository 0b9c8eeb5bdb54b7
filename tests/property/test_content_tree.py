"""Paths by the block: what it says is what each path alone says, and what the rules say of all pairs.

Clashes are looked for in all paths together; the oracle looks at every pair of their beginnings.
"""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.content.paths import Path, PathTree, all_names_valid, check_name, clash_key, without_ignored
from swarm.errors import ManifestError

names = st.text(st.sampled_from("abAB.-é日🙂 \u200dſK/\n"), max_size=4) | st.sampled_from(
    (
        "con",
        "CON.a",
        "nul ",
        "com¹.x",
        "COM1x",
        "..",
        ".",
        "\u200d.\u200d",
        "x" * 255,
        "é" * 128,
        "\x00",
        "a.",
        "a" + "\u0301" * 17,
        "\u0323\u0301" * 8,
        "\u0301\u200d" * 17,
        "\u0f73" * 17,
        "🙂" * 17,
        "\U0001d165" * 17,
    )
)
sound_names = st.text(st.sampled_from("abAB-é日"), min_size=1, max_size=2)


def refusal(blocks: list[list[Path]]) -> str:
    """Why the blocks are refused when they are added to a tree, or an empty string."""
    tree = PathTree()
    try:
        for block in blocks:
            tree.add(block)
    except ManifestError as error:
        return str(error)
    return ""


NO_NAMES: Path = ()
"""Breaks a rule wherever it comes, so all paths of its block are checked one by one."""


def clashes(blocks: list[list[Path]]) -> str:
    tree = PathTree()
    for block in blocks:
        tree.add(block)
    try:
        tree.finish()
    except ManifestError as error:
        return str(error)
    return ""


def is_sound(name: str) -> bool:
    try:
        check_name(name)
    except ManifestError:
        return False
    return True


@settings(deadline=None, max_examples=300)
@given(st.lists(names, min_size=1, max_size=5))
def test_many_names_are_sound_when_each_is(some: list[str]) -> None:
    some = [name for name in some if len(name.encode()) <= 255 and not {"/", "\n"} & set(name)]
    if some:
        for separator in "/\n":
            text = separator.join(some)
            assert all_names_valid(text, without_ignored(text)) == all(map(is_sound, some)), some


@settings(deadline=None, max_examples=300)
@given(
    st.sets(st.lists(names | sound_names, min_size=0, max_size=3).map(tuple), min_size=1, max_size=8),
    st.integers(1, 8),
    st.booleans(),
)
def test_a_block_is_refused_for_the_reason_for_which_a_path_of_it_is(
    paths: set[Path], size: int, sort: bool
) -> None:
    order = sorted(paths) if sort else list(paths)
    blocks = [order[start : start + size] for start in range(0, len(order), size)]
    refused = refusal(blocks)
    assert refused == refusal([[path] for path in order])
    if not refused:
        for index, block in enumerate(blocks):
            assert refusal([*blocks[:index], [*block, NO_NAMES]]) == refusal([[NO_NAMES]])


@settings(deadline=None, max_examples=300)
@given(
    st.sets(st.lists(sound_names, min_size=1, max_size=3).map(tuple), min_size=1, max_size=8),
    st.integers(1, 8),
)
def test_it_refuses_what_some_file_system_takes_for_one(paths: set[Path], size: int) -> None:
    order = sorted(paths)
    blocks = [order[start : start + size] for start in range(0, len(order), size)]
    parts = {(path[:depth], depth == len(path)) for path in order for depth in range(1, len(path) + 1)}
    clash = any(
        [clash_key(name) for name in one] == [clash_key(name) for name in two]
        for (one, _), (two, _) in combinations(parts, 2)
    )
    assert ("clashes with the earlier name" in clashes(blocks)) == clash


def test_no_clash_key_brings_a_separator() -> None:
    for code in range(0x110000):
        if not 0xD800 <= code <= 0xDFFF and chr(code) not in "/\n":
            key = clash_key(f"a{chr(code)}")
            assert "/" not in key
            assert "\n" not in key
