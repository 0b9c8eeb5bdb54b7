"""Sources of pieces that are no peers: each module is a `PieceSource` (see `swarm.ports`)."""
