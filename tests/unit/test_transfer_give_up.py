"""When a fetch gives up, and what it then says."""

from __future__ import annotations

import pytest

from swarm.errors import Incomplete, NoPeerReachable
from swarm.transfer.give_up import MAX_RANGES_SHOWN, FailureReasons, GiveUpTimer, give_up_error


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


def test_nobody_was_reached() -> None:
    error = give_up_error(met_somebody=False, connected=0, missing=(0, 1), reason="b: refused", patience=9)
    assert isinstance(error, NoPeerReachable)
    assert "in 9 s: b: refused" in str(error)


def test_all_are_gone() -> None:
    error = give_up_error(met_somebody=True, connected=0, missing=(1,), reason="", patience=9)
    assert isinstance(error, Incomplete)


def test_peers_claim_to_have_the_pieces_and_send_none() -> None:
    error = give_up_error(met_somebody=True, connected=2, missing=(), reason="", patience=9)
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


@pytest.mark.parametrize(
    ("missing", "said"),
    [((7,), "piece 7;"), ((0, 1, 2, 5), "4 pieces: 0-2, 5;"), (tuple(range(0, 40, 2)), "20 pieces: 0, 2,")],
)
def test_the_pieces_that_nobody_has_are_named(missing: tuple[int, ...], said: str) -> None:
    error = give_up_error(met_somebody=True, connected=3, missing=missing, reason="", patience=9)
    assert isinstance(error, Incomplete)
    assert said in str(error)
    assert str(error).count(",") <= MAX_RANGES_SHOWN + 1
    assert "\n" not in str(error)
