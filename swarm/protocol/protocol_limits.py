"""Every limit of the exchange, manifest and advertise protocols, by name.

Sizes are bytes, times are seconds. Both sides keep them: a sender never exceeds them and a receiver
ends the session of a peer that does, before anything is allocated. docs/protocol.md states them.
"""

from __future__ import annotations

from swarm.content.manifest import MAX_PIECES

# --- Frames -------------------------------------------------------------------------------------

MAX_BITFIELD_BYTES = (MAX_PIECES + 7) // 8
"""That of the largest manifest; a session knows its manifest and takes its exact size only."""

MAX_DATA_BYTES = 1 << 20
"""Payload of one DATA message. A piece may be larger; its sender then cuts it into several."""

MAX_HELLO_BYTES = 4096

MAX_PEERS_BYTES = 128 * 1024
"""Holds 50 added peers with the most and longest addresses, and 50 dropped."""

MAX_GOODBYE_BYTES = 200

MAX_HAVE_BATCH = 1024
"""Pieces in one HAVE."""

# --- Names in HELLO and PEERS -------------------------------------------------------------------

MAX_AGENT_BYTES = 64
MAX_ADDRESSES_PER_PEER = 8
MAX_ADDRESS_BYTES = 256
MAX_PEER_ID_CHARS = 64
MIN_PEER_ID_CHARS = 32
MAX_EXTENSIONS = 32
MAX_EXTENSION_NAME_BYTES = 32
MAX_EXTENSION_VALUE = (1 << 53) - 1
MAX_PEERS_ADDED = 50
MAX_PEERS_DROPPED = 50

# --- Conduct ------------------------------------------------------------------------------------

MAX_REQUESTS = 256
"""Requests of one side without their final reply.

A request is one index: no data is held for it until the writer comes to it, so 256 cost a peer a few
KiB of memory. 64 of them would be enough for pieces of 256 KiB (16 MiB in flight), but a folder of small
files has pieces of 1 KiB, where 64 KiB in flight would cap a 20 ms path at 3 MB/s.
"""

CONTROL_RATE = 1000.0
"""Messages a second, beside DATA, that a peer may send for ever without moving a piece."""

CONTROL_BURST = 4000.0
"""Messages that may come at once; every piece moved in either direction earns CONTROL_PER_PIECE more."""

CONTROL_PER_PIECE = 4.0
"""REQUEST, CANCEL, HAVE and one to spare."""

PEERS_INTERVAL = 1.0
"""A sender leaves at least this time between two PEERS messages of one session."""

PEERS_BURST = 8.0
"""PEERS messages that may arrive bunched together (they may have waited behind bulk data)."""

KEEP_ALIVE_INTERVAL = 120.0
"""A side that has sent nothing for so long sends KEEP_ALIVE; the link asks for signs of life more often."""

IDLE_TIMEOUT = 400.0
"""A session from which nothing has come for so long is ended: three keep-alives and some."""

HELLO_TIMEOUT = 8.0
"""From the opening of the stream until the peer's HELLO and its announcement are here."""

# --- Manifest and advertise protocols -----------------------------------------------------------

MAX_ADVERTS = 256
"""Manifests in one advertisement."""

MAX_ADVERTS_BYTES = 128 * 1024

ANSWER_TIMEOUT = 10.0
"""For the one answer of the advertise protocol and for the length that begins a manifest's answer."""
