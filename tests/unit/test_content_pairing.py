"""Which old file a new one is compared with."""

from __future__ import annotations

import pytest

from swarm.content.manifest import Manifest
from swarm.content.pairing import pair_files, without_version
from tests.support.contents import file_manifest, folder_manifest
from tests.support.storage import noise


def pairs(new: dict[str, bytes], old: dict[str, bytes]) -> dict[str, str]:
    """The pairs by path."""
    one, other = folder_manifest("x", new), folder_manifest("x", old)
    return {path(one, file): path(other, base) for file, base in pair_files(one, other).items()}


def path(manifest: Manifest, file: int) -> str:
    return "/".join(manifest.path(file))


A, B, C = noise(3000, 1), noise(3000, 2), noise(5000, 3)


def test_equal_bytes_come_before_equal_names() -> None:
    assert pairs({"a": A, "b": B}, {"a": B, "moved/z": A}) == {"a": "moved/z", "b": "a"}


def test_of_equal_files_the_one_at_the_same_path_is_taken() -> None:
    assert pairs({"b": A}, {"a": A, "b": A, "c": A}) == {"b": "b"}


def test_a_changed_file_is_compared_with_what_had_its_path() -> None:
    assert pairs({"d/a": A}, {"d/a": C, "a": B}) == {"d/a": "d/a"}


def test_version_numbers_in_names_are_passed_over() -> None:
    new = {"numpy-2.0.0rc1.dist-info/RECORD": A, "other": C}
    old = {
        "numpy-1.26.4.dist-info/RECORD": B,
        "numpy-1.26.4.dist-info/WHEEL": C[:100],
        "RECORD": noise(3000, 9),
    }
    assert pairs(new, old) == {"numpy-2.0.0rc1.dist-info/RECORD": "numpy-1.26.4.dist-info/RECORD"}


def test_a_file_in_another_folder_is_found_by_its_name_if_its_size_is_near() -> None:
    old = {"lib64/libq-0cf96a72.so.1.2": B, "big/libq.so": noise(40_000, 5)}
    assert pairs({"lib/libq-15028c96.so.1.3": A}, old) == {
        "lib/libq-15028c96.so.1.3": "lib64/libq-0cf96a72.so.1.2"
    }
    assert pairs({"lib/other.so": A}, old) == {}
    assert pairs({"lib/libq.so": A}, {"big/libq.so": noise(40_000, 5)}) == {}


def test_of_several_candidates_the_nearest_in_size_is_taken() -> None:
    assert pairs({"e/v3.bin": A}, {"c/v1.bin": noise(9000, 1), "d/v2.bin": noise(3100, 1)}) == {
        "e/v3.bin": "d/v2.bin"
    }


def test_an_empty_file_has_no_pair_and_is_none() -> None:
    assert pairs({"a": b"", "b": A}, {"a": A, "b": b""}) == {"b": "a"}


def test_single_files_are_paired_whatever_they_are_called() -> None:
    assert pair_files(file_manifest("new.img", A), file_manifest("old.img", C)) == {0: 0}
    assert pair_files(file_manifest("new.img", A), folder_manifest("x", {"old.img": C})) == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("numpy-1.26.4.dist-info", "numpy-2.0.0.dist-info"),
        ("app-1.2.3rc1.tar", "app-1.10.tar"),
        ("lib.so.1", "lib.so.12.3"),
        ("x.cpython-311-x86.so", "x.cpython-313-x86.so"),
        ("libopenblas64_p-r0-0cf96a72.3.23.dev.so", "libopenblas64_p-r0-15028c96.3.21.so"),
    ],
)
def test_names_that_differ_in_versions_alone_are_alike(one: str, other: str) -> None:
    assert without_version(one) == without_version(other)


@pytest.mark.parametrize(
    ("one", "other"), [("a.so", "b.so"), ("facade.py", "decade.py"), ("x86.so", "arm64.so")]
)
def test_other_names_are_not(one: str, other: str) -> None:
    assert without_version(one) != without_version(other)
