"""What routers are asked, and what is read of their answers: PCP, NAT-PMP and the search of UPnP."""

from __future__ import annotations

import pytest

from swarm.net.router_protocols import UpnpClient
from swarm.protocol.port_mapping import (
    MappedPort,
    MappingRefused,
    is_ssdp_alive,
    new_nonce,
    pcp_answer,
    pcp_request,
    pmp_address,
    pmp_address_request,
    pmp_answer,
    pmp_request,
    ssdp_boot,
    ssdp_location,
    ssdp_searches,
)

NONCE = bytes(range(12))
OWN = bytes.fromhex("00000000000000000000ffffc0a8010a")
WAN = bytes.fromhex("00000000000000000000ffff05050502")


def pcp(nonce: bytes = NONCE, result: int = 0, port: int = 4001, address: bytes = WAN) -> bytes:
    """The answer of a router that gives port 5001."""
    head = bytes((2, 0x81, 0, result)) + (1800).to_bytes(4, "big") + bytes(16)
    return head + nonce + bytes((6, 0, 0, 0)) + port.to_bytes(2, "big") + (5001).to_bytes(2, "big") + address


def test_a_request_of_pcp_is_as_its_standard_has_it() -> None:
    request = pcp_request("192.168.1.10", NONCE, 4001, 4002, 3600)
    assert len(request) == 60
    assert request[:8] == bytes.fromhex("0201000000000e10")
    assert request[8:24] == OWN
    assert request[24:36] == NONCE
    assert request[36:44] == bytes.fromhex("060000000fa10fa2")
    assert request[44:] == bytes.fromhex("00000000000000000000ffff00000000")


def test_an_answer_of_pcp_is_for_its_request() -> None:
    assert pcp_answer(pcp(), NONCE, 4001) == MappedPort("5.5.5.2", 5001, 1800)
    assert pcp_answer(pcp(nonce=bytes(12)), NONCE, 4001) is None
    assert pcp_answer(pcp(port=4002), NONCE, 4001) is None
    assert pcp_answer(pcp(address=bytes(16)), NONCE, 4001) == MappedPort("", 5001, 1800)


@pytest.mark.parametrize("data", [b"", b"\x02", bytes(3), pcp()[:59], pcp()[:23], b"\x02\x01" + pcp()[2:]])
def test_what_is_no_answer_of_pcp_is_passed_over(data: bytes) -> None:
    assert pcp_answer(data, NONCE, 4001) is None


def test_a_router_that_speaks_the_other_protocol_says_so() -> None:
    with pytest.raises(MappingRefused) as refused:
        pcp_answer(bytes.fromhex("0080000100000000"), NONCE, 4001)
    assert refused.value.another_version
    with pytest.raises(MappingRefused) as refused:
        pmp_answer(bytes.fromhex("02820001") + bytes(20), 4001)
    assert refused.value.another_version
    with pytest.raises(MappingRefused, match="PCP result 2"):
        pcp_answer(pcp(result=2), NONCE, 4001)


def test_nat_pmp_asks_for_the_address_and_for_the_port() -> None:
    assert pmp_address_request() == bytes(2)
    assert pmp_request(4001, 5001, 3600) == bytes.fromhex("000200000fa1138900000e10")
    assert pmp_request(4001, 5001, 0) == bytes.fromhex("000200000fa1000000000000")
    assert pmp_address(bytes.fromhex("008000000000000705050502")) == "5.5.5.2"
    assert pmp_address(bytes.fromhex("008000000000000700000000")) is None
    answer = bytes.fromhex("00820000000000070fa1138900000708")
    assert pmp_answer(answer, 4001) == MappedPort("", 5001, 1800)
    assert pmp_answer(answer, 4002) is None
    assert pmp_answer(answer[:15], 4001) is None
    with pytest.raises(MappingRefused, match="NAT-PMP result 3"):
        pmp_answer(bytes.fromhex("00820003") + bytes(12), 4001)


def test_a_router_is_believed_only_where_it_answers_from() -> None:
    answer = b"HTTP/1.1 200 OK\r\nST: x\r\nLocation: http://192.168.1.1:5000/rootDesc.xml\r\n\r\n"
    assert ssdp_location(answer, "192.168.1.1") == "http://192.168.1.1:5000/rootDesc.xml"
    assert ssdp_location(answer, "192.168.1.2") is None
    assert ssdp_location(answer.replace(b"200 OK", b"404 No"), "192.168.1.1") is None
    assert ssdp_location(answer.replace(b"http:", b"file:"), "192.168.1.1") is None
    assert all(search.startswith(b"M-SEARCH * HTTP/1.1\r\n") for search in ssdp_searches())


def test_a_router_that_was_restarted_says_so_with_another_number() -> None:
    """As miniupnpd notifies; one from elsewhere, of another kind or with the same number says nothing."""

    def told(boot: bytes, nts: bytes = b"ssdp:alive") -> bytes:
        return b"NOTIFY * HTTP/1.1\r\nNTS: " + nts + b"\r\n01-NLS: " + boot + b"\r\n\r\n"

    assert ssdp_boot(told(b"17")) == b"17"
    assert ssdp_boot(b"NOTIFY * HTTP/1.1\r\nBOOTID.UPNP.ORG: 18\r\n") == b"18"
    assert ssdp_boot(b"NOTIFY * HTTP/1.1\r\nNTS: ssdp:alive\r\n") is None
    assert not is_ssdp_alive(told(b"17", b"ssdp:byebye"))
    assert not is_ssdp_alive(b"M-SEARCH" + told(b"17"))
    client = UpnpClient("192.168.1.10", 4001)
    assert not client.restarted(told(b"17"), "192.168.1.1")
    client._location = "http://192.168.1.1:5000/rootDesc.xml"
    # It did not say its number with its answer.
    assert not client.restarted(told(b"17"), "192.168.1.1")
    assert not client.restarted(told(b"18"), "192.168.1.2")
    assert not client.restarted(told(b"18", b"ssdp:byebye"), "192.168.1.1")
    assert not client.restarted(told(b"17"), "192.168.1.1")
    assert client.restarted(told(b"18"), "192.168.1.1")
    assert not client.restarted(told(b"18"), "192.168.1.1")


def test_a_nonce_has_its_length() -> None:
    assert new_nonce(bytes(range(16))) == NONCE
