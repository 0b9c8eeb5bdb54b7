"""What benchmarks of whole processes need: a file, readings of a process, tables, the page of figures."""

from __future__ import annotations

import compileall
import hashlib
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from tests.support.processes import Running

MB = 10**6
GB = 10**9
MIB = 1 << 20
PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
SUFFIXES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse_size(text: str) -> int:
    """Return bytes of ``1GiB``, ``256MiB`` or a plain number."""
    match = re.fullmatch(r"(\d+)(KiB|MiB|GiB)?", text)
    if match is None:
        raise ValueError(f"not a size: {text}")
    return int(match.group(1)) * SUFFIXES[match.group(2) or ""]


def write_random_file(path: Path, size: int) -> str:
    """Write ``size`` bytes that repeat nowhere and are the same every time; return their SHA-256."""
    stream = Cipher(algorithms.ChaCha20(bytes(32), bytes(16)), mode=None).encryptor()
    zeros = bytes(MIB)
    total = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            block = stream.update(zeros[: size - start])
            total.update(block)
            file.write(block)
    return total.hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cpu_seconds(process: Running) -> float:
    """Return the processor time of a process so far, in seconds (resolution 10 ms)."""
    try:
        times = psutil.Process(process.pid).cpu_times()
    except psutil.NoSuchProcess:
        process.wait()
        return process.usage().cpu_seconds
    return times.user + times.system


def peak_rss(process: Running) -> int:
    """Return the peak resident size of a process in bytes."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        status = ""
    # An ended process has no memory of its own left to tell of.
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    if match is None:
        process.wait()
        return process.usage().peak_rss
    return int(match.group(1)) * 1024


@dataclass(frozen=True, slots=True)
class Transfer:
    """One measured transfer; times in seconds, memory in bytes.

    The processor time of the sender is that between the beginning and the end of the transfer, that
    of the receiver from the beginning to the end of its process. ``whole_seconds`` is the life of the
    receiver's process, None where it waits for its sender.
    """

    size: int
    seconds: float
    whole_seconds: float | None
    receiver_cpu: float
    sender_cpu: float
    receiver_rss: int
    sender_rss: int
    files: int = 1


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, columns aligned."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


HERE = Path(__file__).resolve().parents[2]


def compile_program(checkout: Path = HERE) -> None:
    """Compile the modules of a checkout, which Python itself does not keep where it may not write them."""
    for package in ("swarm", "cli"):
        compileall.compile_dir(checkout / package, quiet=2)


def machine() -> str:
    """Return one line about where figures come from."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    cores = psutil.cpu_count()
    name = model.group(1) if model else platform.machine()
    return f"{cores} cores of {name}, {platform.system()}, Python {platform.python_version()}"


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Replace what stands between the markers of ``name`` on the page of figures."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} has no section {name}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")
