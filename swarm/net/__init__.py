"""The network: the only importer of libp2p."""
