"""A real daemon for tests, and a client of its API over TCP that is not the project's own."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.processes import Processes
from tests.support.running import Running
from tests.support.sharing import LOOPBACK

ANSWER_SECONDS = 20.0


@dataclass
class Answered:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Daemon:
    """A running daemon; ``port`` is that of the page and the API."""

    process: Running
    home: Path
    port: int
    token: str = field(repr=False)

    def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str | None] | None = None
    ) -> Answered:
        """Ask over TCP with the token; a header of None is left out."""
        given: dict[str, str | None] = {
            "Host": f"127.0.0.1:{self.port}",
            "Authorization": f"Bearer {self.token}",
            "Content-Type": None if body is None else "application/json",
            **(headers or {}),
        }
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            if data is not None:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            return Answered(
                answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
            )
        finally:
            connection.close()

    def transfers(self) -> list[dict[str, Any]]:
        """The whole list."""
        answer = self.ask("GET", "/v1/transfers")
        assert answer.status == 200, answer.body
        found: list[dict[str, Any]] = answer.json()["transfers"]
        return found

    def until(
        self, name: str, wanted: Callable[[dict[str, Any]], bool], within: float = 30
    ) -> dict[str, Any]:
        """The transfer of that name or id, once ``wanted`` is true of it; asks whenever something changes."""
        version, known = "", {}
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            delta = self.ask("GET", f"/v1/transfers?since={version}&wait=2").json()
            version = delta["version"]
            if delta["whole"]:
                known = {}
            known.update({each["id"]: each for each in delta["transfers"]})
            for each in known.values():
                if name in {each["id"], each["name"]} and wanted(each):
                    return dict(each)
        raise AssertionError(f"{name} did not come so far: {known}")


def start_daemon(processes: Processes, *options: str, name: str = "daemon", **more: Any) -> Daemon:
    """Start a daemon in the home ``name``, and wait until it says that it is ready."""
    process = processes.swarm(
        "daemon", "--http", "127.0.0.1:0", *LOOPBACK, "--output", str(processes.work(name)), *options,
        name=name, **more,
    )  # fmt: skip
    page = process.line(r"^page: http://127\.0\.0\.1:(\d+)/$")
    process.address()
    home = processes.home(name)
    return Daemon(process, home, int(page[1]), (home / "api-token").read_text().strip())


def command(processes: Processes, *arguments: str | Path, code: int = 0, **more: Any) -> Running:
    """Run a command that talks to the daemon of `start_daemon`, to its end."""
    running = processes.swarm(*arguments, name="daemon", **more)
    running.expect_exit(code, within=60)
    return running


def kept(home: Path) -> list[str]:
    """The ids in the registry of a daemon that does not run."""
    import sqlite3

    database = sqlite3.connect(home / "daemon.sqlite")
    try:
        return [row[0] for row in database.execute("SELECT id FROM transfers ORDER BY added")]
    finally:
        database.close()


MANIFEST_ID = re.compile(r"^bafy[a-z0-9]+$", re.MULTILINE)
