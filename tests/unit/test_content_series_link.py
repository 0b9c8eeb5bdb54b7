"""Links of series: read as people paste them, never taken for the link of one content."""

from __future__ import annotations

import pytest

from swarm.content.link import MAX_LINK_PEERS, SwarmLink
from swarm.content.release import series_of
from swarm.content.series_link import SeriesLink, is_series_link
from swarm.errors import ManifestError
from swarm.origin_url import OriginUrl

SERIES = series_of(bytes(range(32)), "Größe, ~2 & more=1")
PEER = "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWD3bfmNbuuuVCYwkjnFt3ukm3qaB3hDED3peHHXawvRAi"
LINK = SeriesLink(
    SERIES, (PEER,), ("/dns4/meet.example.org/tcp/1/p2p/x",), (OriginUrl("https://e.org/a,b/"),)
)


def test_both_forms_are_read_as_they_were_written() -> None:
    assert SeriesLink.parse(str(LINK)) == LINK
    assert SeriesLink.parse(LINK.bare()) == LINK
    assert SeriesLink.parse(str(SeriesLink(SERIES))) == SeriesLink(SERIES)
    assert not set("?&'\" ~") & set(LINK.bare())


@pytest.mark.parametrize("wrapped", ["<{}>", "\u00ab{}\u00bb.", " '{}' ,", "\n{}\n"])
def test_it_is_read_as_it_is_pasted(wrapped: str) -> None:
    text = str(LINK)
    text = "SWARM://" + text.removeprefix("swarm:").replace("&", "&amp;")
    broken = text[:50] + "\r\n  " + text[50:]
    assert SeriesLink.pasted(wrapped.format(broken)) == LINK
    assert is_series_link(wrapped.format(broken))


def test_a_parser_of_plain_links_says_what_it_is() -> None:
    for text in (str(LINK), LINK.bare()):
        with pytest.raises(ManifestError, match="link of a series"):
            SwarmLink.parse(text)
    assert not is_series_link(
        "swarm:bafyr4ier7d6e2p75r6m7qob4sat6zrtqzenwt6yzhlaog5vpxlpounl53u?name=series/"
    )
    assert not is_series_link("series/x/y")


@pytest.mark.parametrize(
    "text",
    [
        "swarm:series/",
        "swarm:series/game",
        f"swarm:series/{SERIES.key}",
        f"swarm:series/{SERIES.key}/",
        f"swarm:series/{SERIES.key}/a/b",
        f"swarm:series/{SERIES.key}/a%2Fb",
        f"swarm:series/{SERIES.key}/a%zz",
        f"swarm:series/{SERIES.key}/%ff",
        f"swarm:series/{SERIES.key[:-1]}/a",
        "swarm:series/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N/a",
        f"swarm:series/{SERIES.key}/a?peer=nowhere",
        f"swarm:series/{SERIES.key}/a?origin=ftp://x",
        f"swarm:serie/{SERIES.key}/a",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ManifestError):
        SeriesLink.pasted(text)


def test_there_are_not_too_many_peers() -> None:
    with pytest.raises(ManifestError, match="at most"):
        SeriesLink(SERIES, (PEER,) * (MAX_LINK_PEERS + 1))


def test_what_is_shown_has_no_secrets() -> None:
    secret = SeriesLink(SERIES, (PEER,), (), (OriginUrl("https://user:pass@e.org/"),))
    assert "pass" in str(secret)
    assert "pass" not in secret.shown()
