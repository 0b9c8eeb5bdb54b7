"""swarm: a peer-to-peer file sharing peer on libp2p."""
