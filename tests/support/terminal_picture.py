"""Draw docs/terminal.svg from fetches in terminals of four widths.

``python -m tests.support.terminal_picture``
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import tempfile
import termios
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.support.processes import Processes
from tests.support.sharing import LOOPBACK, MIB, random_file, share
from tests.support.sinks import swarm

PICTURE = Path(__file__).parents[2] / "docs" / "terminal.svg"
COLUMNS = (40, 60, 80, 120)
NAME = "debian-13.1.0-amd64.iso"
SECONDS = 6.0
FRAME = re.compile(r"\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*")


def last_frame(columns: int, argv: list[str], work: Path, env: dict[str, str]) -> str:
    """Run a command in a terminal so wide, and return what its lower end shows after some seconds."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    work.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, cwd=work, env={**env, "TERM": "xterm-256color"}
    )
    os.close(theirs)
    shown = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(ours, 65536):
                shown.extend(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    deadline = time.monotonic() + 30
    while b"left" not in shown and b"%" not in shown and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(SECONDS)
    frames = FRAME.split(shown.decode("utf-8", "replace"))
    process.terminate()
    process.wait(10)
    reader.join(5)
    os.close(ours)
    return frames[-1].replace("\r\n", "\n")


def main() -> None:
    """Fetch a file that is sent slowly, once for each width, and once with a table of peers."""
    console = Console(record=True, width=max(COLUMNS), file=io.StringIO())
    with tempfile.TemporaryDirectory() as name, Processes(Path(name) / "nodes") as processes:
        folder = Path(name)
        content = random_file(folder / NAME, 96 * MIB)
        seeder = share(processes, content, "--upload-limit", "6MiB/s")
        for columns, options in [*((each, ()) for each in COLUMNS), (100, ("--peers",))]:
            argv = swarm("fetch", seeder.link, "--output", f"out-{columns}", *LOOPBACK, *options)
            frame = last_frame(columns, argv, folder / "work", processes.environment(f"fetch-{columns}"))
            what = " ".join(("swarm fetch …", *options))
            console.print(Text(f"$ {what}    # {columns} columns", style="bold green"))
            console.print(Text.from_ansi(frame))
            console.print()
    drawn = console.export_svg(title="swarm fetch in terminals of several widths")
    # The fonts would be fetched from elsewhere; any monospaced one will do.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
