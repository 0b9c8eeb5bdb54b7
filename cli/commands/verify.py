"""``swarm verify``: does a file or folder match a manifest?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from swarm.content.manifest import Manifest
    from swarm.storage.verification import VerifyReport


MAX_EXTRAS_SHOWN = 10
"""Files beside the content that are named; the rest is counted."""


@click.command()
@options.manifest_file
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--only",
    metavar="PATTERN",
    multiple=True,
    help="Check only the files that match, as of swarm fetch (repeatable).",
)
@options.json
@options.common
@click.pass_obj
def command(runtime: Runtime, manifest: Path, path: Path, only: tuple[str, ...], as_json: str | None) -> None:
    """Check PATH against the file MANIFEST and name every piece and file that does not match.

    Files that the manifest does not name, and other executable bits, are mentioned and are no error.
    """
    from cli import running

    live = runtime.show("verify", json=as_json)

    async def main() -> None:
        from cli.render.lines import Phase
        from cli.transfers.sharing import SUFFIX
        from swarm.content.paths import printable
        from swarm.errors import IntegrityError, ManifestError
        from swarm.observe.reports import DifferenceFound, PathVerified
        from swarm.storage.manifest_files import read_envelope
        from swarm.storage.verification import verify

        try:
            content = (await read_envelope(manifest)).manifest
        except ManifestError as error:
            if manifest.suffix == SUFFIX:
                raise
            raise ManifestError(f"{error}; {options.MANIFEST_FIRST}") from error
        live.phase = Phase.VERIFYING
        async with live.drawing():
            report = await verify(content, path, live.hashing, only=only)
        for line in remarks(report):
            live.say(f"note: {line}")
        for line in differences(content, report):
            live.result(DifferenceFound(line), line)
        shown = printable(str(path))
        live.result(PathVerified(str(path), content.id, report.matches))
        if not report.matches:
            raise IntegrityError(f"{shown} does not match the manifest: {_count(report)}")
        live.result(None, f"{shown} matches {content.id}")

    running.run(main)


def differences(manifest: Manifest, report: VerifyReport) -> Iterator[str]:
    """Yield a line for each thing that is not what the manifest names."""
    from swarm.content.paths import printable

    missing = set(report.missing)
    paths = ((number, "/".join(manifest.path(number))) for number in range(len(manifest.files)))
    numbers = {path: number for number, path in paths if path in missing} if missing else {}
    for file in report.missing:
        pieces = manifest.layout.pieces_of(numbers[file]) if file in numbers else range(0)
        yield f"{printable(file)}: missing{_span(pieces.start, pieces.stop - 1)}"
    for link in report.wrong_links:
        found = "is no link" if link.found is None else f"leads to {printable(link.found)}"
        yield f"{printable(link.link)}: {found}, expected a link to {printable(link.expected)}"
    for wrong in report.wrong_sizes:
        yield f"{printable(wrong.file)}: {wrong.found} bytes, expected {wrong.expected}"
    for file, reason, first, last in _runs(report):
        yield f"{printable(file)}: {reason}{_span(first, last)}"
    for file in report.bad_files:
        yield f"{printable(file)}: the manifest contradicts itself; do not trust it"


def remarks(report: VerifyReport) -> Iterator[str]:
    """Yield a line for each difference that takes nothing from the content."""
    from swarm.content.paths import printable

    for file in report.extra[:MAX_EXTRAS_SHOWN]:
        yield f"{printable(file)} is not in the manifest"
    if len(report.extra) > MAX_EXTRAS_SHOWN:
        yield f"{len(report.extra) - MAX_EXTRAS_SHOWN} more files are not in the manifest"
    for file in report.executable:
        yield f"{printable(file)}: the executable bit differs"


def _runs(report: VerifyReport) -> Iterator[tuple[str, str, int, int]]:
    """Yield neighbouring bad pieces of a file together: file, reason, first and last piece."""
    run: tuple[str, str, int, int] | None = None
    for bad in report.bad_pieces:
        if run is not None and (run[0], run[1], run[3] + 1) == (bad.file, bad.reason, bad.piece):
            run = (run[0], run[1], run[2], bad.piece)
            continue
        if run is not None:
            yield run
        run = (bad.file, bad.reason, bad.piece, bad.piece)
    if run is not None:
        yield run


def _span(first: int, last: int) -> str:
    if first > last:
        return ""
    return f", piece {first}" if first == last else f", pieces {first}-{last}"


def _count(report: VerifyReport) -> str:
    from cli.quantities import counted

    counts = (
        (len(report.missing), "file", "missing"),
        (len(report.wrong_links), "link", "wrong"),
        (len(report.wrong_sizes), "file", "of another size"),
        (len(report.bad_pieces), "piece", "bad"),
        (len(report.bad_files), "file", "contradicted"),
    )
    return ", ".join(f"{counted(count, noun)} {what}" for count, noun, what in counts if count)
