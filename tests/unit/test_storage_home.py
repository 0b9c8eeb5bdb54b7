"""The user's state and identity keys."""

from __future__ import annotations

import stat
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import platformdirs
import pytest
import trio

from swarm.errors import DiskError
from swarm.storage import identities
from swarm.storage.home_folder import HOME_VARIABLE, swarm_home
from swarm.storage.identities import first_identity, hold_identity
from tests.support.storage import descriptors

HOLD = """
import sys, trio
from pathlib import Path
from swarm.storage.identities import hold_identity
async def main():
    async with hold_identity(Path(sys.argv[1])) as identity:
        print(identity.path.name, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
trio.run(main)
"""


def test_the_home_is_the_variable_or_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, "/some/where")
    assert swarm_home() == Path("/some/where")
    monkeypatch.setenv(HOME_VARIABLE, "")
    assert swarm_home() == Path(platformdirs.user_data_dir("swarm", appauthor=False))


async def test_a_key_is_made_once_and_private(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    before = descriptors()
    async with hold_identity(home) as first:
        pass
    async with hold_identity(home) as again:
        assert again == first
    assert first.path == home / "identity"
    assert len(first.private) == 32
    assert first.path.read_bytes() == first.private
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert first.private.hex() not in repr(first)
    assert descriptors() == before
    async with hold_identity(tmp_path / "other") as other:
        assert other.private != first.private


async def test_each_holder_at_once_has_its_own(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(hold_identity(tmp_path)) for _ in range(3)]
        assert [identity.path.name for identity in held] == ["identity", "identity-1", "identity-2"]
        assert len({identity.private for identity in held}) == 3
        assert await first_identity(tmp_path) == held[0]
    async with hold_identity(tmp_path) as identity:
        assert identity == held[0]


async def test_another_process_takes_its_own_at_once(tmp_path: Path) -> None:
    async with hold_identity(tmp_path) as mine, trio.open_nursery() as nursery:
        command = [sys.executable, "-c", HOLD, str(tmp_path)]
        process = await nursery.start(
            lambda task_status: trio.run_process(command, stdin=-1, stdout=-1, task_status=task_status)
        )
        assert (await process.stdout.receive_some()).strip() == b"identity-1"
        await process.stdin.aclose()
    assert (tmp_path / "identity-1").read_bytes() != mine.private


async def test_many_at_once_make_one_key(tmp_path: Path) -> None:
    seen = set()

    async def look() -> None:
        seen.add((await first_identity(tmp_path)).private)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(look)
    assert len(seen) == 1


@pytest.mark.parametrize("damaged", [b"", b"short", bytes(33), bytes(5000)])
async def test_a_damaged_key_is_refused_and_kept(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "identity").write_bytes(damaged)
    for use in (hold_identity(tmp_path).__aenter__, lambda: first_identity(tmp_path)):
        with pytest.raises(DiskError, match=r"identity: .*(a key has 32 bytes|too long)"):
            await use()
    assert (tmp_path / "identity").read_bytes() == damaged


async def test_a_key_that_others_may_read_is_taken_from_them(tmp_path: Path) -> None:
    async with hold_identity(tmp_path) as identity:
        pass
    identity.path.chmod(0o644)
    async with hold_identity(tmp_path):
        assert stat.S_IMODE(identity.path.stat().st_mode) == 0o600


async def test_a_home_that_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=r"in the way|already exists"):
        async with hold_identity(tmp_path / "file"):
            pass
    home = tmp_path / "full"
    monkeypatch.setattr(identities, "MAX_IDENTITIES", 1)
    async with hold_identity(home):
        with pytest.raises(DiskError, match="all 1 identities are in use"):
            async with hold_identity(home):
                pass
    (tmp_path / "identity.lock").symlink_to(tmp_path / "file")
    with pytest.raises(DiskError, match="symbolic link"):
        async with hold_identity(tmp_path):
            pass
