"""Applies the rules of a daemon: when seeding has been enough, and limits that depend on the time of day."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import trio

from swarm.daemon.limit_schedule import LimitPair, LimitSchedule
from swarm.daemon.seeding_rules import SeedingRule
from swarm.daemon.wishes import check_limits
from swarm.errors import DiskError

if TYPE_CHECKING:
    from swarm.daemon.keeper import TransferKeeper
    from swarm.daemon.transfer_registry import TransferRegistry

TICK_SECONDS: Final = 1.0
"""Between two looks at the rules: a transfer seeds so much longer than its rule says, at most."""
SAVE_SECONDS: Final = 60.0
"""What transfers have given is kept this often; a kill loses that much of the counting."""
END_SECONDS: Final = 1.0
RULE: Final = "seeding"
SCHEDULE: Final = "schedule"


class RuleKeeper:
    """The rules that hold for all transfers of a daemon. What is set is kept first; raises `DiskError`."""

    def __init__(self, keeper: TransferKeeper, registry: TransferRegistry) -> None:
        self.limits = LimitPair()
        """Those of all transfers together where the schedule says nothing."""
        self.limits_now = LimitPair()
        self.schedule = LimitSchedule()
        self.rule = SeedingRule()
        """What holds for transfers without a rule of their own."""
        self._keeper = keeper
        self._registry = registry
        self._unsaved: set[str] = set()

    async def restore(self) -> None:
        """Begin with what is kept."""
        self.limits = LimitPair(*await self._registry.limits())
        settings = await self._registry.settings()
        self.schedule = LimitSchedule.parse(tuple(json.loads(settings.get(SCHEDULE, "[]"))))
        self.rule = SeedingRule(**json.loads(settings.get(RULE, "{}")))
        self._apply()

    async def limit(self, *, upload: int | None, download: int | None) -> None:
        """Set the limits of all transfers together, in bytes per second; None is no limit."""
        check_limits(upload, download)
        await self._registry.set_limits(upload, download)
        self.limits = LimitPair(upload, download)
        self._apply()
        self._tell()

    async def set_schedule(self, texts: tuple[str, ...]) -> None:
        """Set the lines of the schedule; raises UsageError for one that is none."""
        schedule = LimitSchedule.parse(texts)
        await self._registry.set_setting(SCHEDULE, json.dumps(schedule.texts))
        self.schedule = schedule
        self._apply()
        self._tell()

    async def set_rule(self, rule: SeedingRule) -> None:
        """Set when a transfer without a rule of its own has been seeded enough."""
        fields = {name: getattr(rule, name) for name in SeedingRule.__match_args__}
        await self._registry.set_setting(RULE, json.dumps(fields))
        self.rule = rule
        self._tell()

    def view(self) -> dict[str, Any]:
        """What the API says of the rules."""
        return {
            "upload_limit": self.limits.upload,
            "download_limit": self.limits.download,
            "upload_limit_now": self.limits_now.upload,
            "download_limit_now": self.limits_now.download,
            "schedule": list(self.schedule.texts),
            "ratio": self.rule.ratio,
            "copies": self.rule.copies,
            "seed_seconds": self.rule.seconds,
        }

    async def run(self) -> None:
        """Look after the rules until cancelled; then keep what was counted."""
        try:
            save_at = trio.current_time() + SAVE_SECONDS
            while True:
                await trio.sleep(TICK_SECONDS)
                self._apply()
                await self._end_what_is_enough()
                if trio.current_time() >= save_at:
                    await self._save()
                    save_at = trio.current_time() + SAVE_SECONDS
        finally:
            with trio.move_on_after(END_SECONDS) as scope:
                scope.shield = True
                await self._save()

    def _apply(self) -> None:
        """Set the limits of this minute."""
        # The schedule means the clock on the wall, with its zone as it is at this moment.
        schedule = self.schedule
        limits = schedule.at(datetime.now().astimezone(), self.limits) if schedule.lines else self.limits
        if limits != self.limits_now:
            self.limits_now = limits
            self._keeper.node.limit(upload=limits.upload, download=limits.download)
            self._tell()

    def _tell(self) -> None:
        """Wake whoever waits for changes: the rules are told with them."""
        self._keeper.changes.touch_node()
        self._keeper.tell_news()

    async def _end_what_is_enough(self) -> None:
        keeper = self._keeper
        gave, keeper.gave = keeper.gave, set()
        self._unsaved |= gave
        now = trio.current_time()
        for entry in list(keeper.entries.values()):
            if not entry.seeds:
                continue
            rule = entry.rule.within(self.rule)
            if rule.seconds:
                self._unsaved.add(entry.kept.id)
            reason = rule.reached(entry.counts(now), entry.size)
            if reason:
                try:
                    await keeper.finish(entry, reason)
                except DiskError as error:
                    keeper.tell(str(error))

    async def _save(self) -> None:
        now = trio.current_time()
        counts = []
        for each in self._unsaved:
            entry = self._keeper.entries.get(each)
            if entry is not None:
                given = entry.counts(now)
                counts.append((each, given.sent, given.copies, given.seconds))
        if counts:
            try:
                await self._registry.keep_counts(counts)
            except DiskError as error:
                self._keeper.tell(str(error))
                return
        self._unsaved.clear()
