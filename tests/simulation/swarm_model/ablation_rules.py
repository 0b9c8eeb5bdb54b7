"""The rules of the strategy that `ablation` takes out, and the small swarms that it runs without them.

A rule is taken out by replacing an attribute of a module or class for one run, so the program itself has no
switches. `ablation` runs with those of any commit that has such a module: see the page of the rules.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

from swarm.strategy.download import endgame, locality, pipeline, ranking, requests, timeouts
from swarm.strategy.upload import choker, super_seeding, upload, upload_queue
from tests.simulation.swarm_model import scenarios
from tests.simulation.swarm_model.outcome import Outcome


class Patch(NamedTuple):
    """An attribute of a module or class, and what it is replaced by."""

    owner: Any
    attribute: str
    value: Any


def _returns(value: Any) -> Callable[..., Any]:
    return lambda *_args, **_kwargs: value


def _window_without_slow_start(self: pipeline.PipelineWindow) -> None:
    self._bytes, self._slow_start, self._asked_at = pipeline.FIRST_BYTES, False, None


def _giving_only(wanting: Any, _snubbing: Any, now: float, rng: random.Random) -> list[choker.UploadSlot]:
    return sorted(wanting, key=lambda one: (-one.rate.rate(now), one.unchoked_at is None, rng.random()))


AS_IT_IS = "as it is"

RULES: dict[str, tuple[Patch, ...]] = {
    AS_IT_IS: (),
    "super-seeding": (Patch(super_seeding.SuperSeeding, "sends_away", _returns(False)),),
    "super-seeding of what waits": (Patch(super_seeding.SuperSeeding, "rivals", _returns([])),),
    "credit": (Patch(upload, "UNGIVING_COPIES", 0),),
    "who took least first": (Patch(choker, "by_reciprocity", _giving_only),),
    "late receivers": (
        Patch(upload_queue.UploadQueue, "look", _returns(None)),
        Patch(upload_queue.UploadQueue, "next_look", _returns(math.inf)),
    ),
    "one piece after another": (Patch(upload_queue, "AHEAD_SECONDS", 10.0),),
    "strangers at a seeder": (Patch(choker, "TAKEN_BYTES", 0),),
    "idle slots": (Patch(choker, "IDLE_SLOT_SECONDS", math.inf),),
    "endgame": (Patch(endgame.Endgame, "pick", _returns(None)),),
    "allowance": (Patch(requests.DownloadRequests, "in_doubt", _returns(-(1 << 50))),),
    "least gain": (Patch(endgame, "LEAST_GAIN", 1.0),),
    "the first that begins": (Patch(requests.DownloadRequests, "begun", _returns([])),),
    "pings once it is spent": (Patch(endgame.Endgame, "spent", False),),
    "overdue": (Patch(endgame, "OVERDUE_SECONDS", math.inf),),
    "silence": (Patch(timeouts, "SILENCE_SECONDS", 1e6), Patch(timeouts, "PROVEN_SILENCE_SECONDS", 1e6)),
    "two seconds for proven sources": (Patch(timeouts, "PROVEN_SILENCE_SECONDS", 5.0),),
    "one piece on trust": (Patch(requests, "RequestQueue", partial(requests.RequestQueue, trusted=True)),),
    "busy sources": (Patch(requests.DownloadRequests, "unwelcome", _returns(None)),),
    "slow start": (Patch(pipeline.PipelineWindow, "__init__", _window_without_slow_start),),
    "reliability": (Patch(ranking, "GAIN", 0.0),),
    "three strikes": (Patch(requests, "STRIKES", 1 << 30),),
    "back-off": (Patch(requests, "FIRST_BACKOFF", 0.0),),
    "full near peers": (Patch(locality, "FULL_SHARE", 1 << 30),),
    "turns of a site": (Patch(locality, "TURN_SECONDS", 0.0),),
}

GROUPS: dict[str, tuple[str, ...]] = {
    "what is for hostile peers": ("late receivers", "strangers at a seeder", "idle slots", "overdue"),
}


class Small(NamedTuple):
    """A scenario small enough to be run some thousands of times."""

    run: Callable[..., Outcome]
    leechers: int
    pieces: int


CASES: dict[str, Small] = {
    "even": Small(scenarios.even, 20, 64),
    "mixed": Small(scenarios.mixed, 20, 64),
    "churn": Small(scenarios.churn, 20, 64),
    "late": Small(scenarios.late, 20, 64),
    "flash": Small(scenarios.even, 60, 32),
    "partial": Small(scenarios.partial, 20, 64),
    "riders": Small(scenarios.free_riders, 20, 128),
    "sites": Small(scenarios.sites, 20, 64),
}
NEEDS = {"full near peers": ("sites",), "turns of a site": ("sites",)}
"""Rules that are off but in these cases."""


@contextmanager
def without(rule: str) -> Iterator[None]:
    """The program without the rule, or without each rule of the group."""
    with ExitStack() as stack:
        for name in GROUPS.get(rule, (rule,)):
            for owner, attribute, value in RULES[name]:
                stack.enter_context(mock.patch.object(owner, attribute, value))
        yield
