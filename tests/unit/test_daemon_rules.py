"""Rules of a daemon: limits by the time of day, in zones that change their clocks; when seeding is enough."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from swarm.daemon import transfer_registry
from swarm.daemon.limit_schedule import MAX_LINES, LimitPair, LimitSchedule, parse_line
from swarm.daemon.seeding_rules import SeedingCounts, SeedingRule
from swarm.daemon.transfer_registry import FILE, KeptTransfer, TransferRegistry
from swarm.daemon.watch_folder import stamp_of
from swarm.daemon.wishes import FurtherOptions, Wishes, options_of
from swarm.errors import UsageError

OTHERWISE = LimitPair(5, 6)


def at(schedule: str, zone: str, moment: str) -> LimitPair:
    """What holds at a moment of UTC for whoever lives in a zone."""
    local = datetime.fromisoformat(moment).replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
    return LimitSchedule.parse((schedule,)).at(local, OTHERWISE)


def held(schedule: str, zone: str, first: str, hours: int) -> list[str]:
    """The minutes of UTC at which a line begins and ends to hold, from ``first`` on."""
    parsed = LimitSchedule.parse((schedule,))
    moment = datetime.fromisoformat(first).replace(tzinfo=UTC)
    before, found = False, []
    for _ in range(60 * hours):
        now = parsed.at(moment.astimezone(ZoneInfo(zone)), OTHERWISE) != OTHERWISE
        if now != before:
            found.append(moment.strftime("%d %H:%M"))
        before = now
        moment += timedelta(minutes=1)
    return found


def test_a_line_holds_at_its_days_and_times_only() -> None:
    line = "mon-fri 08:00-18:00 up 2MB/s down 10MB/s"
    # 2026-06-01 is a Monday; Berlin is two hours ahead of UTC.
    assert at(line, "Europe/Berlin", "2026-06-01T05:59") == OTHERWISE
    assert at(line, "Europe/Berlin", "2026-06-01T06:00") == LimitPair(2_000_000, 10_000_000)
    assert at(line, "Europe/Berlin", "2026-06-05T15:59") == LimitPair(2_000_000, 10_000_000)
    assert at(line, "Europe/Berlin", "2026-06-05T16:00") == OTHERWISE
    assert at(line, "Europe/Berlin", "2026-06-06T10:00") == OTHERWISE
    assert at("sat up none", "UTC", "2026-06-06T23:59") == LimitPair(None, 6)
    assert at("down 1kB/s", "UTC", "2026-06-06T23:59") == LimitPair(5, 1000)


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    assert held("fri 22:00-06:00 up 1kB/s", "UTC", "2026-06-04T00:00", 96) == ["05 22:00", "06 06:00"]
    assert held("sun 22:00-24:00 up 1kB/s", "UTC", "2026-06-06T00:00", 72) == ["07 22:00", "08 00:00"]
    assert held("sun 22:00-22:00 up 1kB/s", "UTC", "2026-06-06T00:00", 72) == ["07 22:00", "08 22:00"]


@pytest.mark.parametrize(
    ("line", "zone", "first", "expected"),
    [
        # The hour from 02:00 is left out on 29 March 2026 in Berlin: the window begins after it.
        ("02:30-04:00 up 1kB/s", "Europe/Berlin", "2026-03-29T00:00", ["29 01:00", "29 02:00"]),
        # A window that lies in that hour altogether does not come.
        ("02:10-02:50 up 1kB/s", "Europe/Berlin", "2026-03-29T00:00", []),
        # On 25 October 2026 that hour comes twice.
        ("01:00-04:00 up 1kB/s", "Europe/Berlin", "2026-10-24T22:00", ["24 23:00", "25 03:00"]),
        ("02:00-02:30 up 1kB/s", "Europe/Berlin", "2026-10-24T22:00",
         ["25 00:00", "25 00:30", "25 01:00", "25 01:30"]),
        # A working day is as long as the clock says, whatever happened in the night.
        ("08:00-18:00 up 1kB/s", "America/New_York", "2026-03-08T04:00", ["08 12:00", "08 22:00"]),
        ("08:00-18:00 up 1kB/s", "America/New_York", "2026-11-01T04:00", ["01 13:00", "01 23:00"]),
        # Half an hour: Lord Howe, where 02:00 becomes 01:30 on 5 April.
        ("01:00-03:00 up 1kB/s", "Australia/Lord_Howe", "2026-04-04T13:00", ["04 14:00", "04 16:30"]),
        # Beirut and Santiago change at midnight: the first hour of the day is left out.
        ("00:00-02:00 up 1kB/s", "Asia/Beirut", "2026-03-28T20:00", ["28 22:00", "28 23:00"]),
        # No change at all, and an odd offset.
        ("06:00-07:00 up 1kB/s", "Asia/Kathmandu", "2026-03-29T00:00", ["29 00:15", "29 01:15"]),
    ],
)  # fmt: skip
def test_the_clock_on_the_wall_counts_when_it_is_changed(
    line: str, zone: str, first: str, expected: list[str]
) -> None:
    assert held(line, zone, first, 20) == expected


def test_the_first_line_that_holds_counts() -> None:
    schedule = LimitSchedule.parse(("mon 10:00-12:00 up 1kB/s", "weekdays up 2kB/s", "daily up 3kB/s"))
    limits = [
        schedule.at(datetime(2026, 6, day, hour, tzinfo=UTC), OTHERWISE).upload
        for day, hour in ((1, 11), (1, 12), (2, 11), (6, 11))
    ]
    assert limits == [1000, 2000, 2000, 3000]


@pytest.mark.parametrize(
    "line",
    [
        "", "mon-fri", "08:00-18:00", "up", "up 2", "up fast", "moon up 1kB/s", "mon- up 1kB/s", "fri-mon",
        "25:00-26:00 up 1kB/s", "08:60-09:00 up 1kB/s", "24:00-01:00 up 1kB/s", "8-18 up 1kB/s",
        "mon 08:00-18:00 up 1kB/s up 2kB/s", "up 1kB/s mon", "up 0B/s", "up 1kB/s\nx", "x" * 300, "up ²kB",
    ],
)  # fmt: skip
def test_what_is_no_line_is_told_in_one(line: str) -> None:
    with pytest.raises(UsageError) as told:
        parse_line(line)
    assert "\n" not in str(told.value)


def test_a_schedule_is_bounded_and_keeps_its_words() -> None:
    assert LimitSchedule.parse(("  Mon-Fri   up 1kB/s",)).texts == ("Mon-Fri up 1kB/s",)
    with pytest.raises(UsageError):
        LimitSchedule.parse(("up 1kB/s",) * (MAX_LINES + 1))


# --- Seeding ------------------------------------------------------------------------------------------


def test_a_transfers_own_rule_comes_before_that_of_all() -> None:
    rule = SeedingRule(ratio=0, copies=3).within(SeedingRule(ratio=2, copies=1, seconds=60))
    assert rule == SeedingRule(0, 3, 60)
    assert rule.reached(SeedingCounts(10_000, 2, 59.0), 100) == ""
    assert rule.reached(SeedingCounts(10_000, 2, 60.0), 100) == "1m are over"
    assert rule.reached(SeedingCounts(0, 3, 0.0), 100) == "3 peers have all of it"
    ratio = SeedingRule(ratio=1.5)
    assert ratio.reached(SeedingCounts(149), 100) == ""
    assert ratio.reached(SeedingCounts(150), 100) == "1.5 times its size was sent"
    # What has no bytes has no ratio.
    assert ratio.reached(SeedingCounts(0), 0) == ""


async def test_a_database_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / FILE)
    database.executescript(f"{transfer_registry._FIRST} PRAGMA user_version = 1;")
    old = ("ab", "share", "/a", "", "a", "", 1, 0, 0, 0, 7, None, "", "", "", 0, 1.0)
    database.execute(f"INSERT INTO transfers VALUES ({', '.join('?' * len(old))})", old)  # noqa: S608
    database.commit()
    database.close()
    registry = TransferRegistry(tmp_path / FILE)
    assert await registry.all() == [
        KeptTransfer("ab", "share", "/a", name="a", size=1, upload_limit=7, added=1.0)
    ]
    await registry.set_setting("x", "y")
    await registry.keep_counts([("ab", 5, 2, 1.5)])
    await registry.set_watched("/w/a", "stamp")
    await registry.set_watched("/w/b", "stamp")
    await registry.set_watched("/w/b", None)
    registry.close()
    registry = TransferRegistry(tmp_path / FILE)
    assert await registry.settings() == {"x": "y"}
    assert await registry.watched() == {"/w/a": "stamp"}
    (kept,) = await registry.all()
    assert (kept.counted_sent, kept.counted_copies, kept.counted_seconds) == (5, 2, 1.5)
    registry.close()


def test_options_are_kept_as_what_differs_from_the_usual() -> None:
    assert FurtherOptions().to_text() == ""
    further = FurtherOptions(origins=("http://192.0.2.1/a",), overwrite=True, max_peers=3)
    assert set(json.loads(further.to_text())) == {"origins", "overwrite", "max_peers"}
    assert FurtherOptions.from_text(further.to_text()) == further
    kept = Wishes(further=further).applied(KeptTransfer("ab", "fetch", "swarm:x", "/out"))
    options = options_of(kept, private_origins=False)
    assert (options.overwrite, options.max_peers, options.origin_public_only) == (True, 3, True)
    # What is complete is never replaced: somebody may have written into it.
    assert not options_of(replace(kept, complete=True), private_origins=False).overwrite
    for wrong in (
        FurtherOptions(origins=("ftp://x/",)),
        FurtherOptions(origin_use="x"),
        FurtherOptions(trusted=("x",)),
        FurtherOptions(bases=("relative",)),
        FurtherOptions(omit=("relative",)),
    ):
        with pytest.raises(UsageError):
            Wishes(further=wrong).applied(kept)


def test_a_stamp_changes_with_anything_in_a_folder_and_links_have_none(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_bytes(b"one")
    seen = {stamp_of(str(folder))}
    (folder / "sub" / "file").write_bytes(b"four")
    seen.add(stamp_of(str(folder)))
    (folder / "sub" / "file").rename(folder / "sub" / "other")
    seen.add(stamp_of(str(folder)))
    (folder / "sub" / "more").write_bytes(b"")
    seen.add(stamp_of(str(folder)))
    assert len(seen) == 4
    assert stamp_of(str(folder)) in seen
    (tmp_path / "link").symlink_to(folder)
    assert stamp_of(str(tmp_path / "link")) == stamp_of(str(tmp_path / "gone")) == ""
