"""Every limit of the host by name: what a stranger may cost this node before and beside its streams.

Times are seconds. The link's limits are in `swarm.mux.mux_limits`, those of what is said on streams in
`swarm.protocol.protocol_limits`.
"""

from __future__ import annotations

HANDSHAKE_DEADLINE = 8
"""For the security and the muxer of one connection, and for the negotiation of one stream.

Whole seconds: libp2p's API. A stranger that stops in the middle is gone within ten seconds.
"""

MAX_PENDING_HANDSHAKES = 64
"""Inbound connections that may be in their handshake at once; more are closed unanswered."""

MAX_PENDING_PER_ADDRESS = 16
"""The same for one remote IP, so that one host cannot hold every place."""

ADDRESS_SHARE = 2
"""One remote IP holds at most 1/ADDRESS_SHARE of all connections."""

MAX_CONNECTIONS_PER_PEER = 4
"""Of one peer id: two that dialled each other at once, and two that it may have lost. The oldest goes."""

ADDRESSES_REMEMBERED = 4096
"""Remote IPs whose recent conduct is known; the one that came longest ago is forgotten first."""

UNPROVEN_RATE = 8.0
UNPROVEN_BURST = 256.0
"""Connections a second, and at once, that one IP may make without ever exchanging pieces over them."""

UNUSED_SECONDS = 8.0
"""An inbound connection without a single stream for so long is closed; it can come back when it has a use."""

USED_SECONDS = 60.0
"""How often at least it is looked at whether a connection with streams still has any."""

GRACE_SECONDS = 2.0
"""A connection that is younger does not give way to a newer one: it had no time to prove its use."""

UNWANTED_SECONDS = 5.0
"""A connection of a peer that the user does not serve is closed after so long: it may hear why until then."""

OFFENCE_RATE = 0.5
OFFENCE_BURST = 16.0
"""Streams a second, and at once, that a peer may open and not negotiate, or that go beyond its share."""

STREAM_RATE = 32.0
STREAM_BURST = 512.0
"""Streams a second, and at once, that a peer may open; each costs a task and a negotiation."""

STREAMS_PER_QUESTION = 8
"""Streams of one peer on which one of the small protocols (offers, a manifest) is answered at once."""

DESCRIPTORS_FOR_FILES = 16
"""File descriptors that sockets never take: a running transfer can always open its files."""

DESCRIPTORS_SPARE = 4
"""Beside them, for what the process opens in passing."""

PING_RATE = 1000.0
PING_BURST = 4000.0
"""Pings a second, and at once, that a peer is answered on one stream; `swarm ping` stays below."""
