"""A node names the addresses that its machine has now, not those that it had when the node was opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from swarm.endpoint import Endpoint
from swarm.ids import ManifestId
from swarm.net import addresses as net_addresses
from swarm.node import address_keeper
from swarm.node.address_keeper import LEAST_PAUSE, AddressKeeper
from swarm.ports import Announcement, FoundPeer
from tests.support.nodes import loopback_node, until
from tests.unit.test_reach_kad import peer

ME = peer(1)
AT_HOME, AT_WORK, ANNOUNCED, MAPPED = (
    f"/ip4/{host}/tcp/4001" for host in ("192.168.1.5", "10.0.0.9", "5.5.5.1", "5.5.5.2")
)


class MachineNews:
    """Stands for the news of the system: something changed, once `changed` is set."""

    changed: trio.Event

    def __enter__(self) -> MachineNews:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    async def wait(self) -> None:
        await MachineNews.changed.wait()
        MachineNews.changed = trio.Event()


@pytest.fixture(autouse=True)
def news(monkeypatch: pytest.MonkeyPatch) -> None:
    MachineNews.changed = trio.Event()
    monkeypatch.setattr(address_keeper, "InterfaceNews", MachineNews)


class Machine:
    """A host that listens at ``listening``, and is reached at ``at``."""

    peer_id = ME

    def __init__(self, at: str, listening: str = "/ip4/0.0.0.0/tcp/4001") -> None:
        self.at = at
        self.listening = (Endpoint.parse(listening),)
        self.looks = self.checks = 0

    def check_connections(self) -> None:
        self.checks += 1

    @property
    def addresses(self) -> tuple[str, ...]:
        self.looks += 1
        return (f"{self.at}/p2p/{ME}",)


def shown(keeper: AddressKeeper) -> list[str]:
    return [text.removesuffix(f"/p2p/{ME}") for text in keeper.own.now]


async def test_addresses_follow_the_interfaces_and_the_other_ones_stay_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine: Any = Machine(AT_HOME)
    keeper = AddressKeeper(machine, [ANNOUNCED])
    keeper.mapped(Endpoint.parse(MAPPED))
    assert shown(keeper) == [ANNOUNCED, MAPPED, AT_HOME]
    async with trio.open_nursery() as nursery:
        # What changed before it listened for news counts, too.
        machine.at = AT_WORK
        keeper.follow_interfaces(nursery)
        await trio.testing.wait_all_tasks_blocked()
        assert shown(keeper) == [ANNOUNCED, MAPPED, AT_WORK]
        change, machine.at = keeper.own.next_change, AT_HOME
        MachineNews.changed.set()
        await change.wait()
        assert shown(keeper) == [ANNOUNCED, MAPPED, AT_HOME]
        # Where it comes from now nobody hears of the old connections.
        assert machine.checks == 1
        keeper.mapped(None)
        assert shown(keeper) == [ANNOUNCED, AT_HOME]
        nursery.cancel_scope.cancel()


async def test_a_machine_whose_interfaces_never_rest_is_looked_at_now_and_then(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine: Any = Machine(AT_HOME)
    keeper = AddressKeeper(machine, [])
    async with trio.open_nursery() as nursery:
        keeper.follow_interfaces(nursery)
        for _ in range(100):
            MachineNews.changed.set()
            await trio.sleep(LEAST_PAUSE / 10)
        nursery.cancel_scope.cancel()
    # One when the keeper is made, one when it begins to follow, and one after each pause.
    assert 11 <= machine.looks <= 13
    assert not machine.checks


async def test_an_address_that_the_user_chose_to_listen_on_is_not_followed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine: Any = Machine(AT_HOME, listening=AT_HOME)
    async with trio.open_nursery() as nursery:
        AddressKeeper(machine, []).follow_interfaces(nursery)
        assert not nursery.child_tasks


class Teller:
    """A source of peers that finds nobody, and keeps what it is to tell."""

    provenance = "teller"

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def announce(self, announcement: Announcement) -> None:
        self.told.append(announcement.addresses)

    def withdraw(self, _manifest: ManifestId) -> None:
        pass

    async def peers(self, _manifest: ManifestId) -> AsyncIterator[FoundPeer]:
        await trio.sleep_forever()
        yield FoundPeer(ME, ())


async def test_a_node_whose_machine_moves_tells_its_peer_sources(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hosts = ["192.168.1.5"]
    monkeypatch.setattr(net_addresses, "_interface_addresses", lambda _kind: list(hosts))
    content, teller = tmp_path / "content", Teller()
    content.write_bytes(b"content")
    async with loopback_node(tmp_path, listen=("/ip4/0.0.0.0/tcp/0",)) as node:
        node.add_peer_source(teller)
        transfer = await node.share(content)
        await until(lambda: teller.told, "what is shared is announced")
        hosts[:] = ["10.0.0.9"]
        MachineNews.changed.set()
        await until(lambda: len(teller.told) > 1, "the other address is announced")
        assert "192.168.1.5" in teller.told[0][0]
        assert ["10.0.0.9" in text for text in teller.told[1]] == [True]
        assert node.addresses == teller.told[1]
        assert "10.0.0.9" in node.link_to(transfer.manifest)
