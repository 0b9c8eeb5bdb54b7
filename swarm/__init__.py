"""Share files peer to peer: every receiver also sends.

All that a program needs is in this one namespace, and is imported when it is first used. docs/api.md is the
tutorial.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swarm.bits import PieceSet
    from swarm.blocking import BackgroundShare, fetch, share
    from swarm.config import NodeOptions, TransferOptions
    from swarm.content.envelope import Envelope
    from swarm.content.link import SwarmLink
    from swarm.content.manifest import FileEntry, LinkEntry, Manifest
    from swarm.content.release import PatchOffer, ReleaseRecord, Series
    from swarm.content.series_link import SeriesLink
    from swarm.endpoint import Endpoint, PeerAddress
    from swarm.errors import (
        DiskError,
        Incomplete,
        IntegrityError,
        LinkClosed,
        Locked,
        ManifestError,
        NoPeerReachable,
        PieceMismatch,
        PieceWithdrawn,
        RemoteError,
        SwarmError,
        UsageError,
    )
    from swarm.events import (
        BytesReceived,
        BytesSent,
        BytesSpared,
        ContentRestored,
        ContentWithdrawn,
        Event,
        FilesKept,
        FilesSelected,
        HashingProgress,
        ManifestReady,
        NodeListening,
        PatchProgress,
        PeerComplete,
        PeerConnected,
        PeerDialing,
        PeerDisconnected,
        PeerFailed,
        PeerFound,
        PeerHas,
        PeersAwaited,
        PieceLost,
        PieceRefused,
        PieceRequested,
        PiecesReused,
        PieceStored,
        PieceWasted,
        PortLost,
        PortMapped,
        ReleaseFound,
        RoundTrip,
        SourceBanned,
        SourceFailed,
        SourceJoined,
        SourceLeft,
        TransferComplete,
        TransferContinued,
        TransferEnded,
        TransferEvent,
        TransferPaused,
        TransferResumed,
        TransferStarted,
        UpdatePlanned,
        Warned,
    )
    from swarm.ids import ManifestId, PeerId, SourceId, TransferId
    from swarm.node.node import Node
    from swarm.node.open_node import open_node
    from swarm.node.pinging import PingSample
    from swarm.node.publishing import PublishedRelease
    from swarm.observe.tally import NodeSnapshot, NodeTally, SourceRow, TransferSnapshot
    from swarm.origin_url import OriginUrl
    from swarm.ports import (
        Announcement,
        ByteStream,
        FoundPeer,
        LocalSource,
        PeerSource,
        PieceSource,
        RequestDesk,
        Store,
    )
    from swarm.protocol.advert import Advert
    from swarm.sources.base_source import BaseSource
    from swarm.storage.manifest_files import inspect
    from swarm.storage.verification import BadPiece, VerifyReport, WrongSize, verify
    from swarm.transfer.progress import Progress
    from swarm.transfer.session import PeerStatus
    from swarm.transfer.transfer import Transfer

_MODULES = {
    "swarm.bits": ("PieceSet",),
    "swarm.blocking": ("BackgroundShare", "fetch", "share"),
    "swarm.config": ("NodeOptions", "TransferOptions"),
    "swarm.content.envelope": ("Envelope",),
    "swarm.content.link": ("SwarmLink",),
    "swarm.content.manifest": ("FileEntry", "LinkEntry", "Manifest"),
    "swarm.content.release": ("PatchOffer", "ReleaseRecord", "Series"),
    "swarm.content.series_link": ("SeriesLink",),
    "swarm.endpoint": ("Endpoint", "PeerAddress"),
    "swarm.errors": (
        "DiskError",
        "Incomplete",
        "IntegrityError",
        "LinkClosed",
        "Locked",
        "ManifestError",
        "NoPeerReachable",
        "PieceMismatch",
        "PieceWithdrawn",
        "RemoteError",
        "SwarmError",
        "UsageError",
    ),
    "swarm.events": (
        "BytesReceived",
        "BytesSent",
        "BytesSpared",
        "ContentRestored",
        "ContentWithdrawn",
        "Event",
        "FilesKept",
        "FilesSelected",
        "HashingProgress",
        "ManifestReady",
        "NodeListening",
        "PeerComplete",
        "PeerConnected",
        "PeerDialing",
        "PeerDisconnected",
        "PeerFailed",
        "PeerFound",
        "PeerHas",
        "PatchProgress",
        "PeersAwaited",
        "PieceLost",
        "PieceRefused",
        "PieceRequested",
        "PieceStored",
        "PieceWasted",
        "PiecesReused",
        "PortLost",
        "PortMapped",
        "ReachChecked",
        "ReleaseFound",
        "RoundTrip",
        "SourceBanned",
        "SourceFailed",
        "SourceJoined",
        "SourceLeft",
        "TransferComplete",
        "TransferContinued",
        "TransferEnded",
        "TransferEvent",
        "TransferPaused",
        "TransferResumed",
        "TransferStarted",
        "UpdatePlanned",
        "Warned",
    ),
    "swarm.ids": ("ManifestId", "PeerId", "SourceId", "TransferId"),
    "swarm.node.node": ("Node",),
    "swarm.node.open_node": ("open_node",),
    "swarm.node.pinging": ("PingSample",),
    "swarm.node.publishing": ("PublishedRelease",),
    "swarm.observe.tally": ("NodeSnapshot", "NodeTally", "SourceRow", "TransferSnapshot"),
    "swarm.origin_url": ("OriginUrl",),
    "swarm.ports": (
        "Announcement",
        "ByteStream",
        "FoundPeer",
        "LocalSource",
        "PeerSource",
        "PieceSource",
        "RequestDesk",
        "Store",
    ),
    "swarm.protocol.advert": ("Advert",),
    "swarm.sources.base_source": ("BaseSource",),
    "swarm.storage.manifest_files": ("inspect",),
    "swarm.storage.verification": ("BadPiece", "VerifyReport", "WrongSize", "verify"),
    "swarm.transfer.progress": ("Progress",),
    "swarm.transfer.session": ("PeerStatus",),
    "swarm.transfer.transfer": ("Transfer",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Advert",
    "Announcement",
    "BackgroundShare",
    "BadPiece",
    "BaseSource",
    "ByteStream",
    "BytesReceived",
    "BytesSent",
    "BytesSpared",
    "ContentRestored",
    "ContentWithdrawn",
    "DiskError",
    "Endpoint",
    "Envelope",
    "Event",
    "FileEntry",
    "FilesKept",
    "FilesSelected",
    "FoundPeer",
    "HashingProgress",
    "Incomplete",
    "IntegrityError",
    "LinkClosed",
    "LinkEntry",
    "LocalSource",
    "Locked",
    "Manifest",
    "ManifestError",
    "ManifestId",
    "ManifestReady",
    "NoPeerReachable",
    "Node",
    "NodeListening",
    "NodeOptions",
    "NodeSnapshot",
    "NodeTally",
    "OriginUrl",
    "PatchOffer",
    "PatchProgress",
    "PeerAddress",
    "PeerComplete",
    "PeerConnected",
    "PeerDialing",
    "PeerDisconnected",
    "PeerFailed",
    "PeerFound",
    "PeerHas",
    "PeerId",
    "PeerSource",
    "PeerStatus",
    "PeersAwaited",
    "PieceLost",
    "PieceMismatch",
    "PieceRefused",
    "PieceRequested",
    "PieceSet",
    "PieceSource",
    "PieceStored",
    "PieceWasted",
    "PieceWithdrawn",
    "PiecesReused",
    "PingSample",
    "PortLost",
    "PortMapped",
    "Progress",
    "PublishedRelease",
    "ReachChecked",
    "ReleaseFound",
    "ReleaseRecord",
    "RemoteError",
    "RequestDesk",
    "RoundTrip",
    "Series",
    "SeriesLink",
    "SourceBanned",
    "SourceFailed",
    "SourceId",
    "SourceJoined",
    "SourceLeft",
    "SourceRow",
    "Store",
    "SwarmError",
    "SwarmLink",
    "Transfer",
    "TransferComplete",
    "TransferContinued",
    "TransferEnded",
    "TransferEvent",
    "TransferId",
    "TransferOptions",
    "TransferPaused",
    "TransferResumed",
    "TransferSnapshot",
    "TransferStarted",
    "UpdatePlanned",
    "UsageError",
    "VerifyReport",
    "Warned",
    "WrongSize",
    "fetch",
    "inspect",
    "open_node",
    "share",
    "verify",
]


if not TYPE_CHECKING:
    # Hidden from type checkers, for which every misspelt name would exist otherwise.
    def __getattr__(name: str) -> Any:
        module = _WHERE.get(name)
        if module is None:
            raise AttributeError(f"module 'swarm' has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(module), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
