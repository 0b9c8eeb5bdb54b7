"""What a daemon does by itself: rules, a watched folder, a command on completion; and work handed to it."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from swarm.content.link import SwarmLink
from swarm.origin_url import OriginUrl
from tests.support.daemons import Daemon, command, start_daemon
from tests.support.processes import Processes
from tests.support.requirements import MAY_INSTALL
from tests.support.sharing import LOOPBACK, MIB, fetch, random_file, sha256, share
from tests.support.web_servers import Nginx

pytestmark = [pytest.mark.e2e, MAY_INSTALL]

NAME = "daemon"


def again(processes: Processes, daemon: Daemon, *options: str) -> Daemon:
    """Kill the daemon and start it once more."""
    daemon.process.kill()
    daemon.process.wait()
    return start_daemon(processes, *options)


# --- Handed to the daemon -----------------------------------------------------------------------------


def test_share_and_fetch_hand_their_work_to_the_daemon(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data.bin", 3 * MIB)
    other = random_file(tmp_path / "other.bin", 2 * MIB, seed=8)
    for arguments in (
        ("share", data),
        ("fetch", "bafyr4ier7d6e2p75r6m7qob4sat6zrtqzenwt6yzhlaog5vpxlpounl53u"),
    ):
        failed = command(processes, *arguments, "--daemon", code=9)
        assert "start one with 'swarm daemon'" in failed.errors().splitlines()[-1]
    daemon = start_daemon(processes)
    shared = command(processes, "share", data, "--daemon", "--piece-size", "64KiB", "--ratio", "5")
    target, manifest, link = shared.lines()[:3]
    assert shared.address() == daemon.process.address()
    assert (target, manifest[:4]) == ("data.bin.swarm", "bafy")
    # The manifest that it wrote is enough, and so is the link.
    fetch(processes, processes.work(NAME) / target, tmp_path / "one").expect_exit(0)
    fetch(processes, link, tmp_path / "two").expect_exit(0)
    assert sha256(tmp_path / "two" / "data.bin") == sha256(data)
    about = daemon.until("data.bin", lambda each: each["sent"] == 6 * MIB)
    assert (about["pieces"], about["ratio"]) == (48, 5)

    # So slow that the command sees it under way.
    seeder = share(processes, other, "--upload-limit", "1MB/s")
    fetched = processes.swarm("fetch", "--daemon", seeder.written, "--output", "into", "--json", name=NAME)
    fetched.expect_exit(0)
    assert fetched.event("path_fetched")["path"] == "into/other.bin"
    phases = [(each["phase"], each["done"]) for each in fetched.events("transfer_progress")]
    assert ("fetching", 0) <= phases[0] < ("seeding", 0)
    assert sha256(processes.work(NAME) / "into" / "other.bin") == sha256(other)
    # It is there already; a person sees what a fetch without a daemon prints.
    there = command(processes, "fetch", "--daemon", seeder.link, "--output", "into")
    assert there.lines() == ["into/other.bin"]
    assert re.search(r"^other.bin was here already, \S+: nothing was fetched$", there.errors(), re.MULTILINE)
    # Somebody who interrupts the command leaves the daemon to it.
    unknown = SwarmLink.parse(seeder.link.replace("other.bin", "x"))
    lost = str(SwarmLink(type(unknown.id).parse(manifest), unknown.peers)).replace("r4i", "r4i", 1)
    command(processes, "remove", "data.bin")
    waiting = processes.swarm("fetch", "--daemon", lost, "--patience", "0.5", name=NAME)
    assert waiting.wait() in {4, 5}
    assert "the daemon goes on" in waiting.errors()
    assert len(daemon.transfers()) == 2

    top = command(processes, "top", "--once")
    assert top.lines()[0].startswith("2 transfers, down ")
    assert top.lines()[1].split()[0] == "NAME"
    assert top.lines()[2].split()[-1] in {each["id"][:8] for each in daemon.transfers()}
    assert command(processes, "top", "other.bin").lines()[-1].split()[0] in {
        "PEER",
        "no",
        f"…{seeder.peer[-8:]}",
    }
    listed = command(processes, "top", "--once", "--json").events("transfer_listed")
    assert {each["name"] for each in listed} >= {"other.bin"}


def test_what_cannot_be_handed_to_the_daemon_is_told(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data.bin", 1000)
    daemon = start_daemon(processes)
    for arguments, told in (
        (("share", data, *LOOPBACK), "--listen cannot be passed to the daemon"),
        (("share", data, "--rehash"), "--rehash cannot be passed"),
        (("share", "-"), "stdin"),
        (("fetch", data, "--output", "-"), "--output - cannot be passed"),
        (("fetch", "swarm:x", "--announce", "/ip4/192.0.2.1/tcp/1"), "--announce cannot be passed"),
    ):  # fmt: skip
        failed = command(processes, *arguments, "--daemon", code=2)
        assert told in failed.errors()
    command(processes, "fetch", "--daemon", "swarm:nonsense", code=3)
    command(processes, "fetch", "--daemon", "swarm:series/x/y", code=3)
    updated = command(processes, "fetch", "--daemon", "--update", data, code=2)
    assert "--update is for its link" in updated.errors()
    # Nothing is fetched whose manifest could not be written where it should be, or would be replaced.
    mine = processes.work(NAME) / "mine"
    mine.write_text("mine")
    seeder = share(processes, data)
    for contents, saved, told in (
        ((seeder.link,), mine, "choose another name for the manifest"),
        ((seeder.link, "swarm:x"), "one.swarm", "is for one MANIFEST"),
    ):
        failed = command(processes, "fetch", "--daemon", *contents, f"--save-manifest={saved}", code=2)
        assert told in failed.errors()
    assert daemon.transfers() == []


def test_a_share_of_an_empty_file_ends_with_its_link(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    start_daemon(processes)
    shared = command(processes, "share", tmp_path / "empty", "--daemon")
    link = shared.lines()[2]
    fetch(processes, link, tmp_path / "into").expect_exit(0)
    assert (tmp_path / "into" / "empty").read_bytes() == b""


def test_a_share_that_was_seeded_enough_is_told_and_not_taken_for_one(
    processes: Processes, tmp_path: Path
) -> None:
    data = random_file(tmp_path / "data.bin", 1000)
    daemon = start_daemon(processes)
    command(processes, "share", data, "--daemon", "--for", "1s")
    daemon.until("data.bin", lambda each: each["state"] == "finished")
    for _ in range(2):
        failed = command(processes, "share", data, "--daemon", code=5)
        assert "1s are over): swarm resume seeds it again" in failed.errors()
        assert failed.lines() == []
        daemon = again(processes, daemon)
        daemon.until("data.bin", lambda each: each["state"] == "finished")
    command(processes, "limit", "data.bin", "--for", "none")
    command(processes, "resume", "data.bin")
    assert command(processes, "share", data, "--daemon").lines()[0] == "data.bin.swarm"
    command(processes, "pause", "data.bin")
    paused = command(processes, "share", data, "--daemon", code=5)
    assert "paused: swarm resume" in paused.errors()


def test_a_path_whose_manifest_is_in_the_way_does_not_stop_the_others(
    processes: Processes, tmp_path: Path
) -> None:
    paths = [random_file(tmp_path / name, 1000, seed=ord(name)) for name in "abc"]
    daemon = start_daemon(processes)
    own = processes.work(NAME) / "a.swarm"
    own.write_text("mine\n")
    shared = command(processes, "share", "--daemon", *paths, code=2)
    assert shared.lines()[0] == "b.swarm"
    assert shared.lines()[3] == "c.swarm"
    assert f"{paths[0]}: a.swarm" in shared.errors()
    assert {each["name"] for each in daemon.transfers()} == {"b", "c"}
    assert own.read_text() == "mine\n"


@pytest.mark.parametrize("known", [False, True], ids=["new", "shared before"])
def test_the_manifest_that_the_command_writes_is_not_shared(
    processes: Processes, tmp_path: Path, known: bool
) -> None:
    folder = tmp_path / "photos"
    random_file(folder / "one.jpg", 1000)
    daemon = start_daemon(processes)
    if known:
        command(processes, "add", ".", cwd=folder)
    shared = command(processes, "share", ".", "--daemon", cwd=folder)
    assert sorted(each.name for each in folder.iterdir()) == ["one.jpg", "photos.swarm"]
    # What is there at the next start is looked at anew.
    daemon = again(processes, daemon)
    seeded = daemon.until("photos", lambda each: each["state"] == "seeding")
    assert seeded["manifest"] == shared.lines()[1]
    fetch(processes, shared.lines()[2], tmp_path / "into").expect_exit(0)
    assert [each.name for each in (tmp_path / "into" / "photos").iterdir()] == ["one.jpg"]


def test_a_link_is_shared_under_its_own_name(processes: Processes, tmp_path: Path) -> None:
    random_file(tmp_path / "build-1.2" / "program", 1000)
    (tmp_path / "current").symlink_to("build-1.2")
    daemon = start_daemon(processes)
    alone = processes.swarm("share", *LOOPBACK, "current", cwd=tmp_path)
    alone.address()
    shared = command(processes, "share", "--daemon", "current", cwd=tmp_path)
    assert shared.lines()[:2] == alone.lines()[:2]
    assert SwarmLink.parse(shared.lines()[2]).name == "current"
    # The folder itself is another share, and the link is still the same one.
    command(processes, "share", "--daemon", "build-1.2", cwd=tmp_path)
    daemon = again(processes, daemon)
    command(processes, "share", "--daemon", "current", cwd=tmp_path)
    assert sorted(each["name"] for each in daemon.transfers()) == ["build-1.2", "current"]


def test_a_link_that_leads_to_itself_is_told_and_ends_nothing(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data.bin", 1000)
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    daemon = start_daemon(processes, "--watch", str(loop), "--output", str(loop))
    daemon.process.line(r"loop is not watched: ", stderr=True)
    answer = daemon.ask("POST", "/v1/transfers", {"path": str(loop)})
    assert (answer.status, answer.json()["error"]["exit_code"]) == (400, 2)
    seeder = share(processes, data)
    for arguments in (("--daemon",), ("--seed", *LOOPBACK)):
        failed = command(processes, "fetch", seeder.link, *arguments, "--output", loop, code=7)
        assert "unexpected" not in failed.errors()
        assert f"{loop}: " in failed.errors()
    # The manifest takes the place of the link, as it does without a daemon.
    command(processes, "share", "--daemon", data, "--manifest", loop)
    assert not loop.is_symlink()


# --- Rules --------------------------------------------------------------------------------------------


def test_seeding_ends_by_a_rule_and_begins_anew(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data.bin", MIB)
    other = random_file(tmp_path / "other.bin", MIB, seed=8)
    daemon = start_daemon(processes)
    command(processes, "limit", "--ratio", "2", "--copies", "9")
    link = command(processes, "add", data).lines()[1]
    command(processes, "add", other, "--ratio", "none", "--for", "1s")
    ended = daemon.until("other.bin", lambda each: each["state"] == "finished")
    assert ended["finished"] == "1s are over"
    fetch(processes, link, tmp_path / "one").expect_exit(0)
    assert daemon.until("data.bin", lambda each: each["sent"] == MIB)["state"] == "seeding"
    command(processes, "limit", "data.bin", "--copies", "1")
    assert "1 peer has" in daemon.until("data.bin", lambda each: each["state"] == "finished")["finished"]
    # An end lasts, and resume counts anew.
    daemon = again(processes, daemon)
    assert daemon.until("data.bin", lambda each: each["state"] == "finished")
    command(processes, "limit", "data.bin", "--copies", "default")
    command(processes, "resume", "data.bin")
    daemon.until("data.bin", lambda each: each["state"] == "seeding")
    for folder in ("two", "three"):
        fetch(processes, link, tmp_path / folder).expect_exit(0)
    ended = daemon.until("data.bin", lambda each: each["state"] == "finished")
    assert ended["finished"] == "2 times its size was sent"
    assert "default" in command(processes, "limit", "--ratio", "often", code=2).errors()


def test_a_schedule_holds_at_once_and_lasts(processes: Processes) -> None:
    daemon = start_daemon(processes)
    changed = command(processes, "limit", "--upload-limit", "1MB/s", "--schedule", "daily up 3MB/s", "--json")
    assert changed.event("limits_changed")["schedule"] == ["daily up 3MB/s"]

    def now() -> tuple[Any, ...]:
        node = daemon.ask("GET", "/v1/status").json()["node"]
        return node["upload_limit"], node["upload_limit_now"], node["download_limit_now"]

    assert now() == (1_000_000, 3_000_000, None)
    daemon = again(processes, daemon)
    assert now() == (1_000_000, 3_000_000, None)
    assert "write it like" in command(processes, "limit", "--schedule", "sometimes", code=2).errors()
    assert "leave the ID out" in command(processes, "limit", "x", "--schedule", "up 1MB/s", code=2).errors()
    assert command(processes, "limit").lines() == [
        "upload limit: 976.6KiB/s (at this time 2.9MiB/s)",
        "download limit: none",
        "schedule: daily up 3MB/s",
        "seeding ends: never",
    ]
    command(processes, "limit", "--schedule", "none")
    assert now() == (1_000_000, 1_000_000, None)


def test_a_watched_folder_is_shared_once_and_a_completion_runs_a_command(
    processes: Processes, tmp_path: Path
) -> None:
    watched = tmp_path / "watched"
    random_file(watched / "folder" / "inner.bin", MIB)
    (watched / "left.part").write_bytes(b"x")
    (watched / "link").symlink_to("/etc/hostname")
    hook = tmp_path / "hook.py"
    hook.write_text(
        "import json, os, sys\n"
        "about = {name: value for name, value in os.environ.items() if name.startswith('SWARM_')}\n"
        f"open({str(tmp_path / 'told')!r}, 'a').write(json.dumps([sys.argv[1:], about]) + '\\n')\n"
    )
    options = ("--watch", str(watched), "--on-complete", f"{sys.executable} {hook} '$(x) ;'")
    daemon = start_daemon(processes, *options)
    writing = watched / "writing.bin"
    began = time.monotonic()
    with writing.open("wb") as file:
        # A file that grows is left alone.
        while time.monotonic() - began < 6:
            file.write(b"x" * 1000)
            file.flush()
            time.sleep(0.2)
            assert all(each["name"] == "folder" for each in daemon.transfers())
    daemon.until("writing.bin", lambda each: each["state"] == "seeding")
    assert {each["name"] for each in daemon.transfers()} == {"folder", "writing.bin"}
    command(processes, "remove", "folder")
    seeder = share(processes, random_file(tmp_path / "it's $(x).bin", MIB, seed=9))
    command(processes, "fetch", "--daemon", seeder.link, "--output", tmp_path / "into")
    before = daemon.until("writing.bin", lambda each: True)["manifest"]
    told = tmp_path / "told"
    deadline = time.monotonic() + 30
    while not (told.exists() and told.read_text().endswith("\n")):
        assert time.monotonic() < deadline, "the command on completion did not run"
        time.sleep(0.05)
    daemon = again(processes, daemon, *options)
    writing.write_bytes(b"other")
    assert daemon.until("writing.bin", lambda each: each["manifest"] != before and each["state"] == "seeding")
    # What was removed stays away, nothing is there twice, and what is complete is told once.
    assert {each["name"] for each in daemon.transfers()} == {"it's $(x).bin", "writing.bin"}
    ((arguments, about),) = [json.loads(line) for line in told.read_text().splitlines()]
    assert arguments == ["$(x) ;"]
    assert about["SWARM_PATH"] == str(tmp_path / "into" / "it's $(x).bin")
    assert (about["SWARM_NAME"], about["SWARM_SIZE"]) == ("it's $(x).bin", str(MIB))
    processes.swarm("daemon", "--on-complete", "no-such-program", name="none").expect_exit(2)


def test_origins_of_a_daemon_have_public_addresses(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "www" / "data.bin", MIB)
    server = Nginx(processes, tmp_path / "www")
    seeder = share(processes, data)
    (tmp_path / "www" / "data.bin.swarm").write_bytes(seeder.manifest.read_bytes())
    seeder.process.stop()
    link = SwarmLink.parse(seeder.link)
    bare = str(SwarmLink(link.id, name=link.name, origins=(OriginUrl(server.url),)))
    daemon = start_daemon(processes)
    # Whoever gets a link into the page must not reach what only this machine reaches.
    refused = command(processes, "fetch", "--daemon", bare, "--output", "into", "--patience", "2", code=4)
    assert "the daemon goes on" in refused.errors()
    assert server.served() == []
    daemon = again(processes, daemon, "--private-origins")
    # What is kept of it is tried again, with its web server.
    daemon.until("data.bin", lambda each: each["complete"])
    assert sha256(processes.work(NAME) / "into" / "data.bin") == sha256(data)
    assert SwarmLink.parse(daemon.transfers()[0]["link"]).origins == (OriginUrl(server.url),)
    daemon = again(processes, daemon)
    assert daemon.until("data.bin", lambda each: each["state"] == "seeding")["hashed"] == 0
