"""The examples of docs/api.md run, in their order, with real nodes on loopback."""

from __future__ import annotations

import ast
import re
from inspect import CO_COROUTINE
from pathlib import Path
from typing import Any

import pytest
import trio

import swarm
from tests.support.nodes import loopback_node
from tests.support.sharing import MIB, random_file, tree

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"

CONTRACT = """
import swarm
async with swarm.open_node(swarm.NodeOptions(home=folder, listen=("/ip4/127.0.0.1/tcp/0",), upload_limit=2_000_000)) as node:
    shared = await node.share(path)                        # swarm.Transfer: .id .link .manifest .peers() .events() pause() resume() stop()
    async with node.fetch(link, into=folder, options=swarm.TransferOptions(only=("*.jpg",))) as transfer:
        async for progress in transfer.progress():         # .done .total (bytes) .rate (bytes per second) .peers
            ...
        path = await transfer.complete()                   # pathlib.Path; raises swarm.Incomplete, swarm.DiskError, ...
    await shared.stop()
    samples = [sample async for sample in node.ping(address, count=5)]       # .seconds, None when lost
path = swarm.fetch(link, into=folder)                      # blocking form, outside trio
"""  # noqa: E501 - as it was agreed


def _examples() -> list[tuple[int, str]]:
    """The Python blocks of the page with the line that each begins at."""
    text = PAGE.read_text()
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)) + 1, match.group(1)) for match in found]


async def _run(source: str, names: dict[str, Any], file: str, line: int = 1) -> None:
    """Run one block in this task, or in a thread if it blocks, as a script would run it."""
    # Tracebacks name the line of the page.
    code = compile("\n" * (line - 1) + source, file, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & CO_COROUTINE:
        await eval(code, names)  # noqa: S307 - the page is ours
    elif re.search(r"^(trio|asyncio)\.run\(|swarm\.(fetch|share)\(", source, re.MULTILINE):
        await trio.to_thread.run_sync(exec, code, names)
    else:
        exec(code, names)  # noqa: S102


def _photos(folder: Path) -> Path:
    for number in range(4):
        random_file(folder / f"photo{number}.jpg", 200_000 + number, number)
    random_file(folder / "small.jpg", 1000, 8)
    random_file(folder / "notes.txt", 3000, 9)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder that is the current one, with a state of its own for the default node."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("SWARM_HOME", str(tmp_path / "state"))
    return work


async def test_the_examples_of_the_page_run(folder: Path) -> None:
    photos = _photos(folder / "photos")
    newer = _photos(folder / "newer")
    random_file(newer / "photo4.jpg", 1000, 7)
    random_file(folder / "movie.mkv", 2 * MIB + 5)
    letters = [random_file(folder / "letters" / f"letter{n}", 50_000 + n, n) for n in range(3)]
    examples = _examples()
    assert len(examples) >= 20
    async with (
        loopback_node(folder / "s") as seeder,
        loopback_node(folder / "n") as node,
        loopback_node(folder / "o") as other_node,
    ):
        shared = await seeder.share(photos)
        links = [(await seeder.share(letter)).link for letter in letters]
        given = {
            "node": node,
            "other_node": other_node,
            "link": shared.link,
            "links": links,
            "photos": photos,
            "newer": newer,
            "folder": folder,
            "address": seeder.addresses[0],
            "path": folder / "movie.mkv",
        }
        names: dict[str, Any] = {"__name__": "example", **given}
        for line, source in examples:
            names.update(given)
            with trio.fail_after(30):
                await _run(source, names, str(PAGE), line)
            # What one example leaves open is not in the way of the next.
            for transfer in (*node.transfers, *other_node.transfers):
                await transfer.stop()
    for copy in ("downloads/photos", "copy/photos", "seeded/photos", "slowly/photos", "careful/photos"):
        assert tree(folder / copy) == tree(photos), copy
    for copy in ("counted/photos", "found/photos", "script/photos", "asyncio/photos"):
        assert tree(folder / copy) == tree(photos), copy
    assert set(tree(folder / "some/best photos")) == {f"photo{n}.jpg" for n in range(4)}
    assert tree(folder / "kept" / "gallery") == tree(newer)
    assert tree(folder / "many") == tree(folder / "letters")
    assert (folder / "copied" / "movie.mkv").read_bytes() == (folder / "movie.mkv").read_bytes()
    samples = names["samples"]
    assert len(samples) == 5
    assert all(sample.seconds > 0 for sample in samples)


def test_the_page_shows_the_contract_as_it_is() -> None:
    shown = "\n".join(source for _, source in _examples()[:2])
    lines = [line for line in CONTRACT.splitlines() if line.strip()]
    assert [line for line in shown.splitlines() if line.strip()] == lines


async def test_the_contract_runs_as_written(folder: Path) -> None:
    photos = _photos(folder / "photos")
    movie = random_file(folder / "movie.mkv", MIB)
    in_trio, line, blocking = CONTRACT.partition("path = swarm.fetch")
    async with loopback_node(folder / "s") as seeder:
        shared = await seeder.share(photos)
        into = folder / "into"
        given = {"folder": into, "path": movie, "link": shared.link, "address": seeder.addresses[0]}
        names: dict[str, Any] = {"__name__": "example", **given}
        with trio.fail_after(30):
            await _run(in_trio, names, "contract")
        assert names["path"] == into / "photos"
        assert set(tree(into / "photos")) == {name for name in tree(photos) if name.endswith(".jpg")}
        assert isinstance(names["progress"], swarm.Progress)
        assert names["progress"].done == names["progress"].total
        assert [sample.seconds is not None for sample in names["samples"]] == [True] * 5
        with trio.fail_after(30):
            await _run(line + blocking, names, "contract")
        assert names["path"] == into / "photos"
        assert tree(into / "photos") == tree(photos)
