"""Every limit of the exchange, manifest and advertise protocols, by name.

Sizes are bytes, times are seconds. Both sides enforce them: a sender never exceeds a limit, and a receiver
ends the session of a peer that does, before it allocates anything. Source: docs/protocol.md.
"""

from __future__ import annotations

from swarm.content.manifest import MAX_PIECES

# --- Frames -------------------------------------------------------------------------------------

MAX_BITFIELD_BYTES = (MAX_PIECES + 7) // 8
"""The bitfield of the largest manifest. A session knows its manifest and accepts only the exact size."""

MAX_DATA_BYTES = 1 << 20
"""Payload of one DATA message. A larger piece is sent in several."""

MAX_HELLO_BYTES = 4096

MAX_PEERS_BYTES = 128 * 1024
"""Enough for 50 added peers with the most and longest addresses, and 50 dropped ones."""

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
"""Outstanding requests of one side.

A request is one index and holds no data until it is served, so 256 cost the server a few KiB of memory.
For pieces of 256 KiB, 64 would be enough (16 MiB in flight). But a folder of small files has pieces of
1 KiB, and 64 KiB in flight would limit a path of 20 ms to 3 MB/s.
"""

CONTROL_RATE = 1000.0
"""Messages other than DATA that a peer may send a second, indefinitely, without transferring a piece."""

CONTROL_BURST = 4000.0
"""Messages in one burst; each piece transferred in either direction earns CONTROL_PER_PIECE more."""

CONTROL_PER_PIECE = 4.0
"""REQUEST, CANCEL, HAVE and one spare."""

PEERS_INTERVAL = 1.0
"""The least time between two PEERS messages of one side."""

PEERS_BURST = 8.0
"""PEERS messages accepted in one burst, because they may have been queued behind bulk data."""

MAX_WITHDRAWN_SINGLY = 64
"""Pieces that are withdrawn with one WITHDRAW each; when more are lost together, they are restated."""

RESTATE_INTERVAL = 0.25
"""Seconds between two RESTATE messages of one side, on average: each is as long as a bitfield."""

RESTATE_BURST = 16.0
"""RESTATE messages accepted in one burst, because they may have been queued behind bulk data."""

KEEP_ALIVE_INTERVAL = 120.0
"""A side that has sent nothing for this long sends KEEP_ALIVE. Connections are checked more often."""

IDLE_TIMEOUT = 400.0
"""A session is ended when nothing was received for this long: three keep-alives and a margin."""

HELLO_TIMEOUT = 8.0
"""From the opening of the stream until the peer's HELLO and announcement have arrived."""

# --- Manifest and advertise protocols -----------------------------------------------------------

MAX_ADVERTS = 256
"""Manifests in one advertisement."""

MAX_ADVERTS_BYTES = 128 * 1024

ANSWER_TIMEOUT = 10.0
"""For the answer of the advertise protocol, and for the length field of a manifest answer."""
