"""The parts that rest on the internals of py-libp2p; no other module touches them."""
