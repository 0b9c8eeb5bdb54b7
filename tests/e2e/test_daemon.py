"""A daemon as users meet it: real processes, its commands, its API over TCP."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import stat
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons import command, kept, start_daemon
from tests.support.nodes import NOBODY
from tests.support.processes import Processes
from tests.support.requirements import MAY_INSTALL, require_program
from tests.support.sharing import MIB, fetch, random_file, sha256, share

pytestmark = pytest.mark.e2e

NAME = "daemon"


def add(processes: Processes, *arguments: str | Path) -> dict[str, Any]:
    return command(processes, "add", *arguments, "--json").event("transfer_added")


def listed(processes: Processes, *arguments: str) -> list[dict[str, Any]]:
    return command(processes, "status", *arguments, "--json").events("transfer_listed")


def test_what_is_added_is_shared_and_fetched_by_the_daemon(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "a & b's név.bin", 3 * MIB)
    other = random_file(tmp_path / "other.bin", 2 * MIB, seed=8)
    daemon = start_daemon(processes)
    shared = command(processes, "add", data)
    manifest, link = shared.lines()[:2]
    assert manifest.startswith("bafy")
    leecher = fetch(processes, link, tmp_path / "copy")
    leecher.expect_exit(0)
    assert sha256(tmp_path / "copy" / data.name) == sha256(data)

    # The other way round: the daemon fetches, from a link as people paste it.
    seeder = share(processes, other)
    added = add(processes, f"<{seeder.link}>", "--output", tmp_path / "into")
    assert added["new"]
    assert added["manifest"] == seeder.process.lines()[1]
    done = daemon.until("other.bin", lambda each: each["complete"])
    assert done["state"] == "seeding"
    assert sha256(tmp_path / "into" / "other.bin") == sha256(other)
    assert [each["name"] for each in listed(processes)] == [data.name, "other.bin"]
    details = daemon.ask("GET", f"/v1/transfers/{added['id']}").json()
    assert details["sources"][0]["received"] == 2 * MIB
    assert [(each["path"], each["size"]) for each in details["files"]] == [("other.bin", 2 * MIB)]
    # The same again changes nothing.
    again = add(processes, seeder.link, "--output", tmp_path / "into")
    assert (again["id"], again["new"]) == (added["id"], False)
    # The same content at another place cannot be had twice.
    refused = command(processes, "add", seeder.link, "--output", tmp_path / "elsewhere", code=2)
    assert "has that content already" in refused.errors()


def test_pause_resume_limit_and_remove(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data.bin", MIB)
    daemon = start_daemon(processes)
    added = add(processes, data)
    assert command(processes, "pause", "data.bin").lines() == [added["id"]]
    assert daemon.until("data.bin", lambda each: each["state"] == "paused")
    leecher = fetch(processes, added["link"], tmp_path / "one", "--patience", "1")
    assert leecher.wait() in {4, 5}
    command(processes, "resume", added["id"][:6])
    fetch(processes, added["link"], tmp_path / "two").expect_exit(0)
    command(processes, "limit", "data.bin", "--upload-limit", "2MB/s")
    command(processes, "limit", "--download-limit", "3MB/s")
    assert listed(processes)[0]["upload_limit"] == 2_000_000
    node = daemon.ask("GET", "/v1/status").json()["node"]
    assert (node["upload_limit"], node["download_limit"]) == (None, 3_000_000)
    command(processes, "pause", "data.bin")
    daemon.process.kill()
    daemon.process.wait()
    # All of that is kept, and a pause lasts.
    daemon = start_daemon(processes)
    found = listed(processes)[0]
    assert (found["state"], found["upload_limit"], found["size"]) == ("paused", 2_000_000, MIB)
    assert daemon.ask("GET", "/v1/status").json()["node"]["download_limit"] == 3_000_000
    command(processes, "limit", "data.bin", "--upload-limit", "none")
    command(processes, "resume", "data.bin")
    fetch(processes, added["link"], tmp_path / "three").expect_exit(0)
    command(processes, "remove", "data.bin")
    assert listed(processes) == []
    assert data.exists()
    assert "no transfer is called" in command(processes, "pause", "data.bin", code=2).errors()
    # Sharing it again is no other matter than the first time.
    assert add(processes, data)["new"]


def test_a_kill_costs_no_hashing_and_no_peer(processes: Processes, tmp_path: Path) -> None:
    """A complete fetch is seeded again though whoever it came from is gone."""
    data = random_file(tmp_path / "data.bin", 4 * MIB)
    time.sleep(0.2)
    seeder = share(processes, data)
    daemon = start_daemon(processes)
    link = add(processes, seeder.link, "--output", tmp_path / "into")["link"]
    daemon.until("data.bin", lambda each: each["complete"])
    seeder.process.stop()
    daemon.process.kill()
    daemon.process.wait()
    daemon = start_daemon(processes)
    found = daemon.until("data.bin", lambda each: each["state"] == "seeding")
    assert found["link"] == link
    assert found["hashed"] == 0
    fetch(processes, link, tmp_path / "copy").expect_exit(0)


def test_without_a_daemon_and_with_a_second_one(processes: Processes, tmp_path: Path) -> None:
    for arguments in (
        ("status",),
        ("add", str(tmp_path)),
        ("pause", "x"),
        ("limit", "--upload-limit", "1MB"),
    ):
        failed = command(processes, *arguments, code=9)
        assert "\n" not in failed.errors()
        assert "start one with 'swarm daemon'" in failed.errors()
    daemon = start_daemon(processes)
    second = processes.swarm("daemon", name=NAME)
    second.expect_exit(8)
    assert "a daemon runs" in second.errors()
    for address in ("0.0.0.0:1", "192.0.2.1:80", "127.0.0.1", "localhost:99999", "[::]:1"):
        processes.swarm("daemon", "--http", address).expect_exit(2)
    taken = processes.swarm("daemon", "--http", f"127.0.0.1:{daemon.port}")
    taken.expect_exit(2)
    assert "cannot listen" in taken.errors()
    assert listed(processes) == []


def test_what_cannot_be_added_is_one_line(processes: Processes, tmp_path: Path) -> None:
    start_daemon(processes, "--no-lan")
    for content, code in (
        (str(tmp_path / "none"), 2),
        ("warm:" + "x" * 300, 2),
        ("swarm:nonsense", 3),
        ("bafynonsense" + "a" * 50, 3),
    ):
        failed = command(processes, "add", content, code=code)
        assert "\n" not in failed.errors()
    (tmp_path / "bad.swarm").write_bytes(b"no manifest")
    command(processes, "add", str(tmp_path / "bad.swarm"), code=3)
    (tmp_path / "bad|name").write_bytes(b"x")
    command(processes, "add", str(tmp_path / "bad|name"), code=2)
    (no_utf8 := tmp_path / os.fsdecode(b"caf\xe9")).write_bytes(b"x")
    refused = command(processes, "add", no_utf8, "--name", "cafe", code=2)
    assert "not UTF-8" in refused.errors()
    # Whose manifest nobody can be asked for fails at once, though its id is known.
    alone = "bafyr4i" + "a" * 52
    assert "names no peer" in command(processes, "add", alone, code=2).errors()
    assert listed(processes) == []
    awaited = command(processes, "add", alone, "--peer", NOBODY)
    assert awaited.lines()[0] == alone
    assert f"the daemon fetches {alone}: swarm status" in awaited.errors()
    command(processes, "remove", alone)
    assert listed(processes) == []


# --- The API ------------------------------------------------------------------------------------------


def test_only_the_user_gets_an_answer(processes: Processes, tmp_path: Path) -> None:
    daemon = start_daemon(processes)
    for name in ("api-token", "daemon.sock", "daemon.sqlite", "daemon.lock"):
        assert stat.S_IMODE((daemon.home / name).stat().st_mode) & 0o077 == 0, name
    for path in ("/v1/transfers", "/v1/events", "/metrics", "/v1/openapi.json"):
        assert daemon.ask("GET", path, headers={"Authorization": None}).status == 401
        assert daemon.ask("GET", path, headers={"Host": f"evil.example:{daemon.port}"}).status == 403
        assert daemon.ask("GET", path, headers={"Origin": "http://evil.example"}).status == 403
    link = {"path": str(tmp_path)}
    for headers in (
        {"Authorization": None},
        {"Origin": "http://evil.example"},
        {"Host": "evil.example"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ):
        assert daemon.ask("POST", "/v1/transfers", link, headers).status in {401, 403, 415}
    # What is only read changes nothing, whatever it is called.
    for path in ("/v1/transfers?link=swarm:x", "/v1/limits", "/v1/transfers/x"):
        daemon.ask("GET", path)
    assert daemon.ask("GET", "/v1/limits").status == 405
    assert daemon.ask("PUT", "/v1/transfers", {}).status == 405
    assert daemon.transfers() == []


def test_a_token_that_is_open_to_others_is_closed(processes: Processes) -> None:
    home = processes.home(NAME)
    (home / "api-token").write_text("a" * 40 + "\n")
    (home / "api-token").chmod(0o644)
    daemon = start_daemon(processes)
    assert stat.S_IMODE((home / "api-token").stat().st_mode) == 0o600
    assert daemon.token == "a" * 40
    assert daemon.ask("GET", "/v1/status").status == 200


def test_whoever_starts_it_is_told_where_the_token_is_and_others_are_not(processes: Processes) -> None:
    daemon = start_daemon(processes)
    (told,) = [line for line in daemon.process.lines() if line.startswith("token of the page: in ")]
    assert Path(told.partition(" in ")[2]).read_text().strip() == daemon.token
    refused = daemon.ask("GET", "/v1/status", headers={"Authorization": None})
    assert refused.status == 401
    assert b"in the file that 'swarm daemon' names beside its page" in refused.body
    assert str(daemon.home).encode() not in refused.body


def test_oversized_and_slow_requests_are_ended(processes: Processes) -> None:
    daemon = start_daemon(processes)
    assert daemon.ask("GET", "/", headers={"X": "a" * 20_000}).status == 431
    assert daemon.ask("POST", "/v1/transfers", b"[" * 200_000).status == 413
    assert daemon.ask("POST", "/v1/transfers", b'{"path": "/", "wrong": 1}').status == 400
    slow = socket.create_connection(("127.0.0.1", daemon.port), timeout=30)
    slow.sendall(b"GET / HTTP/1.1\r\nHost: 127.0")
    began = time.monotonic()
    silent = [socket.create_connection(("127.0.0.1", daemon.port), timeout=30) for _ in range(80)]
    # The commands go another way, which strangers do not reach.
    assert command(processes, "status").exit_code == 0
    assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
    assert 8 < time.monotonic() - began < 15
    for each in silent:
        assert each.recv(100)[:12] in {b"", b"HTTP/1.1 503"}
        each.close()
    slow.close()
    assert daemon.ask("GET", "/v1/status").status == 200


def test_events_come_as_they_happen(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data.bin", MIB)
    daemon = start_daemon(processes)
    stream = socket.create_connection(("127.0.0.1", daemon.port), timeout=20)
    stream.sendall(
        f"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\n"
        f"Authorization: Bearer {daemon.token}\r\n\r\n".encode()
    )
    lines = stream.makefile("r", encoding="utf-8", newline="\n")
    assert next(line for line in lines if line.startswith("event:")) == "event: snapshot\n"
    add(processes, data)
    ready = next(line for line in lines if '"manifest_ready"' in line)
    assert json.loads(ready.removeprefix("data: "))["name"] == "data.bin"
    stream.close()


def test_the_answers_are_as_the_document_says(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data.bin", MIB)
    daemon = start_daemon(processes)
    document = daemon.ask("GET", "/v1/openapi.json").json()
    seen = set()

    def check(method: str, path: str, body: object = None, status: int = 200, real: str = "") -> Any:
        answer = daemon.ask(method.upper(), real or path, body)
        assert answer.status == status, answer.body
        described = document["paths"][path][method]["responses"][str(status)]
        kind = answer.headers["content-type"].partition(";")[0]
        schema = described["content"][kind].get("schema")
        seen.add((path, method))
        if kind == "application/json" and schema is not None:
            conforms(answer.json(), schema, document)
            return answer.json()
        return None

    one = "/v1/transfers/{id}"
    added = check("post", "/v1/transfers", {"path": str(data)}, 201)
    check("post", "/v1/transfers", {"path": str(data)}, 200)
    check("post", "/v1/transfers", {"path": "relative"}, 400)
    check("get", "/v1/transfers")
    check("get", "/v1/status")
    daemon.until("data.bin", lambda each: each["state"] == "seeding")
    real = f"/v1/transfers/{added['id']}"
    check("get", one, real=real)
    check("get", f"{one}/manifest", real=f"{real}/manifest")
    check("get", f"{one}/qr", real=f"{real}/qr")
    check("patch", one, {"paused": True, "upload_limit": 5, "ratio": 1.5, "copies": 0}, real=real)
    check("patch", one, {"copies": -1}, 400, real=real)
    check("patch", one, {"upload_limit": 0}, 400, real=real)
    check("patch", "/v1/limits", {"download_limit": 10_000, "seed_seconds": 60, "schedule": ["up 1MB/s"]})
    check("patch", "/v1/limits", {"schedule": ["never"]}, 400)
    check("delete", one, real=real)
    check("delete", one, status=404, real=real)
    check("get", "/metrics")
    check("get", "/v1/openapi.json")
    seen |= {("/v1/events", "get"), ("/v1/transfers/{id}/files/{number}", "get")}
    everything = {
        (path, method)
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert seen == everything


def conforms(value: Any, schema: dict[str, Any], document: dict[str, Any], at: str = "") -> None:
    """Fail unless a value has the schema: the few keywords that the document uses."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        assert value in schema["enum"], at
        return
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    kind = "null" if value is None else names[type(value)]
    assert kind in kinds or (kind == "integer" and "number" in kinds), (at, value)
    if kind in {"integer", "number"}:
        assert schema.get("minimum", value) <= value <= schema.get("maximum", value), (at, value)
    if kind == "object":
        assert set(schema["required"]) <= set(value) <= set(schema["properties"]), (at, set(value))
        for name, each in value.items():
            conforms(each, schema["properties"][name], document, f"{at}.{name}")
    if kind == "array":
        for index, each in enumerate(value):
            conforms(each, schema["items"], document, f"{at}[{index}]")


@MAY_INSTALL
def test_prometheus_takes_the_metrics(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data.bin", MIB)
    daemon = start_daemon(processes)
    fetch(processes, add(processes, data)["link"], tmp_path / "copy").expect_exit(0)
    publisher = daemon.ask("GET", "/v1/status").json()["node"]["peer"]
    series = {"link": f"swarm:series/{publisher}/a%27b", "paused": True}
    assert daemon.ask("POST", "/v1/transfers", series).status == 201
    # Bytes that have moved are summed up for a moment before they are told.
    deadline = time.monotonic() + 20
    while f"swarm_sent_bytes_total {MIB}\n" not in (text := daemon.ask("GET", "/metrics").body.decode()):
        assert time.monotonic() < deadline, text
        time.sleep(0.02)
    assert 'swarm_transfers{state="seeding"} 1\n' in text
    events = re.search(r"^swarm_events_total (\d+)$", text, re.MULTILINE)
    assert events
    assert 0 < int(events[1]) < 1000
    check_dashboard(text)
    promtool = require_program("promtool", "prometheus")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def check_dashboard(metrics: str) -> None:
    """Every metric and label of docs/grafana-swarm.json is in the metrics, and none of these is left out."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", metrics, re.MULTILINE))
    labels: dict[str, set[str]] = {}
    for name, given in re.findall(r"^(swarm_\w+)(?:\{(.*?)\})? ", metrics, re.MULTILINE):
        labels.setdefault(name, set()).update(re.findall(r"(\w+)=", given))
    dashboard = json.loads((Path(__file__).parents[2] / "docs" / "grafana-swarm.json").read_text())
    used = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            names = re.findall(r"\bswarm_\w+", target["expr"])
            assert names, panel["title"]
            assert set(names) <= set(labels), panel["title"]
            used |= {name.removesuffix("_bucket") for name in names}
            for group in re.findall(r"by \((\w+)\)", target["expr"]):
                assert all(group in labels[name] for name in names), panel["title"]
            # A counter is of use as a rate alone, and nothing else has one.
            counted = [kinds.get(name) == "counter" for name in names]
            assert all(counted) == any(counted) == bool(re.search(r"rate\(|increase\(", target["expr"]))
    assert used == set(kinds)


# --- The service --------------------------------------------------------------------------------------


def test_a_service_manager_is_told_the_truth(processes: Processes, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        daemon = start_daemon(processes, env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert manager.recv(4096).startswith(b"READY=1\n")
        assert daemon.ask("GET", "/v1/status").status == 200
        daemon.process.terminate()
        assert manager.recv(4096) == b"STOPPING=1"
        daemon.process.expect_exit(143, within=20)
    assert not (daemon.home / "daemon.sock").exists()


def test_an_end_while_much_goes_on_keeps_everything(processes: Processes, tmp_path: Path) -> None:
    daemon = start_daemon(processes)
    for number in range(20):
        path = random_file(tmp_path / "many" / str(number), 100_000, seed=number)
        assert daemon.ask("POST", "/v1/transfers", {"path": str(path)}).status == 201
    stream = socket.create_connection(("127.0.0.1", daemon.port))
    stream.sendall(
        f"GET /v1/events HTTP/1.1\r\nHost: localhost:{daemon.port}\r\n"
        f"Authorization: Bearer {daemon.token}\r\n\r\n".encode()
    )
    daemon.process.terminate()
    daemon.process.expect_exit(143, within=20)
    stream.close()
    assert len(kept(daemon.home)) == 20


def test_reads_are_answered_while_the_disk_stalls(processes: Processes, tmp_path: Path) -> None:
    """Whoever holds the database makes every change wait, as a disk that does not answer would."""
    daemon = start_daemon(processes)
    path = random_file(tmp_path / "data.bin", 1000)
    database = sqlite3.connect(daemon.home / "daemon.sqlite", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    answers: list[int] = []

    def add_one() -> None:
        answers.append(daemon.ask("POST", "/v1/transfers", {"path": str(path)}).status)

    adding = threading.Thread(target=add_one)
    adding.start()
    # All of them while the change waits, which the daemon gives up after five seconds.
    for _ in range(3):
        for read in ("/v1/transfers", "/v1/status", "/metrics", "/"):
            assert daemon.ask("GET", read).status == 200
    assert answers == []
    database.execute("ROLLBACK")
    database.close()
    adding.join()
    assert answers == [201]
    assert daemon.until("data.bin", lambda each: each["state"] == "seeding")
