"""Which identity a process gets: what is shared keeps its own, whatever runs meanwhile."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from swarm.content.envelope import Envelope
from swarm.content.manifest import Manifest
from swarm.content.signature import sign
from swarm.storage import identities
from swarm.storage.home import StoredIdentity
from swarm.storage.identities import IdentityUse, first_identity, hold_identity
from tests.support.contents import file_manifest
from tests.support.storage import descriptors

OLD = 1_000_000_000


def shares(*names: str, listen: tuple[str, ...] = (), manifests: tuple[Path, ...] = ()) -> IdentityUse:
    return IdentityUse(serves=names, listen=listen, manifests=manifests)


def seeds(*names: str) -> IdentityUse:
    return IdentityUse(resumes=names)


async def once(home: Path, use: IdentityUse | None = None) -> StoredIdentity:
    async with hold_identity(home, use) as identity:
        return identity


@asynccontextmanager
async def held(home: Path, *uses: IdentityUse | None) -> AsyncIterator[list[StoredIdentity]]:
    """Identities that are held at the same time, taken in this order."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(hold_identity(home, use)) for use in uses]


async def test_shares_keep_their_identities_in_whichever_order_they_start(tmp_path: Path) -> None:
    uses = [shares(name) for name in "abc"]
    async with held(tmp_path, *uses) as first:
        assert len({each.private for each in first}) == 3
    for order in itertools.permutations(range(3)):
        async with held(tmp_path, *(uses[number] for number in order)) as again:
            assert again == [first[number] for number in order]


async def test_what_fetches_or_asks_never_takes_the_identity_of_a_share(tmp_path: Path) -> None:
    share = await once(tmp_path, shares("a"))
    me = await first_identity(tmp_path)
    async with held(tmp_path, None, None, seeds("x"), shares("b"), shares("a")) as now:
        assert now[0] == me
        assert now[4] == share
        assert len({each.private for each in now}) == 5
    async with held(tmp_path, shares("a"), None) as now:
        assert now == [share, me], "while a share runs a fetch has the id of `swarm id`"


async def test_the_user_signs_what_all_shares_serve(tmp_path: Path) -> None:
    me = await first_identity(tmp_path)
    async with held(tmp_path, shares("a"), shares("b"), None) as now:
        assert [each.signing for each in now] == [me.private] * 3


async def test_the_same_paths_twice_at_once_are_told_apart_by_where_they_listen(tmp_path: Path) -> None:
    one, two = shares("a", listen=("/one",)), shares("a", listen=("/two",))
    async with held(tmp_path, one, two) as first:
        assert first[0].private != first[1].private
    async with held(tmp_path, two, one) as again:
        assert again == [first[1], first[0]]
    assert await once(tmp_path, two) == first[1]


async def test_the_order_of_the_paths_is_nothing_and_more_of_them_keep_the_identity(tmp_path: Path) -> None:
    both = await once(tmp_path, shares("a", "b"))
    assert await once(tmp_path, shares("b", "a", "a")) == both
    assert await once(tmp_path, shares("a", "b", "c")) == both
    assert await once(tmp_path, shares("a")) == both
    async with held(tmp_path, shares("a", "b"), shares("b")) as now:
        assert now[0] == both
        assert now[1].private != both.private


async def test_a_fetch_that_seeds_has_the_id_of_the_user_and_keeps_it(tmp_path: Path) -> None:
    me = await first_identity(tmp_path)
    async with held(tmp_path, seeds("x"), seeds("y")) as first:
        assert first[0] == me
    async with held(tmp_path, seeds("y"), seeds("x")) as again:
        assert again == [first[1], first[0]]
    async with held(tmp_path, None, None) as others:
        assert others[0] == me
        assert others[1] != first[1], "a fetch without --seed leaves it alone"


async def test_a_lost_or_damaged_record_loses_no_identity(tmp_path: Path) -> None:
    before = await once(tmp_path, shares("a"))
    (record,) = (tmp_path / "shares").glob("*.json")
    for damage in (b"", b"{}", b"[1]", b"\xff", b'{"names": 1}', b'{"names":[],"listen":[],"identity":"/x"}'):
        record.write_bytes(damage)
        assert await once(tmp_path, shares("a")) == before
    record.unlink()
    assert await once(tmp_path, shares("a")) == before


async def test_a_record_cannot_lead_out_of_the_home(tmp_path: Path) -> None:
    before = await once(tmp_path / "home", shares("a"))
    (record,) = (tmp_path / "home" / "shares").glob("*.json")
    fields = json.loads(record.read_bytes())
    record.write_text(json.dumps({**fields, "identity": "../elsewhere"}))
    assert await once(tmp_path / "home", shares("a")) == before
    assert not (tmp_path / "elsewhere").exists()


async def test_the_oldest_identities_are_forgotten_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "MAX_SHARES", 3)
    first = {}
    for number, name in enumerate("abcd"):
        first[name] = await once(tmp_path, shares(name))
        (record,) = (path for path in (tmp_path / "shares").glob("*.json") if f'"{name}"' in path.read_text())
        os.utime(record, (OLD + number, OLD + number))
    assert len(list((tmp_path / "shares").glob("*.json"))) == 3
    assert not first["a"].path.exists()
    assert await once(tmp_path, shares("d")) == first["d"]
    async with held(tmp_path, shares("b"), shares("e"), shares("f"), shares("g")) as now:
        assert now[0] == first["b"], "what is in use is kept"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return file_manifest("a", b"a")


async def test_links_of_the_version_before_stay_good(tmp_path: Path, manifest: Manifest) -> None:
    home = tmp_path / "home"
    home.mkdir()
    places = []
    for number, name in enumerate(("identity", "identity-1", "identity-2")):
        key = bytes([number]) * 32
        (home / name).write_bytes(key)
        place = tmp_path / f"{number}.swarm"
        place.write_bytes(Envelope(manifest, sign(key, manifest.encode())).to_bytes())
        os.utime(place, (OLD, OLD))
        places.append(place)
    for number in (1, 2, 1):
        share = await once(home, shares(str(number), manifests=(places[number],)))
        assert share.path.name == f"identity-{number}"
        assert share.signing == share.private, "it keeps its signer, too"
    other = await once(home, shares("other", manifests=(tmp_path / "none.swarm",)))
    assert other.path.parent.name == "shares"
    assert (await first_identity(home)).path.name == "identity"
    assert (await once(home, shares("0", manifests=(places[0],)))).path.name == "identity"
    me = await first_identity(home)
    assert me.path.name == "identity-3"
    async with held(home, None, shares("0")) as now:
        assert now[0] == me
        assert now[1].path.name == "identity"


async def test_only_manifests_of_before_give_an_old_identity(tmp_path: Path, manifest: Manifest) -> None:
    home = tmp_path / "home"
    me = await first_identity(home)
    place = tmp_path / "a.swarm"
    place.write_bytes(Envelope(manifest, sign(me.private, manifest.encode())).to_bytes())
    share = await once(home, shares("a", manifests=(place,)))
    assert share.path.parent.name == "shares"


async def test_a_share_waits_for_the_identity_that_an_ending_process_still_has(tmp_path: Path) -> None:
    told: list[str] = []
    got: list[StoredIdentity] = []

    async def restart() -> None:
        async with hold_identity(tmp_path, shares("a"), told.append) as identity:
            got.append(identity)

    async with trio.open_nursery() as nursery, hold_identity(tmp_path, shares("a")) as before:
        nursery.start_soon(restart)
        with trio.fail_after(10):
            while not told:
                await trio.sleep(0.01)
        # Others do not wait with it.
        async with held(tmp_path, None, shares("b")):
            pass
        assert not got
    assert got == [before]
    assert len(told) == 1
    assert "another process that shares the same" in told[0]


async def test_a_share_beside_another_of_the_same_waits_no_longer_than_a_process_takes_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "ENDING_SECONDS", 0.05)
    descriptors_before = descriptors()
    async with held(tmp_path, shares("a"), shares("a")) as both:
        assert both[0] != both[1]
    with trio.fail_after(10):
        # The thread that waited for the lock lets go of it.
        while descriptors() != descriptors_before:
            await trio.sleep(0.01)
    assert await once(tmp_path, shares("a")) == both[0]
