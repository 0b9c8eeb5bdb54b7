"""Every limit of the host: what an unknown peer may cost this node outside of its streams.

Times are seconds. Limits of the multiplexed connection are in `swarm.mux.mux_limits`, limits of the
stream protocols in `swarm.protocol.protocol_limits`.
"""

from __future__ import annotations

HANDSHAKE_DEADLINE = 8
"""Deadline for securing and multiplexing one connection, and for negotiating one stream.

Whole seconds, because libp2p's API takes an int. A peer that stalls is disconnected within ten seconds.
"""

MAX_PENDING_HANDSHAKES = 64
"""Inbound handshakes in progress at once; further connections are closed without an answer."""

MAX_PENDING_PER_ADDRESS = 16
"""The same for one remote IP, so that one host cannot occupy every slot."""

ADDRESS_SHARE = 2
"""One remote IP has at most 1/ADDRESS_SHARE of all inbound connections."""

MAX_CONNECTIONS_PER_PEER = 4
"""Connections of one peer id: two from a simultaneous dial, and two that it may have lost. The oldest one
is closed first."""

ADDRESSES_REMEMBERED = 4096
"""Remote IPs whose rate limit is kept; the least recently used is dropped first."""

UNPROVEN_RATE = 8.0
UNPROVEN_BURST = 256.0
"""Connections that one IP may make a second, and in a burst, without exchanging pieces over them."""

UNUSED_SECONDS = 8.0
"""An inbound connection without any stream for this long is closed."""

USED_SECONDS = 60.0
"""The longest interval between two checks whether a connection still has streams."""

GRACE_SECONDS = 2.0
"""A younger connection is not displaced by a newer one: it has had no time to be useful."""

UNWANTED_SECONDS = 5.0
"""A connection of a peer that is not allowed is closed after this long, which suffices to tell it why."""

OFFENCE_RATE = 0.5
OFFENCE_BURST = 16.0
"""Streams that a peer may waste a second, and in a burst: opened and not negotiated, or beyond its share."""

STREAM_RATE = 32.0
STREAM_BURST = 512.0
"""Streams that a peer may open a second, and in a burst; each costs a task and a negotiation."""

STREAMS_PER_QUESTION = 8
"""Streams of one peer that are answered at once on each of the advertise and manifest protocols."""

DESCRIPTORS_FOR_FILES = 16
"""File descriptors reserved for files, so that a running transfer can always open its own."""

DESCRIPTORS_SPARE = 4
"""Further descriptors reserved for short-lived use by the process."""

PING_RATE = 1000.0
PING_BURST = 4000.0
"""Pings answered a second, and in a burst, on one stream; `swarm ping` stays below."""
