"""Releases with real processes: published, fetched, updated by patch, passed on, followed."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

import swarm
from swarm.content.release import ReleaseRecord, series_of, sign_release
from swarm.content.series_link import SeriesLink
from swarm.ids import ManifestId
from tests.support.nodes import loopback_node
from tests.support.processes import Processes, Running
from tests.support.requirements import MAY_INSTALL
from tests.support.web_servers import Nginx

pytestmark = MAY_INSTALL
LISTEN = ("--listen", "/ip4/127.0.0.1/tcp/0")
SIZE = 6_000_000


def write_versions(folder: Path) -> tuple[Path, Path]:
    """Two versions of a folder: in the new one a large file has a few bytes more near its beginning."""
    big = random.Random(7).randbytes(SIZE)
    versions = folder / "1.0", folder / "1.1"
    for version in versions:
        version.mkdir(parents=True)
        (version / "same.bin").write_bytes(big[: SIZE // 4][::-1])
    (versions[0] / "big.bin").write_bytes(big)
    (versions[0] / "gone.txt").write_text("only in the old one")
    (versions[1] / "big.bin").write_bytes(big[:1000] + b"a few bytes more" + big[1000:])
    (versions[1] / "new.txt").write_text("only in the new one")
    return versions


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path]:
    return write_versions(tmp_path / "builds")


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def release(processes: Processes, version: Path, *arguments: str | Path) -> tuple[Running, str, str]:
    """Publish; returns the process, the link of the series and that of the content."""
    publisher = processes.swarm("release", "game", version, *LISTEN, *arguments, name="publisher")
    series = publisher.line(r"^swarm:series/.*/game\?peer=.*$")[0]
    link = publisher.line(r"^swarm:bafy.*$")[0]
    publisher.address()
    return publisher, series, link


def fetch(processes: Processes, what: str, *arguments: str | Path, name: str = "receiver") -> Running:
    return processes.swarm("fetch", what, "-o", "out", *LISTEN, *arguments, name=name)


def completed(running: Running) -> dict[str, Any]:
    running.expect_exit(0)
    return running.events("transfer_complete")[-1]


def test_a_release_is_fetched_updated_by_patch_and_passed_on_when_the_publisher_is_dead(
    processes: Processes, versions: tuple[Path, Path]
) -> None:
    publisher, series, _ = release(processes, versions[0])
    first = completed(fetch(processes, series, "--json"))
    assert first["bytes_received"] == first["size"]
    publisher.kill()
    publisher.wait()
    publisher, again, link = release(processes, versions[1], "--previous", versions[0])
    # The link of the series is good for ever: the same key, name, peer and port.
    assert again == series
    updating = fetch(processes, series, "--update", "--seed", "--json")
    update = updating.event("transfer_complete")
    (planned,) = updating.events("update_planned")
    assert (planned["way"], planned["reason"]) == ("patch", "")
    assert planned["patch_size"] <= update["bytes_received"] < 50_000
    assert update["bytes_patched"] > SIZE - 200_000
    assert update["bytes_received"] + update["bytes_reused"] + update["bytes_patched"] >= SIZE
    installed = processes.work("receiver") / "out" / "game"
    assert content_of(installed) == content_of(versions[1])
    # Somebody who has nothing gets it from the one who has updated.
    publisher.kill()
    publisher.wait()
    address = updating.event("node_listening")["addresses"][0]
    cold = completed(fetch(processes, link.partition("?")[0], address, "--json", name="cold"))
    assert cold["bytes_received"] == cold["size"]
    assert content_of(processes.work("cold") / "out" / "game") == content_of(versions[1])
    # And the record of the series.
    named = f"{series.partition('?')[0]}?peer={address}"
    newcomer = fetch(processes, named, "--json", name="newcomer")
    assert newcomer.event("release_found")["sequence"] == 2
    completed(newcomer)
    updating.terminate()
    updating.expect_exit(143)
    assert not list((processes.home("receiver") / "patches").iterdir())


def test_the_same_content_is_the_same_release_and_nothing_is_made_twice(
    processes: Processes, versions: tuple[Path, Path]
) -> None:
    for version in versions:
        publisher, _, _ = release(processes, version)
        publisher.terminate()
        publisher.expect_exit(143)
    # The old version is gone: its patch is still offered.
    shutil.rmtree(versions[0])
    publisher = processes.swarm("release", "game", versions[1], *LISTEN, "--json", name="publisher")
    published = publisher.event("release_published")
    assert (published["sequence"], published["patches"], published["new"]) == (2, 1, False)
    assert not publisher.events("patch_progress")


def test_who_follows_is_updated_and_ends_after_one_update(
    processes: Processes, versions: tuple[Path, Path]
) -> None:
    publisher, series, _ = release(processes, versions[0])
    completed(fetch(processes, series, "--json"))
    following = processes.swarm("follow", series, "-o", "out", "--once", *LISTEN, "--json", name="receiver")
    # What is installed is the newest: it waits, also while the publisher is away.
    following.event("fetched_seeded")
    publisher.kill()
    publisher.wait()
    release(processes, versions[1])
    update = completed(following)
    assert update["bytes_received"] < 50_000
    assert content_of(processes.work("receiver") / "out" / "game") == content_of(versions[1])


def test_a_patch_that_cannot_be_had_is_replaced_by_pieces_with_one_line(
    processes: Processes, versions: tuple[Path, Path]
) -> None:
    publisher, series, _ = release(processes, versions[0])
    completed(fetch(processes, series, "--json"))
    publisher.kill()
    publisher.wait()
    # A peer without the patch, which was there before anybody had it.
    publisher, series, _ = release(processes, versions[1])
    cold = fetch(processes, series, "--seed", "--json", name="cold")
    cold.event("transfer_complete")
    publisher.kill()
    publisher.wait()
    address = cold.event("node_listening")["addresses"][0]
    updating = fetch(processes, f"{series.partition('?')[0]}?peer={address}", "--update", "--json")
    update = completed(updating)
    warnings = [event["message"] for event in updating.events("warned")]
    (warning,) = [text for text in warnings if "patch" in text]
    assert warning.startswith("the patch is not used, pieces are fetched instead: ")
    assert update["bytes_reused"] > 0
    assert content_of(processes.work("receiver") / "out" / "game") == content_of(versions[1])


@pytest.mark.parametrize("arguments", [("--previous", "nowhere"), ("--keep", "65")])
def test_what_makes_no_sense_is_refused(
    processes: Processes, versions: tuple[Path, Path], arguments: tuple[str, str]
) -> None:
    refused = processes.swarm("release", "game", versions[0], *LISTEN, *arguments)
    refused.expect_exit(2)
    assert len(refused.errors().splitlines()) == 1


def test_a_name_that_no_file_can_have_is_refused(processes: Processes, versions: tuple[Path, Path]) -> None:
    refused = processes.swarm("release", "a/b", versions[0], *LISTEN)
    refused.expect_exit(3)
    (line,) = refused.errors().splitlines()
    assert "forbidden character" in line


def test_two_processes_do_not_publish_one_series(processes: Processes, versions: tuple[Path, Path]) -> None:
    first, _, _ = release(processes, versions[0])
    first.line("^seeding until Ctrl-C: end this before you release the next version$", stderr=True)
    second = processes.swarm("release", "game", versions[1], *LISTEN, name="publisher")
    second.expect_exit(8)
    assert "another process publishes game at this moment" in second.errors().splitlines()[-1]


def test_a_release_comes_from_a_web_server_alone(
    processes: Processes, versions: tuple[Path, Path], tmp_path: Path
) -> None:
    www = tmp_path / "www"
    shutil.copytree(versions[0], www / "game")
    server = Nginx(processes, www)
    publisher, series, link = release(processes, versions[0], "--origin", server.url)
    saved = fetch(processes, link, "--save-manifest", str(www / "game.swarm"), name="saver")
    saved.expect_exit(0)
    publisher.terminate()
    publisher.expect_exit(143)
    (record,) = (processes.home("publisher") / "releases" / "own").glob("*/newest.release")
    shutil.copyfile(record, www / "game.swarm-release")
    alone = f"{series.partition('?')[0]}?origin={server.url}"
    fetched = completed(fetch(processes, alone, "--json"))
    assert fetched["bytes_received"] == fetched["size"]
    assert content_of(processes.work("receiver") / "out" / "game") == content_of(versions[0])
    completed(fetch(processes, alone, "--json", name="second"))
    # A release later, with what else the publisher names: the patch comes from the server, too.
    publisher, _, link = release(processes, versions[1], "--previous", versions[0], "--origin", server.url)
    saved = fetch(processes, link, "--save-manifest", str(www / "game.swarm"), "--overwrite", name="saver")
    saved.expect_exit(0)
    publisher.terminate()
    publisher.expect_exit(143)
    shutil.copyfile(record, www / "game.swarm-release")
    (patches,) = re.findall(r"^patches, for a web server: (.*)$", publisher.errors(), re.MULTILINE)
    shutil.copytree(patches, www, dirs_exist_ok=True)
    updated = completed(fetch(processes, alone, "--update", "--json"))
    assert updated["bytes_received"] < 50_000 < SIZE - 200_000 < updated["bytes_patched"]
    assert content_of(processes.work("receiver") / "out" / "game") == content_of(versions[1])
    # Where nobody has it, that costs one line: pieces are fetched instead.
    for patch in www.glob("*.swarm-patch*"):
        patch.unlink()
    shutil.rmtree(www / "game")
    shutil.copytree(versions[1], www / "game")
    second = fetch(processes, alone, "--update", name="second")
    second.expect_exit(0)
    (line,) = [line for line in second.errors().splitlines() if "patch is not used" in line]
    assert "404" in line
    assert content_of(processes.work("second") / "out" / "game") == content_of(versions[1])
    # What somebody else put there is refused with one line.
    damaged = bytearray(record.read_bytes())
    damaged[60] ^= 1
    (www / "game.swarm-release").write_bytes(damaged)
    refused = fetch(processes, alone, name="stranger")
    refused.expect_exit(3)
    (line,) = refused.errors().splitlines()
    assert line.startswith(f"swarm: the release record from {server.url} is refused: ")


async def test_a_release_does_not_take_the_place_of_something_else(tmp_path: Path) -> None:
    for name, file in (("evil", "x"), ("mine", "1.jpg")):
        (tmp_path / name / "photos").mkdir(parents=True)
        (tmp_path / name / "photos" / file).write_text(name)
    series = series_of(bytes(range(32)), "game")
    into = tmp_path / "mine"
    update = swarm.TransferOptions(update=True)
    async with loopback_node(tmp_path / "a") as hostile, loopback_node(tmp_path / "b") as victim:
        await (await victim.share(into / "photos")).stop()
        shared = await hostile.share(tmp_path / "evil" / "photos")
        record = ReleaseRecord(series, 1, shared.id, shared.size)
        hostile._releases.offer(sign_release(bytes(range(32)), record))
        link = SeriesLink(series, hostile.addresses)
        async with victim.fetch(link, into=into, options=update) as transfer:
            with pytest.raises(swarm.ManifestError, match="is called photos"):
                await transfer.complete()
        # Nor does other content whose link names something else.
        other = shared.link.replace("name=photos", "name=game")
        async with victim.fetch(other, into=into, options=update) as transfer:
            with pytest.raises(swarm.ManifestError, match="nothing is replaced"):
                await transfer.complete()
        assert content_of(into) == {"photos/1.jpg": b"mine"}
        named = swarm.TransferOptions(name="game")
        async with victim.fetch(link, into=into, options=named) as transfer:
            assert await transfer.complete() == into / "game"


async def test_a_record_of_a_hostile_peer_is_refused_with_one_line(tmp_path: Path) -> None:
    series = series_of(bytes(range(32)), "game")
    record = ReleaseRecord(series, 1, ManifestId(b"m" * 32), 1)
    data = bytearray(sign_release(bytes(range(32)), record).to_bytes())
    data[-1] ^= 1
    lie: Any = SimpleNamespace(record=record, to_bytes=lambda: bytes(data))
    async with loopback_node(tmp_path) as hostile:
        hostile._releases.offer(lie)
        link = str(SeriesLink(series, hostile.addresses))
        with Processes(tmp_path) as processes:
            refused = fetch(processes, link)
            await trio.to_thread.run_sync(lambda: refused.expect_exit(3))
            (line,) = refused.errors().splitlines()
    assert line.startswith(f"swarm: the release record from {hostile.peer_id} is refused: ")
