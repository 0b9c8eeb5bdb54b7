"""When a fetch gives up, and what it then says."""

from __future__ import annotations

import pytest

from swarm.errors import Incomplete, NoPeerReachable
from swarm.node.patience import MAX_RANGES_SHOWN, Patience, give_up


def test_the_first_session_is_waited_for_less_long() -> None:
    patience = Patience(10, 120, now=100)
    assert patience.deadline() == 110
    patience.met(105)
    assert patience.met_somebody
    assert patience.deadline() == 225


def test_meeting_somebody_again_is_nothing_useful() -> None:
    patience = Patience(10, 120, now=0)
    patience.met(1)
    patience.met(50)
    assert patience.deadline() == 121
    patience.useful(60)
    assert patience.deadline() == 180


def test_nobody_was_reached() -> None:
    error = give_up(met_somebody=False, connected=0, missing=(0, 1), failures=["a: refused", "b: refused"])
    assert isinstance(error, NoPeerReachable)
    assert "b: refused" in str(error)


def test_all_are_gone() -> None:
    assert isinstance(give_up(met_somebody=True, connected=0, missing=(1,), failures=()), Incomplete)


@pytest.mark.parametrize(
    ("missing", "said"),
    [((7,), "piece 7;"), ((0, 1, 2, 5), "4 pieces: 0-2, 5;"), (tuple(range(0, 40, 2)), "20 pieces: 0, 2,")],
)
def test_the_pieces_that_nobody_has_are_named(missing: tuple[int, ...], said: str) -> None:
    error = give_up(met_somebody=True, connected=3, missing=missing, failures=())
    assert isinstance(error, Incomplete)
    assert said in str(error)
    assert str(error).count(",") <= MAX_RANGES_SHOWN + 1
    assert "\n" not in str(error)
