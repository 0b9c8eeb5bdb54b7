"""A link that was given away still works after a restart."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import swarm
from swarm.endpoint import Endpoint
from swarm.net import host
from tests.support.web_servers import free_port

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)


def options(home: Path) -> swarm.NodeOptions:
    return swarm.NodeOptions(home=home, listen=LOOPBACK)


def port_of(node: swarm.Node) -> int:
    return Endpoint.parse(node.addresses[0].partition("/p2p/")[0]).port


async def test_a_link_survives_restarts_of_the_sharer(tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(bytes(range(256)) * 1000)
    links = set()
    for _ in range(5):
        async with swarm.open_node(options(tmp_path / "home")) as node:
            links.add((await node.share(source)).link)
    assert len(links) == 1
    async with swarm.open_node(options(tmp_path / "home")) as sharer:
        await sharer.share(source)
        async with (
            swarm.open_node(options(tmp_path / "other")) as receiver,
            receiver.fetch(links.pop(), into=tmp_path / "out") as transfer,
        ):
            assert (await transfer.complete()).read_bytes() == source.read_bytes()


async def test_two_nodes_of_one_home_keep_ports_of_their_own(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with swarm.open_node(options(home)) as one, swarm.open_node(options(home)) as two:
        first, second = port_of(one), port_of(two)
        assert first != second
    async with swarm.open_node(options(home)) as one, swarm.open_node(options(home)) as two:
        assert (port_of(one), port_of(two)) == (first, second)


async def test_a_port_that_somebody_else_has_taken_is_given_up(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with swarm.open_node(options(home)) as node:
        before = port_of(node)
    with socket.create_server(("127.0.0.1", before)):
        async with swarm.open_node(options(home)) as node:
            assert port_of(node) != before


@pytest.mark.parametrize("content", [b"", b"0", b"99999", b"12ab", b"123456789", b"-1"])
async def test_a_damaged_note_of_the_port_is_ignored(tmp_path: Path, content: bytes) -> None:
    home = tmp_path / "home"
    async with swarm.open_node(options(home)):
        pass
    (home / "identity.port").write_bytes(content)
    async with swarm.open_node(options(home)) as node:
        assert (home / "identity.port").read_bytes() == b"%d" % port_of(node)


async def test_a_port_that_the_user_names_is_not_remembered(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with swarm.open_node(options(home)) as node:
        before = port_of(node)
    free = free_port()
    async with swarm.open_node(swarm.NodeOptions(home=home, listen=(f"/ip4/127.0.0.1/tcp/{free}",))) as node:
        assert port_of(node) == free
    async with swarm.open_node(options(home)) as node:
        assert port_of(node) == before


async def test_two_nodes_that_find_the_same_port_free_at_once_do_not_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = [tmp_path / "a", tmp_path / "b"]
    for home in homes:
        async with swarm.open_node(options(home)) as node:
            same = port_of(node)
    for home in homes:
        (home / "identity.port").write_bytes(b"%d" % same)
    real, looks = host._refuse_taken_port, 0

    def look_at_once(address: Endpoint) -> None:
        nonlocal looks
        looks += 1
        # Both look, three times each, before either listens.
        if looks > 6:
            real(address)

    monkeypatch.setattr(host, "_refuse_taken_port", look_at_once)
    async with swarm.open_node(options(homes[0])) as one, swarm.open_node(options(homes[1])) as two:
        assert port_of(one) == same
        assert port_of(two) != same
