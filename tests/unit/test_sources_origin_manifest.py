"""The manifest that lies beside the content on a web server: what is taken for it, and how much is read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from swarm.content.envelope import Envelope
from swarm.origin_url import OriginUrl
from swarm.sources import origin_manifest
from swarm.sources.origin_manifest import ManifestFault, manifest_of
from swarm.sources.origin_source import MAX_REDIRECTS, OriginSettings
from tests.support.contents import file_manifest
from tests.support.web_servers import Asked, ScriptedServer, serving

ENVELOPE = Envelope(file_manifest("file.bin", bytes(100_000)))
OTHER = Envelope(file_manifest("other.bin", bytes(10)))
DATA = ENVELOPE.plain_bytes()
MOST = 10_000


async def asked_for(answer: Callable[[Asked], object], path: str = "") -> tuple[ScriptedServer, Envelope]:
    with serving(DATA, answer) as server, trio.fail_after(20):
        settings = OriginSettings(trio.CapacityLimiter(1))
        url = OriginUrl(f"{server.url}{path}")
        return server, await manifest_of(url, "file.bin", ENVELOPE.manifest.id, settings)


async def test_it_lies_beside_the_content() -> None:
    for path in ("", "file.bin"):
        server, found = await asked_for(lambda asked: asked.say("200 OK", body=DATA), path)
        assert found == ENVELOPE
        assert [asked.target for asked in server.asked] == ["/file.bin.swarm"]
        assert not server.asked[0].ranged


async def test_redirects_are_followed_a_few_times() -> None:
    def answer(asked: Asked) -> None:
        if asked.target == "/there":
            asked.say("200 OK", body=DATA)
        else:
            asked.say("301 Moved Permanently", "Location: /there")

    assert (await asked_for(answer))[1] == ENVELOPE
    count = 0

    def loop(asked: Asked) -> None:
        nonlocal count
        count += 1
        asked.say("302 Found", f"Location: /{count}")

    with pytest.raises(ManifestFault, match=f"redirects more than {MAX_REDIRECTS} times"):
        await asked_for(loop)
    assert count == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda asked: asked.say("200 OK", body=OTHER.plain_bytes()), "not the manifest of this id"),
        (lambda asked: asked.say("200 OK", body=DATA[:-1]), "not the manifest of this id"),
        (lambda asked: asked.say("200 OK", "Content-Encoding: gzip", body=DATA), "encoding"),
        (lambda asked: asked.say("404 Not Found", body=b"no"), r"does not give the manifest \(404\)"),
        (lambda asked: asked.say("206 Partial Content", body=DATA), r"\(206\)"),
        (lambda asked: asked.say("302 Found", "Location: file:///etc/passwd"), "somewhere else"),
    ],
)
async def test_what_is_not_it_is_refused_in_one_line(answer: Callable[[Asked], object], reason: str) -> None:
    with pytest.raises(ManifestFault, match=reason) as caught:
        await asked_for(answer)
    assert "\n" not in str(caught.value)


async def test_a_body_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin_manifest, "MAX_ENVELOPE_BYTES", MOST)
    sent = 0

    def claims(asked: Asked) -> bool:
        asked.say("200 OK", body=b"", length=MOST + 1)
        return asked.wire.recv(1) != b""  # until it hangs up

    with pytest.raises(ManifestFault, match="too long"):
        await asked_for(claims)

    def drips(asked: Asked) -> bool:
        nonlocal sent
        asked.wire.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:  # ends with an error when it hangs up
            sent += 1000  # counted before: it may hang up while this one is sent
            asked.wire.sendall(b"3e8\r\n" + bytes(1000) + b"\r\n")

    with pytest.raises(ManifestFault, match="too long"):
        await asked_for(drips)
    assert MOST < sent < 32 << 20  # what lies in the buffers of both ends
