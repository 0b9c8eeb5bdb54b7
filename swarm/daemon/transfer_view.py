"""What the API says of transfers and of the node: plain values for JSON, made of what is in memory alone."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from swarm.content.link import MAX_LINK_PEERS, SwarmLink
from swarm.daemon.file_ranges import file_key, media_type
from swarm.daemon.keeper import TransferKeeper
from swarm.daemon.kept_entry import KeptEntry
from swarm.errors import ManifestError
from swarm.ids import ManifestId
from swarm.net.addresses import of_others
from swarm.observe.tally import SourceRow, TransferSnapshot

MAX_SOURCES_SHOWN: Final = 200
MAX_FILES_SHOWN: Final = 1000
MAP_CELLS: Final = 400
"""Cells of a piece map; each is the share of its pieces that are here, 0 to 255."""

Json = dict[str, Any]


def summary(entry: KeptEntry, keeper: TransferKeeper, now: float) -> Json:
    """One line of the list."""
    kept, snapshot = entry.kept, entry.tally.snapshot(now)
    known = snapshot.manifest is not None
    path = entry.path
    return {
        "id": kept.id,
        "kind": kept.kind,
        "state": entry.state(snapshot),
        "name": snapshot.name or kept.name,
        "manifest": entry.manifest or None,
        "link": link_to(entry, keeper),
        "series": entry.series_text,
        "release": kept.release or None,
        "path": None if path is None else _text(str(path)),
        "output": _text(kept.output) or None,
        "error": entry.error or None,
        "exit_code": entry.exit_code if entry.error else None,
        "note": next(reversed(entry.remarks), None),
        "size": snapshot.size if known else kept.size,
        "done": snapshot.have_size if known else _kept_done(entry),
        "pieces": snapshot.pieces,
        "pieces_done": snapshot.have_pieces,
        "hashed": snapshot.hashed,
        "hash_total": snapshot.hash_total,
        "received": entry.received_before + snapshot.received,
        "sent": entry.sent_before + snapshot.sent,
        "wasted": snapshot.wasted,
        "down_rate": round(snapshot.down_rate, 1),
        "up_rate": round(snapshot.up_rate, 1),
        "seconds_left": None if snapshot.eta is None else round(snapshot.eta, 1),
        "peers": snapshot.connected,
        "full_peers": snapshot.full_peers,
        "complete": kept.complete or (kept.kind == "share" and known),
        "upload_limit": kept.upload_limit,
        "download_limit": kept.download_limit,
        "ratio": kept.ratio,
        "copies": kept.copies,
        "seed_seconds": kept.seconds,
        "finished": kept.finished or None,
        "added": round(kept.added, 3),
    }


def details(entry: KeptEntry, keeper: TransferKeeper, now: float, token: str) -> Json:
    """Everything about one transfer; the address of each file holds a key that is made of the token."""
    snapshot = entry.tally.snapshot(now)
    sources = sorted(snapshot.sources, key=lambda each: not each.connected)
    transfer = entry.transfer
    files: list[Json] = []
    if transfer is not None and transfer.is_open:
        manifest = transfer.manifest
        for number in list(transfer.files)[:MAX_FILES_SHOWN]:
            file = manifest.files[number]
            about = {"number": number, "path": "/".join(file.path), "size": file.length}
            address = f"/v1/transfers/{entry.kept.id}/files/{number}"
            key = f"?key={file_key(token, entry.kept.id, number)}" if token else ""
            files.append({**about, "type": media_type(file.path[-1]), "url": address + key})
    return {
        **summary(entry, keeper, now),
        "sources": [_source(each, snapshot, entry.found_by) for each in sources[:MAX_SOURCES_SHOWN]],
        "files": files,
        "file_count": len(transfer.files) if transfer is not None else 0,
        "piece_map": piece_map(entry),
        "notes": entry.remarks,
    }


def node_view(keeper: TransferKeeper, now: float) -> Json:
    """The node and all transfers together."""
    snapshots = [entry.tally.snapshot(now) for entry in keeper.active()]
    return {
        "peer": str(keeper.node.peer_id),
        "addresses": list(keeper.node.addresses),
        "uptime": round(now - keeper.began, 3),
        "transfers": len(keeper.entries),
        "down_rate": round(sum(each.down_rate for each in snapshots), 1),
        "up_rate": round(sum(each.up_rate for each in snapshots), 1),
        "received": keeper.received,
        "sent": keeper.sent,
        **keeper.rules.view(),
    }


def link_to(entry: KeptEntry, keeper: TransferKeeper) -> str | None:
    """A link to the content with this node's addresses; None while its manifest is not known."""
    known = entry.manifest
    if not known:
        return None
    name = entry.tally_name or entry.kept.name
    transfer = entry.transfer
    opened = transfer is not None and transfer.is_open and str(transfer.id) == known
    made_of = known, name, keeper.node.addresses, opened
    if entry.link_made_of != made_of:
        entry.link_made_of = made_of
        if transfer is not None and opened:
            # With its web servers and meeting points.
            entry.link = transfer.link
            return entry.link
        addresses = of_others(keeper.node.addresses)[:MAX_LINK_PEERS]
        manifest = ManifestId.parse(known)
        try:
            entry.link = str(SwarmLink(manifest, addresses, name or None))
        except ManifestError:
            # A name that came with a link, and that no manifest can have.
            entry.link = str(SwarmLink(manifest, addresses))
    return entry.link


def piece_map(entry: KeptEntry) -> str:
    """At most `MAP_CELLS` bytes in base64: how many of the pieces of each cell are here."""
    stored = entry.transfer.stored if entry.transfer is not None else None
    if stored is None or not stored.size:
        return ""
    cells = min(MAP_CELLS, stored.size)
    bits = int.from_bytes(stored.to_bytes(), "big")
    length = 8 * len(stored.to_bytes())
    result = bytearray()
    for cell in range(cells):
        first, end = stored.size * cell // cells, stored.size * (cell + 1) // cells
        here = (bits >> (length - end) & ((1 << (end - first)) - 1)).bit_count()
        result.append(255 * here // (end - first))
    return base64.b64encode(result).decode()


def _source(row: SourceRow, snapshot: TransferSnapshot, found_by: Mapping[str, str]) -> Json:
    pieces = snapshot.all_pieces
    return {
        "source": str(row.source),
        "address": row.address,
        "connected": row.connected,
        "inbound": row.inbound,
        "banned": row.banned,
        "received": row.received,
        "sent": row.sent,
        "pieces": row.pieces,
        "wasted": row.wasted,
        "down_rate": round(row.down_rate, 1),
        "up_rate": round(row.up_rate, 1),
        "round_trip": row.round_trip,
        "found": found_by.get(row.source, ""),
        "why": row.why,
        "has": None if row.pieces_held is None or not pieces else round(row.pieces_held / pieces, 4),
    }


def _kept_done(entry: KeptEntry) -> int:
    return entry.kept.size if entry.kept.complete or entry.kept.kind == "share" else entry.kept.done


def _text(path: str) -> str:
    # Names of files may be any bytes; JSON is Unicode.
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
