"""The names of the protocols of circuit relay v2 and of DCUtR, apart: a node answers them from its start, and
loads what speaks them with the first circuit.
"""

from __future__ import annotations

HOP_PROTOCOL = "/libp2p/circuit/relay/0.2.0/hop"
STOP_PROTOCOL = "/libp2p/circuit/relay/0.2.0/stop"
PUNCH_PROTOCOL = "/libp2p/dcutr"
