"""Noise records and the Yamux multiplexer. Pure: received bytes go in, results and bytes to send come out."""
