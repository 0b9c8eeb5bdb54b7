"""One line and one exit code for whatever went wrong."""

from __future__ import annotations

import errno

import click
import pytest

from cli.failures import EXIT_CODES, Failure, explain
from swarm import errors
from swarm.daemon.client import DaemonAway
from swarm.errors import (
    DiskError,
    Incomplete,
    IntegrityError,
    LinkClosed,
    Locked,
    ManifestError,
    NoPeerReachable,
    SwarmError,
    UsageError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (ManifestError("x"), 3),
        (NoPeerReachable("x"), 4),
        (Incomplete("x"), 5),
        (IntegrityError("x"), 6),
        (DiskError("x"), 7),
        (Locked("x"), 8),
    ],
)
def test_a_declared_error_keeps_its_words_and_its_code(error: SwarmError, code: int) -> None:
    assert explain(error) == Failure("x", code)


def test_every_exit_code_of_an_error_is_listed() -> None:
    declared = {
        value.exit_code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, SwarmError)
    }
    assert declared | {0, DaemonAway.exit_code, 130, 141, 143} == {code for code, _ in EXIT_CODES}


def test_the_most_telling_error_of_nested_groups_speaks() -> None:
    group = BaseExceptionGroup(
        "tasks",
        [
            LinkClosed("gone"),
            ExceptionGroup("more", [NoPeerReachable("nobody"), ExceptionGroup("deep", [DiskError("full")])]),
            ValueError("bug"),
        ],
    )
    assert explain(group) == Failure("full", 7)


def test_a_declared_error_speaks_before_the_surprise_beside_it() -> None:
    assert explain(ExceptionGroup("g", [KeyError("k"), Incomplete("pieces 3 and 4")])).exit_code == 5


def test_a_surprise_is_exit_code_1_and_names_itself() -> None:
    failure = explain(ExceptionGroup("g", [KeyError("k")]))
    assert failure.exit_code == 1
    assert "KeyError" in failure.message
    assert "--debug" in failure.message


def test_a_file_that_the_system_refuses_is_the_disks_doing() -> None:
    refused = OSError(errno.EACCES, "Permission denied", "/x")
    assert explain(refused) == Failure("/x: Permission denied", 7)
    assert explain(OSError(errno.ECONNRESET, "reset")).exit_code == 1


def test_a_message_is_one_line_and_harmless() -> None:
    failure = explain(IntegrityError("two\nlines \r\n of \x1b[31mred\u202e"))
    assert failure.message == "two lines of \\x1b[31mred\\u202e"


def test_a_wrong_call_points_to_the_help() -> None:
    failure = explain(click.BadParameter("no size."))
    assert failure.exit_code == 2
    assert failure.message == "Invalid value: no size (see 'swarm --help')"
