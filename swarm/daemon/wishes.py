"""How something is to be shared or fetched by the daemon: what a request asks for, and what is kept of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from swarm.config import DEFAULT_MAX_PEERS, TransferOptions
from swarm.content.envelope import Envelope
from swarm.content.hints import Hints
from swarm.content.link import SwarmLink, is_link
from swarm.content.paths import printable
from swarm.content.series_link import SeriesLink, is_series_link
from swarm.content.signature import parse_signer
from swarm.daemon.seeding_rules import SeedingRule
from swarm.daemon.transfer_registry import KeptTransfer
from swarm.errors import UsageError
from swarm.ids import ManifestId
from swarm.lazy_dataclass import dataclass, field, replace
from swarm.storage.manifest_files import NamedContent, find_content

PATIENCE: Final = 86_400.0
"""A fetch of a daemon waits a day for its peers before its files are closed and it begins anew."""


@dataclass(frozen=True, slots=True)
class FurtherOptions:
    """Options that most transfers leave as they are; each means what it means in `TransferOptions`."""

    origins: tuple[str, ...] = ()
    origin_use: str = "together"
    trusted: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    skip: bool = False
    overwrite: bool = False
    times: bool = True
    prefer_near: bool = False
    max_peers: int | None = None
    piece_size: int | None = None

    def to_text(self) -> str:
        """What differs from the usual, as JSON; empty if nothing does."""
        usual = FurtherOptions()
        names = FurtherOptions.__match_args__
        chosen = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(usual, name)}
        return json.dumps(chosen) if chosen else ""

    @classmethod
    def from_text(cls, text: str) -> FurtherOptions:
        """Read what `to_text` wrote."""
        fields: dict[str, Any] = json.loads(text) if text else {}
        chosen: dict[str, Any] = {}
        for name, each in fields.items():
            chosen[name] = tuple(each) if isinstance(each, list) else each
        return cls(**chosen)


@dataclass(frozen=True, slots=True)
class Wishes:
    """How something is transferred; limits in bytes per second. ``only`` and ``peers`` as in a command."""

    name: str = ""
    only: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    sequential: bool = False
    paused: bool = False
    upload_limit: int | None = None
    download_limit: int | None = None
    rule: SeedingRule = field(default_factory=SeedingRule)
    further: FurtherOptions = field(default_factory=FurtherOptions)

    def applied(self, kept: KeptTransfer) -> KeptTransfer:
        """The transfer as it is kept with these wishes; raises UsageError for what makes no sense."""
        if series_of(kept) is not None and (self.only or self.further.overwrite):
            raise UsageError("a series is kept up to date as a whole: leave out only and overwrite")
        for line in (*self.only, *self.peers):
            if "\n" in line:
                raise UsageError("a pattern or a peer is one line")
        check_limits(self.upload_limit, self.download_limit)
        for signer in self.further.trusted:
            try:
                parse_signer(signer)
            except ValueError as error:
                raise UsageError(f"{printable(signer[:80])} is no signer: {error}") from error
        for path in (*self.further.bases, *self.further.omit):
            if not Path(path).is_absolute():
                raise UsageError(f"{printable(path)} is not an absolute path")
        wished = replace(
            kept,
            rename=self.name,
            only="\n".join(self.only),
            peers="\n".join(self.peers),
            sequential=self.sequential,
            paused=self.paused,
            upload_limit=self.upload_limit,
            download_limit=self.download_limit,
            added=time.time(),
            options=self.further.to_text(),
            ratio=self.rule.ratio,
            copies=self.rule.copies,
            seconds=self.rule.seconds,
        )
        for text in (wished.content, wished.output, wished.rename, wished.only, wished.peers):
            check_text(text)
        # Raises for what the transfer could not begin with.
        options_of(wished, private_origins=False)
        return wished


def options_of(kept: KeptTransfer, *, private_origins: bool) -> TransferOptions:
    """The options with which a transfer begins. Origins have to be public ones, unless the daemon says so."""
    further = FurtherOptions.from_text(kept.options)
    fetched = kept.kind == "fetch"
    return TransferOptions(
        peers=_lines(kept.peers),
        only=_lines(kept.only),
        trusted=further.trusted,
        seed=True,
        max_peers=further.max_peers or DEFAULT_MAX_PEERS,
        upload_limit=kept.upload_limit,
        download_limit=kept.download_limit,
        patience=PATIENCE,
        prefer_near=further.prefer_near,
        sequential=kept.sequential,
        bases=tuple(map(Path, further.bases)),
        ignore=further.ignore,
        omit=tuple(map(Path, further.omit)),
        skip=further.skip,
        name=kept.rename or None if fetched else None,
        # Once it is there, what somebody writes into it is theirs.
        overwrite=further.overwrite and not kept.complete,
        update=series_of(kept) is not None,
        origins=further.origins,
        origin_use=further.origin_use,
        origin_public_only=not private_origins,
        times=further.times,
    )


def piece_size_of(kept: KeptTransfer) -> int | None:
    """The length of a piece that was asked for, in bytes."""
    return FurtherOptions.from_text(kept.options).piece_size


def named_again(kept: KeptTransfer, envelope: Envelope) -> NamedContent:
    """A fetch whose manifest is known, with all that its link named."""
    if not is_link(kept.content):
        return NamedContent.of_envelope(envelope)
    link = SwarmLink.pasted(kept.content)
    peers = link.peers or Hints.read(envelope.peers).peers
    return NamedContent(envelope, peers, meets=link.meets, origins=link.origins, name=link.name)


def series_of(kept: KeptTransfer) -> SeriesLink | None:
    """The link of the series that a transfer follows, if it does."""
    follows = kept.kind == "fetch" and is_series_link(kept.content)
    return SeriesLink.parse(kept.content) if follows else None


@dataclass(frozen=True, slots=True)
class FoundContent:
    """What a fetch names; ``text`` is a link or an id that names it again.

    ``manifest`` is None for a series, whose releases have one each.
    """

    manifest: Envelope | ManifestId | None
    text: str
    name: str
    identity: str
    """Tells it from everything else."""

    @property
    def envelope(self) -> Envelope | None:
        """The manifest, if more than its id is known."""
        return self.manifest if isinstance(self.manifest, Envelope) else None


async def find_named(content: str | Envelope) -> FoundContent:
    """Find out what a request to fetch names: a link, an id, an absolute path; raises UsageError."""
    if isinstance(content, Envelope):
        hints = Hints.read(content.peers)
        manifest = content.manifest
        link = SwarmLink(manifest.id, hints.peers, manifest.name, hints.meets, hints.origins)
        return FoundContent(content, str(link), content.manifest.name, str(manifest.id))
    if is_link(content):
        if is_series_link(content):
            series = SeriesLink.pasted(content)
            identity = f"series/{series.series.key}/{series.series.name}"
            return FoundContent(None, str(series), series.series.name, identity)
        link = SwarmLink.pasted(content)
        return FoundContent(link.id, str(link), link.name or "", str(link.id))
    if Path(content).is_absolute():
        named = (await find_content(content)).manifest
        if isinstance(named, Envelope):
            return await find_named(named)
        return _of_id(named)
    if "/" in content or content.endswith(".swarm"):
        raise UsageError(f"{printable(content[:80])} is no link, no id and no absolute path")
    named = (await find_content(content)).manifest
    return _of_id(named) if isinstance(named, ManifestId) else await find_named(named)


def _of_id(manifest: ManifestId) -> FoundContent:
    return FoundContent(manifest, str(manifest), "", str(manifest))


def check_text(text: str) -> None:
    """Raise UsageError for a text that is not UTF-8, as a file name may be: the registry cannot keep it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = printable(text[:80])
        raise UsageError(f"{shown} is not UTF-8, and the daemon keeps only what is: rename it") from error


def check_limits(*limits: int | None) -> None:
    """Raise UsageError for a limit that is none."""
    for limit in limits:
        if limit is not None and limit < 1:
            raise UsageError(f"a rate limit is at least 1 byte per second, not {limit}; null is no limit")


def _lines(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n")) if text else ()
