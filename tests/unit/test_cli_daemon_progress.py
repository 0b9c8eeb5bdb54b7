"""What commands tell of transfers that a daemon runs, as long as it answers; with a scripted daemon."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from cli.commands.top import Top
from cli.render.live import Live
from cli.transfers import delegating
from cli.transfers.delegating import ASK_SECONDS, Watched
from swarm.observe.reports import TransferListed

ABOUT: dict[str, Any] = {
    **dict.fromkeys(TransferListed.__match_args__),
    "id": "ab", "kind": "fetch", "state": "fetching", "name": "data", "size": 10_000, "done": 0,
    "pieces": 100, "pieces_done": 0, "hashed": 0, "hash_total": 0, "received": 0, "sent": 0, "wasted": 0,
    "down_rate": 0.0, "up_rate": 0.0, "peers": 1, "full_peers": 0, "complete": False,
}  # fmt: skip


class ScriptedDaemon:
    """Answers with one transfer as it is then."""

    def __init__(self) -> None:
        self.about = dict(ABOUT)

    def get(self, path: str, **_query: object) -> dict[str, Any]:
        if path != "/v1/transfers":
            return self.about
        return {"version": "1", "whole": True, "transfers": [self.about], "removed": [], "node": {}}


class CountingView:
    """Counts what it is asked to draw, and keeps results."""

    shows_pieces = False

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.drawn: list[float] = []
        self.results: list[object] = []

    def draw(self, _standings: object, t: float) -> None:
        self.drawn.append(t)

    def result(self, report: object, _lines: object, _t: float) -> None:
        self.results.append(report)


@pytest.mark.parametrize("interval", [0.1, 1.0, 3.0])
def test_progress_of_a_daemon_is_shown_at_the_pace_of_the_view(
    monkeypatch: pytest.MonkeyPatch, interval: float
) -> None:
    clock = SimpleNamespace(now=time.monotonic())
    daemon, view = ScriptedDaemon(), CountingView(interval)

    def sleep(seconds: float) -> None:
        clock.now += seconds
        daemon.about["done"] += 100

    monkeypatch.setattr(delegating, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
    live: Any = Live(view, lambda: clock.now)  # type: ignore[arg-type]
    watched = Watched(daemon, live)  # type: ignore[arg-type]
    watched.add("swarm:x", dict(ABOUT), new=True)
    watched.until(lambda about: about["done"] >= 5000)
    assert len(view.drawn) >= 5000 / 100 * ASK_SECONDS / max(2 * interval, ASK_SECONDS)
    pauses = [later - before for before, later in zip(view.drawn, view.drawn[1:], strict=False)]
    assert min(pauses) > interval - 0.001


def test_top_tells_of_a_named_transfer_when_it_has_changed_only() -> None:
    daemon, view = ScriptedDaemon(), CountingView(1.0)
    live: Any = Live(view)  # type: ignore[arg-type]
    top = Top(daemon, ("data",))  # type: ignore[arg-type]
    for done in (0, 0, 0, 7, 7):
        daemon.about = {**ABOUT, "done": done}
        top.ask()
        top.tell(live)
    assert [each.done for each in view.results if isinstance(each, TransferListed)] == [0, 7]
