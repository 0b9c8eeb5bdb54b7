"""How a user's program meets the package: its types, its imports, other frameworks, the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.nodes import LISTEN, NOBODY
from tests.support.sharing import random_file, sha256

ROOT = Path(__file__).resolve().parents[2]

USERS_PROGRAM = """
from collections.abc import AsyncIterator
from pathlib import Path

import swarm


class PeerList:
    provenance = "list"

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self.addresses = addresses

    async def peers(self, manifest: swarm.ManifestId) -> AsyncIterator[swarm.FoundPeer]:
        for text in self.addresses:
            where, _, peer = text.partition("/p2p/")
            yield swarm.FoundPeer(swarm.PeerId(swarm.SourceId(peer)), (where,))

    def announce(self, announcement: swarm.Announcement) -> None:
        print(announcement.manifest, announcement.addresses, announcement.complete)

    def withdraw(self, manifest: swarm.ManifestId) -> None:
        print(manifest)


class OneFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def id(self) -> swarm.SourceId:
        return swarm.SourceId(f"file:{self._path}")

    @property
    def description(self) -> str:
        return str(self._path)

    async def deliver(self, desk: swarm.RequestDesk) -> None:
        manifest: swarm.Manifest = desk.manifest
        desk.offer(swarm.PieceSet.all(manifest.piece_count))
        while True:
            piece: int = await desk.next_request()
            desk.refuse(piece)
            await desk.supply(piece, memoryview(b""))


peer_source: swarm.PeerSource = PeerList(())
piece_source: swarm.PieceSource = OneFile(Path("x"))
base_source: swarm.PieceSource = swarm.BaseSource(Path("x"))


async def use(link: str | swarm.SwarmLink, folder: Path) -> Path:
    options = swarm.NodeOptions(
        home=folder,
        listen=("/ip4/127.0.0.1/tcp/0",),
        announce=(),
        upload_limit=2_000_000,
        download_limit=None,
        allowed=None,
    )
    async with swarm.open_node(options) as node:
        addresses: tuple[str, ...] = node.addresses
        me: swarm.PeerId = node.peer_id
        node.limit(upload=1, download=None)
        node.add_peer_source(peer_source)
        shared: swarm.Transfer = await node.share(folder, piece_length=65536)
        identity: swarm.ManifestId = shared.id
        manifest: swarm.Manifest = shared.manifest
        envelope: swarm.Envelope = shared.envelope
        files: list[swarm.FileEntry] = list(manifest.files)
        text: str = shared.link
        wanted = swarm.TransferOptions(
            only=("*.jpg",), peers=addresses, trusted=(me,), seed=True, bases=(folder,), patience=1.5
        )
        async with node.fetch(link, into=str(folder), options=wanted) as transfer:
            transfer.add_piece_source(piece_source)
            transfer.limit(upload=None, download=5)
            async for progress in transfer.progress():
                numbers: tuple[int, int, float, int] = (
                    progress.done, progress.total, progress.rate, progress.peers
                )
                left: float | None = progress.seconds_left
            async for event in transfer.events():
                match event:
                    case swarm.PieceStored(transfer=number, piece=piece, size=size, source=source):
                        stored: tuple[swarm.TransferId, int, int, swarm.SourceId] = (
                            number, piece, size, source
                        )
                    case swarm.SourceBanned(reason=reason):
                        because: str = reason
            await transfer.pause()
            await transfer.resume()
            rows: tuple[swarm.PeerStatus, ...] = transfer.peers()
            try:
                path: Path = await transfer.complete()
            except (swarm.NoPeerReachable, swarm.Incomplete, swarm.DiskError, swarm.Locked) as error:
                code: int = error.exit_code
                raise
            transfer.keep_seeding()
        await shared.stop()
        samples: list[swarm.PingSample] = [sample async for sample in node.ping(text, count=5)]
        seconds: float | None = samples[0].seconds
        adverts: tuple[swarm.Advert, ...] = await node.list(text)
        tally = swarm.NodeTally(0.0)
        async for any_event in node.events():
            tally.add(any_event, 1.0)
        snapshot: swarm.NodeSnapshot = tally.snapshot(2.0)
        one: swarm.TransferSnapshot = tally.transfer(transfer.number, 2.0)
        sources: tuple[swarm.SourceRow, ...] = one.sources
    read: swarm.Envelope = await swarm.inspect(folder / "x.swarm")
    report: swarm.VerifyReport = await swarm.verify(read.manifest, folder)
    bad: list[swarm.BadPiece] = report.bad_pieces
    return path


def blocking(link: str) -> Path:
    with swarm.share("photos", options=swarm.TransferOptions(), node=swarm.NodeOptions()) as shared:
        identity: swarm.ManifestId | None = shared.id
        link = shared.link or link
    return swarm.fetch(link, into="downloads")
"""

WRONG_PROGRAM = """
import swarm

path: int = swarm.fetch("swarm:x", into="downloads")
options = swarm.NodeOptions(upload_limit="fast")
swarm.no_such_name
"""


def _python(
    folder: Path, *arguments: str, path: Sequence[Path] = (ROOT,), check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run this interpreter in ``folder`` with a state of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "SWARM_HOME": str(folder / "state"),
        "MYPYPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        check=check,
        capture_output=True,
        text=True,
        timeout=110,
    )


def test_a_user_s_program_is_typed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(USERS_PROGRAM)
    (tmp_path / "wrong.py").write_text(WRONG_PROGRAM)
    mypy = ("-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"))
    right = _python(tmp_path, *mypy, "program.py", check=False)
    assert right.stdout.startswith("Success"), right.stdout + right.stderr
    wrong = _python(tmp_path, *mypy, "wrong.py", check=False)
    errors = [line for line in wrong.stdout.splitlines() if line.startswith("wrong.py:")]
    assert [line.split(":")[1] for line in errors] == ["4", "5", "6"], wrong.stdout


def test_every_public_name_is_there_and_typed(tmp_path: Path) -> None:
    program = (
        "import json, swarm; print(json.dumps({n: getattr(swarm, n).__module__ for n in swarm.__all__}))"
    )
    modules = json.loads(_python(tmp_path, "-c", program).stdout)
    assert len(modules) >= 80
    assert all(module.startswith("swarm.") for module in modules.values())


def test_the_import_alone_loads_nothing_heavy(tmp_path: Path) -> None:
    program = "import sys, swarm; print(*sorted(sys.modules))"
    loaded = set(_python(tmp_path, "-c", program).stdout.split())
    assert "swarm" in loaded
    assert not {name.partition(".")[0] for name in loaded} & {
        "libp2p", "trio", "click", "rich", "asyncio", "blake3", "cbor2", "cryptography", "multiaddr",
    }  # fmt: skip
    assert {name for name in loaded if name.startswith("swarm.")} == set()


def test_options_and_errors_load_no_network(tmp_path: Path) -> None:
    program = "import sys, swarm; swarm.NodeOptions(), swarm.Incomplete; print(*sorted(sys.modules))"
    loaded = set(_python(tmp_path, "-c", program).stdout.split())
    assert not {name.partition(".")[0] for name in loaded} & {"libp2p", "trio", "click"}


ASYNCIO_PROGRAM = """
import asyncio, sys
import swarm

async def main() -> None:
    link, into = sys.argv[1:]
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    local = swarm.NodeOptions(listen=("/ip4/127.0.0.1/tcp/0",))
    path = await asyncio.to_thread(swarm.fetch, link, into=into, node=local)
    ticking.cancel()
    assert ticks > 0, "the event loop did not run meanwhile"
    try:
        await asyncio.to_thread(swarm.fetch, "swarm:x", into=into, node=local)
    except swarm.ManifestError:
        print(path)

asyncio.run(main())
"""

SHARING_PROGRAM = """
import sys
import swarm

local = swarm.NodeOptions(listen=("/ip4/127.0.0.1/tcp/0",))
with swarm.share(sys.argv[1], node=local) as shared:
    print(shared.link, flush=True)
    sys.stdin.readline()
shared.stop()
print("ended")
try:
    swarm.share(sys.argv[1] + "-missing", node=local)
except swarm.SwarmError as error:
    print(type(error).__name__)
"""


def test_asyncio_uses_the_blocking_forms(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", 3_000_000)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SWARM_HOME": str(tmp_path / "sharer")}
    with subprocess.Popen(
        [sys.executable, "-c", SHARING_PROGRAM, str(content)],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as sharer:
        assert sharer.stdout is not None
        try:
            link = sharer.stdout.readline().strip()
            assert link.startswith("swarm:")
            done = _python(tmp_path, "-c", ASYNCIO_PROGRAM, link, "received")
            assert done.stdout.strip() == str(Path("received") / "content")
            assert sha256(tmp_path / "received" / "content") == sha256(content)
            rest, _ = sharer.communicate("\n", timeout=20)
            assert rest.split() == ["ended", "UsageError"]
            assert sharer.returncode == 0
        finally:
            sharer.kill()


def test_a_blocking_fetch_raises_bare_errors(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import swarm
        local = swarm.NodeOptions(listen={LISTEN!r})
        try:
            swarm.fetch({"bafyr4if2sifeiz7j2mk5vuecdsomxrrm7bpoqnt4ein4wudzhckzz63y3q"!r}, into="x",
                        options=swarm.TransferOptions(peers=({NOBODY!r},), patience=1), node=local)
        except swarm.NoPeerReachable:
            print("caught")
    """)
    assert _python(tmp_path, "-c", program).stdout.strip() == "caught"


@pytest.fixture
def decoy(tmp_path: Path) -> Path:
    """A folder that holds another ``cli`` and comes first on the search path."""
    folder = tmp_path / "decoy"
    folder.mkdir()
    (folder / "cli.py").write_text("raise SystemExit('the wrong cli')\n")
    return folder


@pytest.mark.parametrize("with_decoy", [False, True], ids=["empty-folder", "another-cli-first"])
def test_the_module_is_the_program(tmp_path: Path, decoy: Path, with_decoy: bool) -> None:
    work = tmp_path / "work"
    work.mkdir()
    path = (decoy, ROOT) if with_decoy else (ROOT,)
    shown = _python(work, "-m", "swarm", "--help", path=path)
    assert "Usage: swarm" in shown.stdout
    assert "fetch" in shown.stdout
    assert list(work.iterdir()) == []
    # Where another cli is in the current folder, which `-m` puts first.
    if with_decoy:
        assert "Usage: swarm" in _python(decoy, "-m", "swarm", "--help").stdout
        failed = _python(decoy, "-m", "swarm", "inspect", "swarm:x", path=path, check=False)
        assert failed.returncode == 3, failed.stderr
        assert failed.stderr.startswith("swarm: "), failed.stderr


@pytest.mark.parametrize("with_decoy", [False, True], ids=["empty-folder", "another-cli-first"])
def test_the_installed_script_is_the_program(tmp_path: Path, decoy: Path, with_decoy: bool) -> None:
    """The script that pip writes imports the entry point that pyproject.toml names."""
    work = tmp_path / "work"
    work.mkdir()
    script = tmp_path / "swarm"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom {_entry_point()} import main\nif __name__ == '__main__':\n"
        "    sys.argv[0] = sys.argv[0].removesuffix('.exe')\n    sys.exit(main())\n"
    )
    path = (decoy, ROOT) if with_decoy else (ROOT,)
    assert "Usage: swarm" in _python(work, str(script), "--help", path=path).stdout
    installed = Path(sys.executable).parent / "swarm"
    assert installed.is_file(), "the package is not installed in this environment"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    shown = subprocess.run(
        [str(installed), "--help"],
        check=False,
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Usage: swarm" in shown.stdout, shown.stderr


def _entry_point() -> str:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["swarm"].partition(":")
    assert function == "main"
    return str(module)
