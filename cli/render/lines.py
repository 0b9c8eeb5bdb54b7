"""Single lines for people. Everything that others named is escaped before it is shown."""

from __future__ import annotations

import math
from enum import Enum
from typing import NamedTuple

from cli.durations import format_time
from cli.quantities import counted, format_duration, format_rate, format_remaining
from swarm import events
from swarm.content.paths import printable
from swarm.ids import PeerId, SourceId
from swarm.observe.reports import PathFailed, SeedingEnded
from swarm.observe.tally import TransferSnapshot
from swarm.sizes import format_size

_PEER_TAIL = 8


class Phase(Enum):
    """What a command is busy with; the value is the word that the user reads."""

    STARTING = "starting"
    """Nothing to show yet; commands that transfer nothing stay in it."""
    HASHING = "hashing"
    FETCHING = "fetching"
    SEEDING = "seeding"
    VERIFYING = "verifying"
    PATCHING = "patching"
    """A patch is fetched, or made."""


HASHES = frozenset({Phase.HASHING, Phase.VERIFYING})
"""Phases in which what is on the disk is read."""


class Standing(NamedTuple):
    """How one transfer stands, and what it is busy with."""

    snapshot: TransferSnapshot
    phase: Phase


def short(peer: PeerId) -> str:
    """Return the end of a peer id, where ids differ."""
    return f"…{printable(peer[-_PEER_TAIL:])}"


def named(source: SourceId) -> str:
    """Return a source's name as people know it: the end of a peer id, or the whole name of another source."""
    return printable(source) if ":" in source else short(PeerId(source))


def notice(event: events.Event) -> str | None:
    """Return what a person should be told of ``event`` in any case, None for most events."""
    text = None
    match event:
        case events.Warned(message):
            text = f"warning: {printable(message)}"
        case (
            events.FilesSelected() | events.ReleaseFound() | events.UpdatePlanned() | events.TransferResumed()
        ):
            text = _about_content(event)
        case events.PortMapped() | events.PortLost():
            text = _about_port(event)
        case events.PeersAwaited(reason=reason, seconds=seconds):
            text = f"waiting up to {seconds:.0f} s for a peer: {printable(reason)}"
        case events.SourceBanned(source=source, reason=reason):
            text = f"banned {printable(source)}: {printable(reason)}"
        case events.PieceRefused(piece=piece, source=source):
            text = f"piece {piece} from {named(source)} does not match its hash: thrown away"
        case events.ContentWithdrawn() | events.ContentRestored():
            text = _what_is_served(event)
        case events.PeerComplete() | SeedingEnded() | PathFailed():
            text = _what_ended(event)
    return text


def _about_content(event: events.TransferEvent) -> str | None:
    """Return what is fetched, and what of it is here."""
    text = None
    match event:
        case events.FilesSelected(files=files, size=size):
            text = f"selected: {counted(files, 'file')} ({format_size(size)})"
        case events.ReleaseFound(name=name, sequence=sequence):
            text = f"newest release of {printable(name)}: number {sequence}"
        case events.UpdatePlanned():
            text = _about_update(event)
        case events.TransferResumed(pieces=pieces, size=size) if pieces:
            text = f"here already: {counted(pieces, 'piece')} ({format_size(size)})"
    return text


def _about_update(event: events.UpdatePlanned) -> str:
    """Return which way an update takes."""
    missing = format_size(event.missing)
    match event.way:
        case "patch":
            return f"update by patch: {format_size(event.patch_size)} instead of {missing}"
        case "reuse":
            return f"update by reuse: {missing} to fetch ({printable(event.reason)})"
        case "pieces":
            return f"everything is fetched: {missing} ({printable(event.reason)})"
        case _:
            return f"nothing to fetch: {printable(event.reason)}"


def _about_port(event: events.PortMapped | events.PortLost) -> str:
    """Return what a person is told of the router's port."""
    if isinstance(event, events.PortLost):
        return "warning: the router does not lead to this node any more; it is asked again"
    kept = f"renewed every {format_time(event.seconds / 2)}" if event.seconds else "for good"
    if event.public:
        return f"reachable at {printable(event.address)}, a port of the router ({event.protocol}, {kept})"
    return (
        f"warning: the router leads {printable(event.address)} here ({event.protocol}), which is no public "
        "address: there is another router before it, whose user could forward a port"
    )


def _what_ended(event: events.PeerComplete | SeedingEnded | PathFailed) -> str | None:
    """Return what a person is told when a peer or a part of the command is done."""
    match event:
        case PathFailed(what=what, message=message):
            return f"swarm: {printable(what)}: {printable(message)}"
        case SeedingEnded(reason=reason):
            return f"no longer seeding: {reason}"
        case events.PeerComplete(peer=peer, fetched=fetched):
            return f"complete: {short(peer)} has all of it" if fetched else None


def _what_is_served(event: events.ContentWithdrawn | events.ContentRestored) -> str:
    """Return what a person is told when something is no longer served, or is again."""
    shown = printable(event.path)
    what = f"{counted(event.pieces, 'piece')} ({format_size(event.size)})"
    if isinstance(event, events.ContentRestored):
        return f"{shown} is back: {what} served again"
    return f"warning: {shown} {printable(event.reason)}: {what} withdrawn until that is right again"


def detail(event: events.Event) -> str | None:
    """Return what a person who asked for more is told of ``event``, None if nothing."""
    text = None
    match event:
        case (
            events.PeerFound()
            | events.PeerDialing()
            | events.PeerConnected()
            | events.PeerDisconnected()
            | events.PeerFailed()
        ):
            text = _about_peer(event)
        case events.ReachChecked(meeting=meeting, reachable=reachable):
            text = _about_reach(meeting, reachable=reachable)
        case events.SourceJoined(description=description):
            text = f"taking pieces from {printable(description)}"
        case events.SourceLeft(source=source, reason=reason):
            text = f"no longer taking pieces from {printable(source)}: {printable(reason)}"
        case events.PieceRequested(piece=piece, source=source, why=why):
            text = f"piece {piece} asked of {named(source)}: {printable(why)}"
        case events.PieceWasted(piece=piece, source=source):
            text = f"piece {piece} from {named(source)} was here already"
        case events.RoundTrip(peer=peer, seconds=seconds):
            answer = "no answer" if seconds is None else format_duration(seconds)
            text = f"round trip to {short(peer)}: {answer}"
    return text


def _about_reach(meeting: str, *, reachable: bool) -> str:
    """Return what a meeting point has found out about this node."""
    if reachable:
        return f"{printable(meeting)} can dial this node: it is reachable from outside"
    return f"{printable(meeting)} cannot dial this node: others reach it with the meeting point's help"


def _about_peer(event: events.TransferEvent) -> str | None:
    """Return what happens with a peer before and after its session."""
    text = None
    match event:
        case events.PeerFound(peer=peer, addresses=addresses, provenance=provenance):
            text = f"found {short(peer)} at {printable(addresses[0])} ({printable(provenance)})"
        case events.PeerDialing(peer=peer, address=address, why=why):
            text = f"dialling {short(peer)} at {printable(address)}: {printable(why)}"
        case events.PeerConnected(peer=peer, address=address, inbound=inbound):
            text = f"connected {'from' if inbound else 'to'} {short(peer)} at {printable(address)}"
        case events.PeerDisconnected(peer=peer, reason=reason):
            text = f"lost {short(peer)}: {printable(reason)}"
        case events.SourceFailed(source=source, reason=reason, retry_in=retry_in):
            again = "" if retry_in is None else f"; again in {retry_in:.1f} s"
            text = f"{printable(source)}: {printable(reason)}{again}"
        case events.PeerFailed(peer=peer, reason=reason, retry_in=retry_in):
            again = f"again in {retry_in:.1f} s" if math.isfinite(retry_in) else "given up"
            text = f"cannot reach {short(peer)}: {printable(reason)}; {again}"
    return text


def title(snapshot: TransferSnapshot, phase: Phase) -> str:
    """Return what is going on: ``fetching photos``."""
    return f"{phase.value} {printable(snapshot.name)}".rstrip()


def status(snapshot: TransferSnapshot, phase: Phase) -> str:
    """Return the figures of ``phase``: sizes, rates, estimate, peers, pieces, up and down."""
    left = () if snapshot.eta is None else (f"{format_remaining(snapshot.eta)} left",)
    if phase in HASHES:
        return ", ".join((f"{format_size(snapshot.hashed)} of {format_size(snapshot.hash_total)}", *left))
    if phase is Phase.PATCHING:
        return f"{format_size(snapshot.patch_done)} of {format_size(snapshot.patch_total)}"
    sent = f"up {format_size(snapshot.sent)} at {format_rate(snapshot.up_rate)}"
    if phase is Phase.SEEDING:
        return ", ".join((counted(snapshot.connected, "peer"), *completions(snapshot), sent))
    return ", ".join(
        (
            f"{format_size(snapshot.have_size)} of {format_size(snapshot.size)}",
            *left,
            counted(snapshot.connected, "peer"),
            f"{snapshot.have_pieces}/{snapshot.pieces} pieces",
            f"down {format_rate(snapshot.down_rate)}",
            sent,
        )
    )


def completions(snapshot: TransferSnapshot) -> tuple[str, ...]:
    """Return how many of the peers have everything, if any are there."""
    if not snapshot.connected:
        return ()
    return (f"{snapshot.full_peers} complete",)


def facts(snapshot: TransferSnapshot, phase: Phase) -> tuple[object, ...]:
    """Return what has to change before another line of progress says something new.

    Rates are not among it: one that fades would fill a log.
    """
    hashed = snapshot.hashed if phase in HASHES else 0
    moved = snapshot.have_size, snapshot.sent, hashed, snapshot.patch_done
    return phase, snapshot.name, snapshot.connected, snapshot.full_peers, *moved


def percent(snapshot: TransferSnapshot, phase: Phase) -> float | None:
    """Return how much of ``phase`` is done, 0 to 100; None where there is no end."""
    done, total = snapshot.have_size, snapshot.size
    if phase in HASHES:
        done, total = snapshot.hashed, snapshot.hash_total
    elif phase is Phase.PATCHING:
        done, total = snapshot.patch_done, snapshot.patch_total
    if phase in {Phase.STARTING, Phase.SEEDING} or not total:
        return None
    return 100 * done / total


def summary(snapshot: TransferSnapshot) -> str:
    """Return one line about a transfer that is complete."""
    if snapshot.size and not (snapshot.received or snapshot.reused or snapshot.patched):
        return (
            f"{printable(snapshot.name)} was here already, {format_size(snapshot.size)}: nothing was fetched"
        )
    rate = snapshot.received / snapshot.elapsed if snapshot.elapsed > 0 else 0.0
    return (
        f"fetched {format_size(snapshot.received)} in {snapshot.elapsed:.1f} s ({format_rate(rate)}) "
        f"from {_givers(snapshot)}, {_local(snapshot)}"
        f"sent {format_size(snapshot.sent)}, wasted {format_size(snapshot.wasted)}"
    )


def _local(snapshot: TransferSnapshot) -> str:
    """Return what came from files on this machine, and what was made with a patch, if anything was."""
    reused = f"reused {format_size(snapshot.reused)}, " if snapshot.reused else ""
    return reused + (f"patched {format_size(snapshot.patched)}, " if snapshot.patched else "")


def _givers(snapshot: TransferSnapshot) -> str:
    """Return who gave pieces, or parts of the patch: how many peers, and what else there was."""
    rows = [row for row in snapshot.sources if not row.source.startswith("patch:")]
    names = [
        row.source
        for row in rows
        if row.pieces or (snapshot.patched and row.received and ":" not in row.source)
    ]
    others = [named(name) for name in names if ":" in name]
    peers = len(names) - len(others)
    if not others:
        return counted(peers, "peer")
    told = others[0] if len(others) == 1 else counted(len(others), "other source")
    return f"{counted(peers, 'peer')} and {told}" if peers else told
