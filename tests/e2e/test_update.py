"""Updates with the real commands: a new version in the place of an old one, and the files of the user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.processes import Processes, Running
from tests.support.sharing import LOOPBACK, MIB, random_file, sha256, share, tree

pytestmark = pytest.mark.e2e


def first_version(folder: Path) -> Path:
    random_file(folder / "data" / "levels.pak", 3 * MIB + 17, 1)
    random_file(folder / "lib-1.0" / "engine.so", MIB, 2)
    random_file(folder / "old.txt", 2000, 3)
    (folder / "settings.ini").write_text("volume = 3\n")
    return folder


def second_version(folder: Path) -> Path:
    random_file(folder / "data" / "levels.pak", 3 * MIB + 17, 1)
    with (folder / "data" / "levels.pak").open("r+b") as file:
        file.seek(MIB)
        file.write(b"changed")
    random_file(folder / "lib-1.1" / "engine.so", MIB, 2)
    random_file(folder / "more" / "new.txt", 3000, 4)
    (folder / "settings.ini").write_text("volume = 5\nquality = high\n")
    return folder


def update(processes: Processes, link: str, out: Path, *more: str) -> Running:
    arguments = ("fetch", link, "--name", "game", "--output", str(out), "--update", "--json", "--no-lan")
    running = processes.swarm(*arguments, *LOOPBACK, *more, name="player")
    running.expect_exit(0)
    return running


def test_an_update_takes_what_is_here_and_keeps_what_is_the_user_s(
    processes: Processes, tmp_path: Path
) -> None:
    first = share(processes, first_version(tmp_path / "game-1.0"), "--piece-size", "64KiB", name="first")
    out = tmp_path / "games"
    game = out / "game"
    fetched = update(processes, first.link, out)
    (complete,) = fetched.events("transfer_complete")
    assert complete["bytes_received"] == complete["size"]
    assert (complete["bytes_reused"], complete["bytes_patched"]) == (0, 0)
    assert tree(game) == tree(tmp_path / "game-1.0")
    # The old version is shared from where it is installed, too.
    installed = share(processes, game, name="installed")
    (game / "settings.ini").write_text("volume = 11\n")
    (game / "saves").mkdir()
    (game / "saves" / "1.sav").write_bytes(b"saved")
    (game / "old.txt").unlink()
    second = share(processes, second_version(tmp_path / "game-1.1"), "--piece-size", "64KiB", name="second")

    updated = update(processes, second.link, out)
    assert tree(game) == tree(tmp_path / "game-1.1") | {
        "settings.ini.swarm-kept": (sha256(game / "settings.ini.swarm-kept"), False),
        "saves/1.sav": (sha256(game / "saves" / "1.sav"), False),
    }
    assert (game / "settings.ini.swarm-kept").read_text() == "volume = 11\n"
    assert {path.name for path in out.iterdir()} == {"game"}
    (complete,) = updated.events("transfer_complete")
    new = 65536 + (game / "more" / "new.txt").stat().st_size + (game / "settings.ini").stat().st_size
    assert complete["bytes_received"] == new, "one changed piece, and two files"
    assert complete["bytes_reused"] == complete["size"] - new
    (kept,) = updated.events("files_kept")
    assert (kept["count"], sorted(kept["files"])) == (2, ["saves/1.sav", "settings.ini.swarm-kept"])
    (warned,) = [event for event in updated.events("warned") if "kept 2 files" in event["message"]]
    assert "settings.ini.swarm-kept" in warned["message"]
    # The old version was shared from there: it is withdrawn where it changed, and nothing wrong is served.
    late = processes.swarm("fetch", installed.link, "--patience", "2", "--no-lan", *LOOPBACK)
    late.expect_exit(5)
    installed.process.line(r"withdrawn until that is right again", stderr=True)
    assert "does not match its hash" not in late.errors()

    again = update(processes, second.link, out)
    (complete,) = again.events("transfer_complete")
    assert (complete["bytes_received"], complete["bytes_reused"]) == (0, 0)
    assert again.events("files_kept") == []


def test_what_is_reused_is_served_to_others_at_once(processes: Processes, tmp_path: Path) -> None:
    old, new = first_version(tmp_path / "game-1.0"), second_version(tmp_path / "game-1.1")
    publisher = share(processes, new, "--piece-size", "64KiB", "--upload-limit", "64KiB", name="publisher")
    out = tmp_path / "games"
    out.mkdir()
    os.rename(old, out / "game")
    updating = processes.swarm(
        "fetch", publisher.link, "--name", "game", "--output", str(out), "--update", "--seed", "--json",
        "--no-lan", *LOOPBACK, name="updating",
    )  # fmt: skip
    updating.event("pieces_reused")
    address = updating.event("node_listening")["addresses"][0]
    # A cold peer that knows nobody but the one that is updating.
    cold = processes.swarm(
        "fetch", publisher.link.partition("?")[0], address, "--output", str(tmp_path / "got"), "--json",
        "--no-lan", *LOOPBACK, name="cold",
    )  # fmt: skip
    cold.expect_exit(0)
    (path,) = (tmp_path / "got").iterdir()
    assert tree(path) == tree(new)
    updating.event("transfer_complete")
    assert tree(out / "game") == tree(new) | {
        name: found for name, found in tree(out / "game").items() if name.endswith(".swarm-kept") or
        name in {"old.txt", "lib-1.0/engine.so"}
    }  # fmt: skip


def test_a_base_under_another_name_is_enough(processes: Processes, tmp_path: Path) -> None:
    old, new = first_version(tmp_path / "anything"), second_version(tmp_path / "game-1.1")
    seeder = share(processes, new, "--piece-size", "64KiB")
    fetch = processes.swarm(
        "fetch", seeder.link, "--base", str(old), "--output", str(tmp_path / "out"), "--json", *LOOPBACK
    )
    fetch.expect_exit(0)
    assert tree(tmp_path / "out" / "game-1.1") == tree(new)
    (complete,) = fetch.events("transfer_complete")
    changed = 65536 + (new / "more" / "new.txt").stat().st_size + (new / "settings.ini").stat().st_size
    assert (complete["bytes_received"], complete["bytes_reused"]) == (changed, complete["size"] - changed)
    (joined,) = fetch.events("source_joined")
    assert joined["source"] == f"base:{old}"
    assert tree(old) == tree(first_version(tmp_path / "untouched"))
