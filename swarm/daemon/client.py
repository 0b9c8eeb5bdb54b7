"""Asks the daemon over its Unix socket. Blocks; standard library alone, so that a command starts at once."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from swarm.content.paths import printable
from swarm.daemon import places
from swarm.errors import SwarmError

ANSWER_SECONDS: Final = 60.0
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024


class DaemonAway(SwarmError):
    """No daemon runs, or it does not answer (exit 9)."""

    exit_code = 9


class DaemonRefused(SwarmError):
    """The daemon answered that it cannot; ``exit_code`` is the one that it names."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, home: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._home = home

    def connect(self) -> None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(self.timeout)
        try:
            with places.socket_address(self._home) as address:
                made.connect(address)
        except BaseException:
            made.close()
            raise
        self.sock = made


class DaemonClient:
    """One connection to the daemon of a home; raises `DaemonAway` and `DaemonRefused`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._connection = _UnixConnection(home)
        self.made = False
        """Whether the last answer said that something is new."""

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """Read something."""
        return self._ask("GET", f"{path}?{urlencode(query)}" if query else path)

    def get_bytes(self, path: str) -> bytes:
        """Read something that is no JSON."""
        return self._exchange("GET", path, None)[1]

    def post(self, path: str, fields: dict[str, object]) -> dict[str, Any]:
        """Add something."""
        return self._ask("POST", path, fields)

    def patch(self, path: str, fields: dict[str, object]) -> dict[str, Any]:
        """Change something."""
        return self._ask("PATCH", path, fields)

    def delete(self, path: str) -> dict[str, Any]:
        """Remove something."""
        return self._ask("DELETE", path)

    def _ask(self, method: str, target: str, fields: dict[str, object] | None = None) -> dict[str, Any]:
        status, data = self._exchange(method, target, fields)
        self.made = status == http.client.CREATED
        return dict(_read(data))

    def _exchange(self, method: str, target: str, fields: dict[str, object] | None) -> tuple[int, bytes]:
        body = None if fields is None else json.dumps(fields).encode("ascii")
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self._connection.request(method, target, body, headers)
            with self._connection.getresponse() as response:
                data = response.read(MAX_ANSWER_BYTES)
                status = response.status
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise DaemonAway(
                f"no daemon runs for {printable(str(self._home))}: start one with 'swarm daemon'"
            ) from error
        except TimeoutError as error:
            raise DaemonAway(f"the daemon has not answered for {ANSWER_SECONDS:.0f} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise DaemonAway(f"the daemon does not answer: {error or type(error).__name__}") from error
        if status >= http.client.BAD_REQUEST:
            told = _read(data).get("error", {})
            raise DaemonRefused(str(told.get("message", status)), int(told.get("exit_code", 1)))
        return status, data


def _read(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise DaemonAway("what answers on the daemon's socket is no daemon") from error
    if not isinstance(found, dict):
        raise DaemonAway("what answers on the daemon's socket is no daemon")
    return found


def transfer_path(name: str) -> str:
    """The path of a transfer that a person names."""
    return f"/v1/transfers/{quote(os.fsencode(name), safe='')}"
