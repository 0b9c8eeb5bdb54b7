"""Everything that depends on the internals of py-libp2p; no other module uses them."""
