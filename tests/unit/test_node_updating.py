"""How an update chooses its way, and for how long it passes its patch on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from swarm.bits import PieceSet
from swarm.content.manifest import Manifest
from swarm.content.release import PatchOffer, ReleaseRecord, series_of
from swarm.events import (
    BytesReceived,
    BytesSent,
    Event,
    PeerComplete,
    PeerConnected,
    PeerDisconnected,
    PieceStored,
    SourceFailed,
    Warned,
)
from swarm.ids import ManifestId, PeerId, SourceId, TransferId
from swarm.node.updating import LEAST_PASSING, Installed, PatchNews, Update, _missing, pieces_in, plan_of
from swarm.storage.file_identity import Checks, FileIdentities
from swarm.storage.hash_cache import Remembered
from swarm.storage.manifest_files import NamedContent
from tests.support.contents import folder_manifest

PIECE = 16 * 1024
BIG = bytes(range(256)) * 1024
OLD = folder_manifest("game", {"big": BIG, "same": b"s" * 50_000, "gone": b"g" * 20_000}, piece_length=PIECE)
CHANGED = BIG[:PIECE] + b"x" + BIG[PIECE + 1 :]
NEW = folder_manifest(
    "game", {"big": CHANGED, "moved": b"s" * 50_000, "new": b"n" * 10_000}, piece_length=PIECE
)
NUMBER = TransferId(7)
ANN, BOB = PeerId(SourceId("Ann")), PeerId(SourceId("Bob"))


def installed(manifest: Manifest = OLD) -> Installed:
    return Installed(Path("game"), Remembered(manifest, Checks(FileIdentities(), b"")))


def update(*offers: PatchOffer, places: tuple[Path, ...] = (Path("game"),)) -> Update:
    series = series_of(bytes(range(32)), "game")
    record = ReleaseRecord(series, 2, NEW.id, NEW.total_length, offers)
    return Update(record, NamedContent(NEW.id), NEW, PieceSet.all(NEW.piece_count), places, Path("game"))


def offer(size: int, old: Manifest = OLD) -> PatchOffer:
    return PatchOffer(old.id, ManifestId(b"p" * 32), size)


def test_what_an_old_version_holds_is_known_from_its_manifest() -> None:
    held = pieces_in(NEW, OLD)
    layout = NEW.layout
    paths = {NEW.path(file): layout.pieces_of(file) for file in range(len(NEW.files))}
    assert all(piece in held for piece in paths["moved",])
    assert not any(piece in held for piece in paths["new",])
    big = paths["big",]
    assert [piece in held for piece in big] == [piece != big.start + 1 for piece in big]
    assert _missing(update(), [installed()]) == PIECE + 10_000
    assert _missing(update(), []) == NEW.total_length


@pytest.mark.parametrize(
    ("offers", "versions", "missing", "way"),
    [
        ((offer(5_000),), [installed()], 26_384, "patch"),
        ((offer(26_384),), [installed()], 26_384, "reuse"),
        ((), [installed()], 26_384, "reuse"),
        ((offer(5_000, NEW),), [installed()], 26_384, "reuse"),
        ((offer(5_000),), [], 26_384, "reuse"),
        ((offer(5_000),), [installed()], 0, "nothing"),
    ],
)
def test_the_cheapest_way_is_taken(
    offers: tuple[PatchOffer, ...], versions: list[Installed], missing: int, way: str
) -> None:
    plan, _, chosen = plan_of(update(*offers), versions, missing, NUMBER)
    assert plan.way == way
    assert (chosen is not None) == (way == "patch")
    assert plan.patch_size == (5_000 if way == "patch" else 0)
    assert bool(plan.reason) == (way != "patch")


def test_of_several_installed_versions_the_one_with_the_smallest_patch_counts() -> None:
    other = folder_manifest("game", {"big": BIG}, piece_length=PIECE)
    versions = [installed(), installed(other)]
    plan, chosen, _ = plan_of(update(offer(5_000), offer(4_000, other)), versions, 26_384, NUMBER)
    assert chosen is versions[1]
    assert plan.patch_size == 4_000


def test_without_anything_here_all_of_it_is_fetched() -> None:
    plan, _, _ = plan_of(update(places=()), [], NEW.total_length, NUMBER)
    assert (plan.way, plan.missing) == ("pieces", NEW.total_length)


def news(size: int = 1000) -> tuple[PatchNews, list[Event]]:
    told: list[Event] = []
    transfer: Any = SimpleNamespace(number=NUMBER, tell=told.append)
    return PatchNews(cast("Any", transfer), size, told.append), told


async def test_of_the_patch_only_what_concerns_the_update_is_told() -> None:
    patch, told = news()
    other = TransferId(8)
    for event in (
        PeerConnected(other, ANN, "", inbound=False),
        PieceStored(other, 1, 5, ANN),
        BytesReceived(other, ANN, 5),
        Warned("look", other),
        SourceFailed(other, ANN, "404", None),
    ):
        patch.publish(event)
    assert told == [
        BytesReceived(NUMBER, ANN, 5),
        Warned("look", NUMBER),
        SourceFailed(NUMBER, ANN, "404", None),
    ]


async def test_a_patch_is_passed_on_until_nobody_needs_it(autojump_clock: trio.testing.MockClock) -> None:
    patch, _ = news()
    await patch.passed_on()
    patch.publish(PeerConnected(NUMBER, ANN, "", inbound=True))
    patch.publish(PeerConnected(NUMBER, BOB, "", inbound=True))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(patch.passed_on)
        await trio.sleep(1)
        patch.publish(PeerComplete(NUMBER, ANN, fetched=True))
        await trio.sleep(1)
        assert nursery.child_tasks
        patch.publish(PeerDisconnected(NUMBER, BOB, "gone"))
    assert trio.current_time() < LEAST_PASSING


async def test_a_patch_is_passed_on_once(autojump_clock: trio.testing.MockClock) -> None:
    patch, _ = news(size=1000)
    patch.publish(PeerConnected(NUMBER, ANN, "", inbound=True))
    patch.publish(BytesSent(NUMBER, ANN, 999))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(patch.passed_on)
        await trio.sleep(1)
        assert nursery.child_tasks
        patch.publish(BytesSent(NUMBER, ANN, 1))


async def test_a_patch_is_not_passed_on_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    patch, _ = news()
    await trio.sleep(3 * LEAST_PASSING)
    patch.arrived()
    patch.publish(PeerConnected(NUMBER, ANN, "", inbound=True))
    began = trio.current_time()
    await patch.passed_on()
    assert trio.current_time() - began == pytest.approx(3 * LEAST_PASSING)
