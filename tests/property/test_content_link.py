from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from swarm.content.link import MAX_LINK_PEERS, SwarmLink
from swarm.errors import ManifestError
from swarm.ids import ManifestId

ids = st.binary(min_size=32, max_size=32).map(ManifestId)
addresses = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
peers = st.lists(addresses.map(lambda text: f"/{text}"), unique=True, max_size=MAX_LINK_PEERS)
names = st.none() | st.text(min_size=1, max_size=30)


@settings(deadline=None, max_examples=300)
@given(ids, peers, names)
def test_round_trip(manifest: ManifestId, known: list[str], name: str | None) -> None:
    try:
        link = SwarmLink(manifest, tuple(known), name)
    except ManifestError:
        assume(False)
    text = str(link)
    assert text.isascii()
    assert not set(text) & set(" \"'<>`\\^{|}\n$!()*;,")
    assert SwarmLink.parse(text) == link
    assert SwarmLink.parse(link.bare()) == link
    assert not set(link.bare()) & set("?&")
    # A full stop at the end of a link may be that of the sentence.
    if not text.endswith("."):
        assert SwarmLink.pasted(f"  <{text}>\n") == link


@settings(deadline=None, max_examples=500)
@given(st.data())
def test_any_text_is_a_link_or_refused(data: st.DataObject) -> None:
    text = str(SwarmLink(ManifestId(bytes(32)), ("/ip4/1.2.3.4/tcp/1",), "a%b c"))
    at = data.draw(st.integers(0, len(text)))
    changed = text[:at] + data.draw(st.text(max_size=4)) + text[at + data.draw(st.integers(0, 4)) :]
    try:
        link = SwarmLink.parse(changed)
    except ManifestError:
        return
    assert SwarmLink.parse(str(link)) == link
