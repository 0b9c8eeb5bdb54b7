"""When a fetch gives up, and what it then says."""

from __future__ import annotations

from typing import Any

import pytest

from swarm.content.manifest import MIN_PIECE_LENGTH
from swarm.errors import Incomplete, NoPeerReachable, SwarmError
from swarm.transfer.give_up import (
    MAX_RANGES_SHOWN,
    Contact,
    FailureReasons,
    GiveUpTimer,
    describe_lack,
    give_up_error,
)
from tests.support.contents import file_manifest, folder_manifest


def test_the_first_session_is_waited_for_as_long_as_later_ones() -> None:
    timer = GiveUpTimer(120, now=100)
    assert timer.deadline() == 220
    timer.met(105)
    assert timer.met_somebody
    assert timer.deadline() == 225


def test_meeting_somebody_again_is_nothing_useful() -> None:
    timer = GiveUpTimer(120, now=0)
    timer.met(1)
    timer.met(50)
    assert timer.deadline() == 121
    timer.useful(60)
    assert timer.deadline() == 180


def test_a_pause_does_not_count_as_waiting() -> None:
    timer = GiveUpTimer(120, now=0)
    timer.restart(8)
    assert not timer.met_somebody
    assert timer.deadline() == 128
    timer.useful(20)
    timer.restart(100)
    assert timer.deadline() == 220
    timer.useful(50)
    assert timer.deadline() == 220, "time does not run backwards"


def gave_up(contact: Contact, **how: Any) -> SwarmError:
    default = {"progressed": False, "kept": False, "connected": 0, "lack": "", "reason": ""}
    return give_up_error(contact=contact, patience=9, **{**default, **how})


def test_nobody_was_reached() -> None:
    error = gave_up(Contact.NONE, reason="b: refused")
    assert isinstance(error, NoPeerReachable)
    assert "in 9 s: b: refused" in str(error)
    # A folder of this machine gave some of it.
    error = gave_up(Contact.NONE, reason="b: refused", progressed=True, kept=True)
    assert isinstance(error, Incomplete)
    assert "in 9 s: b: refused; what was fetched is kept" in str(error)


@pytest.mark.parametrize(
    ("contact", "said"),
    [(Contact.ANSWERED, "no peer that answered exchanges this"), (Contact.EXCHANGED, "all peers are gone")],
)
def test_all_are_gone(contact: Contact, said: str) -> None:
    error = gave_up(contact, reason="b: the peer left")
    assert isinstance(error, Incomplete)
    assert str(error).startswith(f"{said}: b: the peer left; nothing was fetched")
    assert "what was fetched is kept" in str(gave_up(contact, kept=True))


def test_peers_claim_to_have_the_pieces_and_send_none() -> None:
    error = gave_up(Contact.EXCHANGED, connected=2)
    assert isinstance(error, Incomplete)
    assert "no peer sent a piece for 9 s" in str(error)


def test_the_most_telling_reason_is_told_and_the_latest_of_equals() -> None:
    reasons = FailureReasons(most=3)
    assert reasons.most_telling() == ""
    reasons.note("a", "refused", 4)
    reasons.note("b", "refused, too", 4)
    reasons.note("c", "no answer", 1)
    assert reasons.most_telling() == "refused, too"
    reasons.note("a", "no answer", 1)
    reasons.note("d", "no answer either", 1)
    assert reasons.by_peer() == {"c": "no answer", "a": "no answer", "d": "no answer either"}
    reasons.forget("d")
    assert reasons.most_telling() == "no answer"


def test_what_named_peers_said_is_told_and_nothing_of_strangers() -> None:
    reasons = FailureReasons(most=2)
    reasons.note("stranger", "it is not here", 100)
    reasons.name("a")
    assert reasons.most_telling() == "", "the stranger was not asked for"
    reasons.note("a", "refused", 1)
    reasons.note("stranger", "it is not here", 100)
    assert reasons.most_telling() == "refused"
    reasons.note("another", "it is not here", 100)
    assert reasons.most_telling() == "refused", "strangers push out no named peer"
    assert reasons.who_counts({"a", "stranger"}) == {"a"}


@pytest.mark.parametrize(
    ("missing", "said"),
    [((7,), "piece 7;"), ((0, 1, 2, 5), "4 pieces: 0-2, 5;"), (tuple(range(0, 40, 2)), "20 pieces: 0, 2,")],
)
def test_the_pieces_that_nobody_has_are_named(missing: tuple[int, ...], said: str) -> None:
    lack = describe_lack(3, missing, file_manifest("file.bin", bytes(41 * MIN_PIECE_LENGTH)))
    error = gave_up(Contact.EXCHANGED, connected=3, lack=lack)
    assert isinstance(error, Incomplete)
    assert said in str(error)
    assert str(error).count(",") <= MAX_RANGES_SHOWN + 1
    assert "\n" not in str(error)


def test_of_a_folder_the_files_are_named_that_nobody_has() -> None:
    manifest = folder_manifest(
        "folder", {"a/1": bytes(2 * MIN_PIECE_LENGTH), "a/2": b"", "b": b"b", "c": b"c", "d": b"d"}
    )
    assert describe_lack(1, (), manifest) == ""
    assert describe_lack(1, (0, 1, 3), manifest) == "the only connected peer lacks 3 pieces: 0-1, 3 (a/1, c)"
    assert describe_lack(2, (1, 2, 3, 4), manifest).endswith(" 4 pieces: 1-4 (a/1, b, c, …)")
