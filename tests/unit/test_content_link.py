from __future__ import annotations

import subprocess
from collections.abc import Callable
from urllib.parse import quote

import pytest

from swarm.content.link import MAX_ADDRESS_BYTES, MAX_LINK_CHARS, MAX_LINK_PEERS, SwarmLink, is_link
from swarm.content.paths import MAX_TITLE_BYTES
from swarm.errors import ManifestError
from swarm.ids import ManifestId

ID = ManifestId(bytes(range(32)))
PEERS = ("/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWDpJ7", "/dns4/example.org/tcp/4001/p2p/QmaCpDMG")


def test_a_link_reads_as_it_is_written() -> None:
    text = str(SwarmLink(ID, PEERS, "my file & 100% +ü.txt"))
    assert text == (
        f"swarm:{ID}?name=my%20file%20%26%20100%25%20%2B%C3%BC.txt"
        "&peer=/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWDpJ7&peer=/dns4/example.org/tcp/4001/p2p/QmaCpDMG"
    )
    assert SwarmLink.parse(text) == SwarmLink(ID, PEERS, "my file & 100% +ü.txt")


@pytest.mark.parametrize("link", [SwarmLink(ID), SwarmLink(ID, PEERS), SwarmLink(ID, (), "x")])
def test_peers_and_name_may_be_absent(link: SwarmLink) -> None:
    assert SwarmLink.parse(str(link)) == link


def test_other_spellings_that_mean_the_same() -> None:
    assert SwarmLink.parse(f"SWARM:{ID}") == SwarmLink(ID)
    assert SwarmLink.parse(f"swarm:{ID}?") == SwarmLink(ID)
    assert SwarmLink.parse(f"swarm:{ID}?&later=1&peer={PEERS[0]}&") == SwarmLink(ID, PEERS[:1])
    assert SwarmLink.parse(f"swarm:{ID}?peer=%2Fip4%2f1.2.3.4%2ftcp%2f1&name=a+b") == SwarmLink(
        ID, ("/ip4/1.2.3.4/tcp/1",), "a+b"
    )


def test_a_peer_named_twice_counts_once() -> None:
    assert SwarmLink.parse(f"swarm:{ID}?peer={PEERS[0]}&peer={PEERS[1]}&peer={PEERS[0]}").peers == PEERS


def test_the_longest_link_can_be_read() -> None:
    peers = tuple(("/" + str(index)).ljust(MAX_ADDRESS_BYTES, "&") for index in range(MAX_LINK_PEERS))
    link = SwarmLink(ID, peers, "ü" * (MAX_TITLE_BYTES // 2))
    assert len(str(link)) <= MAX_LINK_CHARS
    assert SwarmLink.parse(str(link)) == link


@pytest.mark.parametrize(
    "text",
    [
        "",
        "swarm:",
        "swarm",
        "magnet:?xt=urn:btih:0",
        f"{ID}",
        f"swarm://{ID}",
        f" swarm:{ID}",
        f"swarm:{ID}\n",
        f"swarm:{ID} ?name=x",
        f"swarm:{str(ID).upper()}",
        f"swarm:{str(ID)[:-1]}",
        f"swarm:{ID}a",
        f"swarm:{ID}=",
        "swarm:bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        f"swarm:{ID}#fragment",
        f"swarm:{ID}?name=a&name=b",
        f"swarm:{ID}?name=",
        f"swarm:{ID}?name=..",
        f"swarm:{ID}?name=a%2Fb",
        f"swarm:{ID}?name=%00",
        f"swarm:{ID}?name=%1b%5b2J",
        f"swarm:{ID}?name=x.swarm-part",
        f"swarm:{ID}?name=%ff",
        f"swarm:{ID}?name=%ed%a0%80",
        f"swarm:{ID}?name=%c0%af",
        f"swarm:{ID}?name=%e2%80%ae",
        f"swarm:{ID}?name=a%2",
        f"swarm:{ID}?name=a%zz",
        f"swarm:{ID}?name=%+1",
        f"swarm:{ID}?name=ü",
        f"swarm:{ID}?peer=",
        f"swarm:{ID}?peer",
        f"swarm:{ID}?peer=12D3KooW",
        f"swarm:{ID}?peer=http://example.org",
        f"swarm:{ID}?peer=/",
        f"swarm:{ID}?peer=/ip4/1.2.3.4%20/tcp/1",
        f"swarm:{ID}?peer=/ip4/1.2.3.4%0a/tcp/1",
        f"swarm:{ID}?peer=/dns4/%c3%bc/tcp/1",
        f"swarm:{ID}?peer=/{'x' * MAX_ADDRESS_BYTES}",
        f"swarm:{ID}?" + "&".join(f"peer=/p/{index}" for index in range(MAX_LINK_PEERS + 1)),
        f"swarm:{ID}?x={'x' * MAX_LINK_CHARS}",
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ManifestError) as raised:
        SwarmLink.parse(text)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 200


def test_a_link_is_checked_when_made() -> None:
    for peers, name in ((("nowhere",), None), (("/ü",), None), ((), "..")):
        with pytest.raises(ManifestError):
            SwarmLink(ID, peers, name)


HARD = SwarmLink(ID, PEERS, "~it's $HOME (a) & ; b,c! 100%~.txt")


def test_a_link_means_nothing_to_a_shell_within_quotes() -> None:
    assert not set(str(HARD)) & set("'\"`\\$!()*;,<>|{}[]^~ \n")
    assert SwarmLink.parse(str(HARD)) == HARD


def test_the_bare_form_is_one_word_of_a_shell_and_means_the_same() -> None:
    text = HARD.bare()
    assert not set(text) & set("'\"`\\$!()*;<>|{}[]^~ \n?&#")
    assert SwarmLink.parse(text) == HARD
    words = subprocess.run(["sh", "-c", f"printf %s {text}"], capture_output=True, text=True, check=True)
    assert words.stdout == text


@pytest.mark.parametrize("form", [str, SwarmLink.bare])
@pytest.mark.parametrize(
    "wrap",
    [
        "{}",
        "{}\n",
        "  {}\r\n",
        "<{}>",
        "\u201c{}\u201d",
        "\u2018{}\u2019.",
        "\u00ab{}\u00bb,",
        "'{}'",
        "`{}`",
        '"{}",',
        "{}\u200b",
        "\ufeff{}",
        "\u201e<{}>\u201c!",
    ],
)
def test_a_pasted_link_is_found_in_what_surrounds_it(form: Callable[[SwarmLink], str], wrap: str) -> None:
    pasted = wrap.format(form(HARD))
    assert is_link(pasted)
    assert SwarmLink.pasted(pasted) == HARD


def test_a_pasted_link_may_be_wrapped_escaped_or_have_slashes() -> None:
    text = str(HARD)
    assert SwarmLink.pasted(text[:70] + "\r\n" + text[70:]) == HARD
    assert SwarmLink.pasted(text.replace("&", "&amp;")) == HARD
    assert SwarmLink.pasted(text.replace("swarm:", "swarm://")) == HARD
    assert SwarmLink.pasted(text.replace("swarm:", "SWARM:")) == HARD
    assert SwarmLink.pasted("swarm:" + quote(text.removeprefix("swarm:"), safe="?&=%")) == HARD


def test_what_is_no_link_is_none_when_pasted() -> None:
    for text in ("", "<>", "''", str(ID), f"peer swarm:{ID}", "https://example.org/swarm:"):
        assert not is_link(text)
        with pytest.raises(ManifestError):
            SwarmLink.pasted(text)
