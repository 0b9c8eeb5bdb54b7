"""Noise records and Yamux, pure: bytes in, happenings out; bytes to send out."""
