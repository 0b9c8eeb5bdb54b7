"""Whose ports of a UPnP router a node takes, renews and gives back: its own alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from swarm.net.router_protocols import UpnpClient
from tests.support.upnp_router import UpnpRouter, upnp_router

OWN = "192.168.1.10"
PORT = 4001
OTHERS = [("192.168.1.77", PORT), (OWN, PORT + 1)]
"""Another machine, and another program of this one."""


@pytest.fixture
def router() -> Iterator[UpnpRouter]:
    with upnp_router() as found:
        yield found


def client_of(router: UpnpRouter) -> UpnpClient:
    client = UpnpClient(OWN, PORT)
    # In place of the search, which asks the whole network.
    client._location = router.location
    return client


async def test_a_port_is_given_renewed_and_taken_back(router: UpnpRouter) -> None:
    client = client_of(router)
    for _ in range(2):
        granted = await client.request(3600)
        assert granted is not None
        assert (granted.address, granted.port, granted.seconds) == ("5.5.5.2", PORT, 3600)
        assert router.table == {PORT: (OWN, PORT)}
    await client.release()
    assert router.table == {}


@pytest.mark.parametrize("other", OTHERS)
async def test_a_port_that_somebody_else_has_taken_is_not_taken_back(
    router: UpnpRouter, other: tuple[str, int]
) -> None:
    client = client_of(router)
    await client.request(3600)
    router.table[PORT] = other
    await client.release()
    assert router.table == {PORT: other}


@pytest.mark.parametrize("other", OTHERS)
async def test_a_port_that_leads_to_somebody_else_is_not_asked_for(
    router: UpnpRouter, other: tuple[str, int]
) -> None:
    router.table[PORT] = other
    client = client_of(router)
    granted = await client.request(3600)
    assert granted is not None
    assert granted.port != PORT
    assert router.table == {PORT: other, granted.port: (OWN, PORT)}
    await client.release()
    assert router.table == {PORT: other}


async def test_a_renewal_leaves_a_port_that_somebody_else_has_taken(router: UpnpRouter) -> None:
    client = client_of(router)
    await client.request(3600)
    router.table[PORT] = OTHERS[0]
    granted = await client.request(3600)
    assert granted is not None
    assert granted.port != PORT
    assert router.table == {PORT: OTHERS[0], granted.port: (OWN, PORT)}


async def test_a_router_that_does_not_say_where_its_ports_lead_gives_one_and_is_told_to_take_none_back(
    router: UpnpRouter,
) -> None:
    router.deaf_to.add("GetSpecificPortMappingEntry")
    client = client_of(router)
    await client.request(3600)
    assert router.table == {PORT: (OWN, PORT)}
    await client.release()
    assert "DeletePortMapping" not in router.asked
