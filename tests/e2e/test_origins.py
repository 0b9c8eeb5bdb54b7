"""`swarm share` and `swarm fetch` with nginx and Caddy: from a web server alone, odd names, secrets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from swarm.content.link import SwarmLink
from swarm.origin_url import OriginUrl
from tests.support.processes import Processes
from tests.support.requirements import MAY_INSTALL
from tests.support.sharing import LOOPBACK, MIB, fetch, random_file, sha256, share, tree
from tests.support.web_servers import Asked, Caddy, Nginx, ScriptedServer, certificate

pytestmark = MAY_INSTALL
MANY = 3000
ODD = (
    "ü ö",
    "100%",
    "a#b",
    "plus+and&",
    "semi;colon",
    "ünï/cödé",
    "e\u0301",
    "日本/語 テスト",
    "[x]{y}",
    "a'b",
    "~t!$(),=@",
)


def _odd_folder(folder: Path) -> Path:
    for number in range(MANY):
        name = ODD[number % len(ODD)]
        path = folder / f"{number % 50}" / f"{name} {number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d " % number * (number % 40))
    return folder


def _published(processes: Processes, content: Path, *options: str) -> tuple[Path, str]:
    """Share it for a moment; return its manifest without addresses, and its link."""
    seeder = share(processes, content, *options)
    seeder.process.terminate()
    seeder.process.expect_exit(143)
    return seeder.manifest, seeder.link


def test_three_thousand_odd_names_from_nginx_alone(processes: Processes, tmp_path: Path) -> None:
    content = _odd_folder(tmp_path / "www" / "Größe & 100% #1")
    server = Nginx(processes, tmp_path / "www")
    manifest, _ = _published(processes, content)
    leecher = fetch(processes, manifest, tmp_path / "out", "--origin", server.url)
    leecher.expect_exit(0, 90)
    received = tmp_path / "out" / content.name
    subprocess.run(["diff", "-r", str(content), str(received)], check=True)
    assert len(tree(received)) == MANY


@pytest.mark.parametrize("kind", [Nginx, Caddy])
def test_a_file_alone_in_few_requests_and_a_link_without_peers(
    processes: Processes, tmp_path: Path, kind: type[Nginx | Caddy]
) -> None:
    content = random_file(tmp_path / "www" / "disk.iso", 64 * MIB + 17)
    server = kind(processes, tmp_path / "www")
    seeder = share(processes, content, "--origin", server.url)
    seeder.process.terminate()
    seeder.process.expect_exit(143)
    link = SwarmLink.pasted(seeder.link)
    assert link.origins == (OriginUrl(server.url),)
    # The publisher puts the manifest beside the content, and gives away the link alone.
    (tmp_path / "www" / "disk.iso.swarm").write_bytes(seeder.written.read_bytes())
    bare = str(SwarmLink(link.id, name=link.name, origins=link.origins))
    leecher = fetch(processes, bare, tmp_path / "out")
    leecher.expect_exit(0, 60)
    assert sha256(tmp_path / "out" / "disk.iso") == sha256(content)
    if isinstance(server, Nginx):
        size = content.stat().st_size
        parts = server.parts(size)
        assert sum(parts) == size
        assert len(parts) <= 7
    # The file alone is enough, too: it names the server.
    by_file = fetch(processes, seeder.written, tmp_path / "by-file", name="by-file")
    by_file.expect_exit(0, 60)
    assert sha256(tmp_path / "by-file" / "disk.iso") == sha256(content)


def test_https_is_checked_by_the_authorities_that_are_given(processes: Processes, tmp_path: Path) -> None:
    content = random_file(tmp_path / "www" / "file", MIB)
    own = certificate(tmp_path)
    server = Nginx(processes, tmp_path / "www", certificate=own)
    manifest, _ = _published(processes, content)
    origin = ("--origin", server.url)
    refused = fetch(processes, manifest, tmp_path / "no", *origin, "--patience", "2")
    refused.expect_exit(4, 30)
    assert "its certificate is refused" in refused.errors()
    assert f"origin {server.url}" in refused.errors()
    leecher = fetch(processes, manifest, tmp_path / "out", *origin, "--origin-ca", str(tmp_path / "cert.pem"))
    leecher.expect_exit(0, 30)
    assert sha256(tmp_path / "out" / "file") == sha256(content)


def test_what_came_from_the_origin_goes_on_to_others(processes: Processes, tmp_path: Path) -> None:
    content = random_file(tmp_path / "www" / "file", 4 * MIB)
    server = Nginx(processes, tmp_path / "www")
    manifest, _ = _published(processes, content)
    first = fetch(processes, manifest, tmp_path / "one", "--origin", server.url, "--seed")
    first.event("transfer_complete", 30)
    second = fetch(processes, manifest, tmp_path / "two", first.address())
    second.expect_exit(0, 30)
    assert sha256(tmp_path / "two" / "file") == sha256(content)
    size = content.stat().st_size
    assert sum(server.parts(size)) == size


def test_check_names_the_file_that_differs(processes: Processes, tmp_path: Path) -> None:
    folder = tmp_path / "here" / "release"
    for number in range(5):
        random_file(folder / f"file {number}", MIB, number)
    there = tmp_path / "www" / "release"
    there.parent.mkdir()
    subprocess.run(["cp", "-r", str(folder), str(there)], check=True)
    random_file(there / "file 3", MIB, 9)
    (there / "file 1").unlink()
    with (there / "file 4").open("ab") as file:
        file.write(b"more")
    server = Nginx(processes, tmp_path / "www")
    check = processes.swarm("share", str(folder), *LOOPBACK, "--origin", server.url, "--check")
    check.expect_exit(6, 60)
    told = "\n".join(check.lines("^origin"))
    assert "file%201: it does not give the file (404)" in told
    assert "file 3: piece " in told
    assert f"file%204: the file there has {MIB + 4} bytes, not {MIB}" in told
    assert len(check.lines("^origin")) == 3
    gone = processes.swarm("share", str(folder), *LOOPBACK, "--origin", "http://127.0.0.1:9/", "--check")
    gone.expect_exit(4, 60)
    assert "connection refused" in gone.errors()


def test_secrets_appear_nowhere(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "file", 2 * MIB).read_bytes()
    secrets = ("u53rn4m3", "p455w0rd", "t0k3n", "m0v3d")
    failing: list[bool] = []

    def answer(asked: Asked) -> None:
        assert "p455w0rd" not in asked.target
        if asked.target == "/file?key=t0k3n":
            assert asked.headers["authorization"].startswith("Basic ")
            asked.say("302 Found", "Location: /there?key=m0v3d")
        elif not failing:
            failing.append(True)
            asked.say("500 m0v3d t0k3n", "X-Secret: t0k3n", body=b"t0k3n")
        else:
            asked.part()

    with ScriptedServer(data, answer) as server:
        url = server.url.replace("://", "://u53rn4m3:p455w0rd@") + "file?key=t0k3n"
        loud = ("-vv", "--debug")
        seeder = share(processes, tmp_path / "file", "--origin", url, *loud)
        assert SwarmLink.pasted(seeder.link).origins == ()
        first = fetch(processes, seeder.manifest, tmp_path / "one", "--origin", url, "--seed", *loud)
        first.event("transfer_complete", 30)
        link = str(
            SwarmLink(SwarmLink.pasted(seeder.link).id, (seeder.address,), "file", (), (OriginUrl(url),))
        )
        second = processes.swarm(
            "fetch", link, first.address(), "--output", str(tmp_path / "two"), *LOOPBACK, "--seed", *loud
        )
        second.line("swarm:", 60)
        third = processes.swarm("fetch", link, "nonsense", "-o", str(tmp_path / "three"), *LOOPBACK, *loud)
        third.wait(60)
        fourth = fetch(processes, url, tmp_path / "four", *loud)
        fourth.wait(60)
        fifth = fetch(
            processes, seeder.manifest, tmp_path / "five", "--origin", url.replace("http", "ftp"), *loud
        )
        fifth.expect_exit(2, 60)
        sixth = processes.swarm("share", str(tmp_path / "file"), *LOOPBACK, "--origin", url, "--check", *loud)
        sixth.expect_exit(0, 60)
        running = (seeder.process, first, second, third, fourth, fifth, sixth)
        for each in running:
            each.terminate()
            each.wait(30)
    told = "\n".join("\n".join((*each.lines(), each.errors())) for each in running)
    kept = b"\n".join(
        path.read_bytes()
        for folder in (processes.folder, tmp_path)
        for path in folder.rglob("*")
        if path.is_file() and path.stat().st_size < MIB
    )
    for secret in secrets:
        assert secret not in told
        assert secret.encode() not in kept
