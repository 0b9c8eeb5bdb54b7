"""What a shell offers for words that are no options: files, and the ids and links of manifests here."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click
from click.shell_completion import CompletionItem

MOST_MANIFESTS = 50
"""Manifests of the current folder that are read for their ids."""
MOST_BYTES = 4 * 1024 * 1024
"""A larger manifest is not read: nobody waits for a completion."""
LINK = "swarm:"
ID = "bafy"


def complete_content(
    ctx: click.Context,  # noqa: ARG001 - click's signature
    param: click.Parameter,  # noqa: ARG001
    incomplete: str,
) -> list[CompletionItem]:
    """Offer files; and for the beginning of a link or an id those of the manifests in the current folder."""
    if incomplete and (LINK.startswith(incomplete) or incomplete.startswith((LINK, ID))):
        found = [
            item for item in _known(link=not incomplete.startswith(ID)) if item.value.startswith(incomplete)
        ]
        if found:
            return found
    return [CompletionItem(incomplete, type="file")]


def _known(*, link: bool) -> list[CompletionItem]:
    from swarm.content.envelope import Envelope
    from swarm.content.link import SwarmLink
    from swarm.errors import ManifestError

    items = []
    for path in islice(sorted(Path().glob("*.swarm")), MOST_MANIFESTS):
        try:
            if path.stat().st_size > MOST_BYTES:
                continue
            manifest = Envelope.from_bytes(path.read_bytes()).manifest
        except (OSError, ManifestError):
            continue
        word = str(SwarmLink(manifest.id, (), manifest.name)) if link else str(manifest.id)
        items.append(CompletionItem(word, help=path.name))
    return items
