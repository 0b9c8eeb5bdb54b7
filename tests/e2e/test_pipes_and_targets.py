"""Pipes, and targets whose place is taken, gone or changed by others, with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swarm.content.envelope import Envelope
from tests.support.processes import Processes, Running
from tests.support.sharing import LOOPBACK, MIB, fetch, random_file, share, tree

pytestmark = pytest.mark.e2e


def piped(processes: Processes, command: str, *, name: str, tmp_path: Path) -> Running:
    """Run a pipeline in which $SWARM is the program; temporary folders lie in ``tmp_path``."""
    environment = {"SWARM": f"{sys.executable} -m swarm", "TMPDIR": str(tmp_path)}
    return processes.command(["bash", "-c", f"set -o pipefail; {command}"], name=name, env=environment)


def test_what_comes_on_stdin_goes_to_stdout(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data", 3 * MIB + 5)
    spool = tmp_path / "spool"
    spool.mkdir()
    listen = " ".join(LOOPBACK)
    # exec: a signal to the shell is one to the program.
    command = f"exec $SWARM share - --name 'a b.bin' {listen} < <(cat {data})"
    sender = piped(processes, command, name="sender", tmp_path=spool)
    link = sender.line(r"swarm:\S+").group(0)
    assert "name=a%20b.bin" in link
    assert [path.read_bytes() for path in spool.rglob("a b.bin")] == [data.read_bytes()]

    out = tmp_path / "out.bin"
    receiver = piped(
        processes, f"$SWARM fetch '{link}' --output - {listen} > {out}", name="receiver", tmp_path=spool
    )
    receiver.expect_exit(0)
    assert out.read_bytes() == data.read_bytes()
    assert len(list(spool.iterdir())) == 1

    reader = piped(
        processes,
        f"$SWARM fetch '{link}' -o - {listen} | head -c 100000 | cmp - <(head -c 100000 {data})",
        name="gone",
        tmp_path=spool,
    )
    reader.expect_exit(141)
    assert "swarm: " not in reader.errors()
    assert len(list(spool.iterdir())) == 1

    sender.terminate()
    sender.expect_exit(143)
    assert list(spool.iterdir()) == []


def test_a_reader_that_does_not_read_does_not_hold_up_a_signal(processes: Processes, tmp_path: Path) -> None:
    seeder = share(processes, random_file(tmp_path / "data", 3 * MIB))
    environment = {**os.environ, "SWARM_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}
    argv = [sys.executable, "-m", "swarm", "fetch", seeder.link, "-o", "-", *LOOPBACK]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as stalled:
        assert stalled.stdout is not None
        assert len(stalled.stdout.read(1)) == 1
        stalled.terminate()
        assert stalled.wait(20) == 143
    assert not list(tmp_path.glob("swarm-*"))


@pytest.mark.parametrize("begun", [False, True], ids=["before the first byte", "while nothing comes"])
def test_a_reader_that_goes_away_is_noticed_though_there_is_nothing_to_write(
    processes: Processes, tmp_path: Path, begun: bool
) -> None:
    seeder = share(processes, random_file(tmp_path / "data", 3 * MIB), "--upload-limit", "200KiB/s")
    if not begun:
        seeder.process.stop()
    environment = {**os.environ, "SWARM_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}
    argv = [sys.executable, "-m", "swarm", "fetch", seeder.link, "-o", "-", *LOOPBACK]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as waiting:
        assert waiting.stdout is not None
        assert waiting.stderr is not None
        if begun:
            assert len(waiting.stdout.read(1)) == 1
            seeder.process.pause()
        else:
            assert b"waiting up to" in waiting.stderr.readline()
        waiting.stdout.close()
        assert waiting.wait(30) == 141
        assert b"swarm: " not in waiting.stderr.read()
    assert not list(tmp_path.glob("swarm-*"))


def test_what_goes_to_stdout_is_seeded_as_long_as_was_said_and_its_manifest_is_saved(
    processes: Processes, tmp_path: Path
) -> None:
    data = random_file(tmp_path / "data", MIB)
    seeder = share(processes, data)
    out = tmp_path / "out"
    seeding = ("--seed", "--for", "1s", "--save-manifest=x.swarm")
    done = processes.swarm("fetch", seeder.link, "-o", "-", *seeding, *LOOPBACK, stdout=out)
    done.expect_exit(0)
    assert out.read_bytes() == data.read_bytes()
    assert Envelope.from_bytes((done.cwd / "x.swarm").read_bytes()).manifest.name == "data"
    # What cannot be written is known before anything is fetched.
    (done.cwd / "x.swarm").write_text("mine\n")
    taken = processes.swarm(
        "fetch", seeder.link, "-o", "-", *seeding, *LOOPBACK, stdout=tmp_path / "no", cwd=done.cwd
    )
    taken.expect_exit(2)
    assert (tmp_path / "no").read_bytes() == b""


def test_an_interrupted_fetch_to_stdout_does_not_say_that_it_is_resumed(
    processes: Processes, tmp_path: Path
) -> None:
    seeder = share(processes, random_file(tmp_path / "data", 3 * MIB), "--upload-limit", "200KiB/s")
    begun = processes.swarm("fetch", seeder.link, "-o", "-", *LOOPBACK, stdout=tmp_path / "out")
    begun.line("^fetching data: ", stderr=True)
    begun.interrupt()
    begun.expect_exit(130)
    assert "resumes" not in begun.errors()


def test_a_fetch_to_stdout_whose_peers_are_gone_does_not_say_that_it_keeps_anything(
    processes: Processes, tmp_path: Path
) -> None:
    seeder = share(processes, random_file(tmp_path / "data", 3 * MIB), "--upload-limit", "200KiB/s")
    out = tmp_path / "out"
    begun = processes.swarm("fetch", seeder.link, "-o", "-", "--patience", "2", *LOOPBACK, stdout=out)
    while not out.stat().st_size:
        time.sleep(0.02)
    seeder.process.terminate()
    begun.expect_exit(5, within=30)
    told = begun.errors().splitlines()[-1]
    assert told.startswith("swarm: all peers are gone")
    assert told.endswith("; nothing is kept, run the same command to begin anew")


def test_only_one_content_of_one_file_goes_to_stdout(processes: Processes, tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b/c")):
        random_file(tmp_path / "shared" / "x" / name, 20_000, seed=number)
    seeder = share(processes, tmp_path / "shared" / "x")
    wrong = processes.swarm("fetch", seeder.link, "-o", "-", *LOOPBACK)
    wrong.expect_exit(2)
    assert wrong.errors().splitlines()[-1] == (
        "swarm: only one file can be written to stdout, but there are 2: choose one with --only"
    )
    out = tmp_path / "out"
    one = processes.swarm("fetch", seeder.link, "-o", "-", "--only", "x/b/c", *LOOPBACK, stdout=out)
    one.expect_exit(0)
    assert out.read_bytes() == (tmp_path / "shared" / "x" / "b/c").read_bytes()
    for options in (("--json",), (seeder.manifest,)):
        both = processes.swarm("fetch", seeder.link, "-o", "-", *options)
        both.expect_exit(2)


def test_an_older_version_is_replaced_and_only_what_differs_is_fetched(
    processes: Processes, tmp_path: Path
) -> None:
    root = tmp_path / "shared" / "x"
    data = random_file(root / "image", 2 * MIB).read_bytes()
    random_file(root / "b/small", 100, seed=2)
    seeder = share(processes, root, "--piece-size", "64KiB")
    out = tmp_path / "out"
    (out / "x").mkdir(parents=True)
    (out / "x" / "image").write_bytes(data[: MIB + 1000])
    refused = fetch(processes, seeder.link, out)
    refused.expect_exit(7)
    assert "image: already exists with other content; --overwrite replaces it" in refused.errors()
    assert not refused.events("piece_stored")
    done = fetch(processes, seeder.link, out, "--overwrite")
    done.expect_exit(0)
    assert tree(out / "x") == tree(root)
    assert sum(event["size"] for event in done.events("piece_stored")) == MIB + 100
    named = processes.swarm("fetch", seeder.link, "-o", out, "--name", "other", *LOOPBACK)
    named.expect_exit(0)
    assert named.lines() == [str(out / "other")]
    assert {path.name for path in out.iterdir()} == {"x", "other"}


def test_checking_what_is_there_comes_to_its_end(processes: Processes, tmp_path: Path) -> None:
    """With two of three files in place or partial, "hashing" once stayed at 33.3 % for the whole fetch."""
    root = tmp_path / "shared" / "x"
    for number in range(3):
        random_file(root / f"{number}", MIB, seed=number)
    seeder = share(processes, root, "--piece-size", "64KiB")
    out = tmp_path / "out"
    fetch(processes, seeder.link, out, "--only", "0").expect_exit(0)
    done = fetch(processes, seeder.link, out, "--only", "0", "--only", "1")
    done.expect_exit(0)
    hashed = done.events("hashing_progress")
    assert hashed
    last_before_fetching = [event for event in hashed if event["done"] == event["total"]]
    assert hashed[-1] in last_before_fetching


def test_what_others_do_to_a_partial_file_is_fetched_again(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data", 3 * MIB)
    seeder = share(processes, data, "--piece-size", "64KiB")
    out = tmp_path / "out"
    slow = fetch(processes, seeder.link, out, "--download-limit", "1MiB/s")
    slow.events_until("piece_stored", 8)
    stored = slow.events("piece_stored")[0]["piece"]
    with (out / "data.swarm-part").open("r+b") as file:
        file.seek(stored * 65536 + 5)
        file.write(b"another program was here")
    slow.expect_exit(0)
    assert (out / "data").read_bytes() == data.read_bytes()
    (withdrawn,) = slow.events("content_withdrawn")
    assert withdrawn["pieces"] == 1
    assert slow.events("piece_stored")[-1]["piece"] == stored
    assert len(slow.events("piece_stored")) == 49


def test_a_vanished_journal_and_a_moved_folder_cost_nothing(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data", 2 * MIB)
    seeder = share(processes, data, "--piece-size", "64KiB")
    out = tmp_path / "out"
    slow = fetch(processes, seeder.link, out, "--download-limit", "1MiB/s")
    slow.events_until("piece_stored", 8)
    (out / "data.swarm-journal").unlink()
    out.rename(tmp_path / "elsewhere")
    slow.expect_exit(0)
    assert slow.event("path_fetched")["path"] == str(tmp_path / "elsewhere" / "data")
    assert (tmp_path / "elsewhere" / "data").read_bytes() == data.read_bytes()
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {"data"}


@pytest.mark.parametrize("place", ["nowhere/x.swarm", "file/x.swarm", "folder", "n" * 256])
def test_a_manifest_that_cannot_be_written_is_known_before_hashing(
    processes: Processes, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    late = processes.swarm("share", tmp_path / "large", "--manifest", tmp_path / place, *LOOPBACK, "--json")
    assert late.wait(20) in {2, 7}
    assert not late.events("hashing_progress")
    assert len(late.errors().splitlines()) == 1


def test_paths_whose_name_is_not_written_in_them(processes: Processes, tmp_path: Path) -> None:
    random_file(tmp_path / "photos" / "sub" / "a", 100)
    above = processes.swarm("share", "..", *LOOPBACK, cwd=tmp_path / "photos" / "sub")
    above.address()
    assert above.lines()[0] == "photos.swarm"
    root = processes.swarm("share", "/", *LOOPBACK)
    root.expect_exit(2)
    assert "/ has no name that others could get: choose one with --name" in root.errors()


NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"}
"""What a Latin-1 locale does to Python, without one having to be installed."""


def test_names_are_utf8_in_any_locale(processes: Processes, tmp_path: Path) -> None:
    folder = tmp_path / "ü 日本"
    random_file(folder / "é" / "☃", 40_000)
    sender = processes.swarm("share", folder, *LOOPBACK, env=NO_UTF8)
    link = sender.line(r"swarm:\S+").group(0)
    assert "name=%C3%BC%20%E6%97%A5%E6%9C%AC" in link
    # What the locale cannot show is escaped; the ü is one byte, which this test reads as broken UTF-8.
    assert sender.lines()[0] == "\ufffd \\u65e5\\u672c.swarm"
    receiver = processes.swarm("fetch", link, "-o", tmp_path / "out", "--only", "☃", *LOOPBACK, env=NO_UTF8)
    receiver.expect_exit(0)
    assert tree(tmp_path / "out" / "ü 日本") == tree(folder)


def test_without_a_home_there_is_one_line_that_says_what_to_set(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    lost = processes.swarm("id", env={"SWARM_HOME": "~nobody-of-this-name/x"})
    lost.expect_exit(2)
    assert (
        lost.errors() == "swarm: this user has no home folder: set SWARM_HOME to a folder for keys and ports"
    )
    refused = processes.swarm("id", env={"SWARM_HOME": str(tmp_path / "file" / "x")})
    refused.expect_exit(7)
    assert refused.errors().count("\n") == 0
    assert "SWARM_HOME names another place" in refused.errors()
    home = processes.swarm("id", env={"SWARM_HOME": "~/state", "HOME": str(tmp_path)})
    home.expect_exit(0)
    assert (tmp_path / "state" / "identity").is_file()


def test_a_manifest_of_other_content_is_not_replaced_without_a_word(
    processes: Processes, tmp_path: Path
) -> None:
    for number, folder in enumerate("ab"):
        random_file(tmp_path / folder / "photos" / "1", 100, seed=number)
    first = share(processes, tmp_path / "a" / "photos", name="first")
    again = share(processes, tmp_path / "a" / "photos", name="first")
    assert "replaced" not in again.process.errors()
    second = share(processes, tmp_path / "b" / "photos", name="first")
    old = first.link.removeprefix("swarm:").partition("?")[0]
    replaced = rf"photos\.swarm was the manifest of other content \({old}\) and is replaced"
    second.process.line(replaced, stderr=True)
