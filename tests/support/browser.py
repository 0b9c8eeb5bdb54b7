"""Debian's Chromium, driven through the protocol of ChromeDriver (W3C WebDriver)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.web_servers import free_port

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
    "--disable-dev-shm-usage",
)  # fmt: skip
START_SECONDS = 30.0


class Browser:
    """One window. Leaving the block ends it, and the driver."""

    def __init__(self, folder: Path, width: int = 1100, height: int = 800) -> None:
        self._port = free_port()
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._driver = subprocess.Popen(
            [str(shutil.which("chromedriver")), f"--port={self._port}", "--silent"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        options = {
            "args": [*FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"],
            "binary": str(shutil.which("chromium")),
        }
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "unhandledPromptBehavior": "ignore",
        }
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
                break
            except OSError:
                if time.monotonic() > deadline:
                    self._driver.kill()
                    raise
                time.sleep(0.1)
        self._session = f"/session/{made['sessionId']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._call("DELETE", self._session)
        finally:
            self._driver.kill()
            self._driver.wait()

    def _call(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json"},
        )
        with self._open(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]

    def open(self, address: str) -> None:
        """Show a page."""
        self._call("POST", f"{self._session}/url", {"url": address})

    def run(self, script: str, *arguments: object) -> Any:
        """Run a function's body in the page; returns its value."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": arguments})

    def until(self, expression: str, within: float = 20.0) -> Any:
        """The value of an expression once it is true."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if value := self.run(f"return {expression}"):
                return value
            time.sleep(0.05)
        raise AssertionError(
            f"not so in {within} s: {expression}\n{self.run('return document.body.innerText')}"
        )

    def press(self, keys: str) -> None:
        """Press keys, one after the other, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        keyboard = {"type": "key", "id": "keyboard", "actions": actions}
        self._call("POST", f"{self._session}/actions", {"actions": [keyboard]})

    def accept(self) -> str:
        """Say yes to a question of the page; returns the question."""
        question = self._call("GET", f"{self._session}/alert/text")
        self._call("POST", f"{self._session}/alert/accept", {})
        return str(question)

    def command(self, name: str, **parameters: object) -> Any:
        """A command of the browser's own protocol, such as ``Emulation.setEmulatedMedia``."""
        return self._call("POST", f"{self._session}/goog/cdp/execute", {"cmd": name, "params": parameters})

    def picture(self, path: Path) -> None:
        """Write what is shown as a PNG file."""
        path.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))

    def complaints(self) -> list[str]:
        """What the console has shown since the last call."""
        return [
            each["message"] for each in self._call("POST", f"{self._session}/se/log", {"type": "browser"})
        ]

    def requests(self) -> list[str]:
        """The addresses that were asked since the last call."""
        entries = self._call("POST", f"{self._session}/se/log", {"type": "performance"})
        messages = [json.loads(each["message"])["message"] for each in entries]
        return [
            each["params"]["request"]["url"]
            for each in messages
            if each["method"] == "Network.requestWillBeSent"
        ]
