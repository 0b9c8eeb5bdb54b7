"""Where peers come from: each module is a `PeerSource` (see `swarm.ports`)."""
