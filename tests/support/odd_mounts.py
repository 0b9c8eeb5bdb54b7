"""Mounts a file system with gaps where FUSE is there; a file layer stands in for it elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_SOURCE = Path(__file__).with_name("odd_file_system.c")


def build(folder: Path) -> Path | None:
    """Compile the file system; None where a compiler, the FUSE library or /dev/fuse is missing."""
    if not (shutil.which("gcc") and shutil.which("pkg-config") and os.access("/dev/fuse", os.W_OK)):
        return None
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, text=True, check=False
    )
    if flags.returncode:
        return None
    program = folder / "odd_file_system"
    command = ["gcc", "-O1", "-o", str(program), str(_SOURCE), *flags.stdout.split()]
    return program if subprocess.run(command, capture_output=True, check=False).returncode == 0 else None


@contextmanager
def mounted(program: Path, folder: Path, lacking: Mapping[str, str]) -> Iterator[Path]:
    """Hold the mounted file system; ``lacking`` are the variables that take abilities away."""
    raw, mount = folder / "raw", folder / "mount"
    raw.mkdir()
    mount.mkdir()
    # It returns once it is mounted, and goes on in the background.
    environment = {**os.environ, "ODD_ROOT": str(raw), **lacking}
    subprocess.run([program, mount], env=environment, check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)
