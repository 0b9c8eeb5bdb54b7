"""The download side of one transfer: which piece is asked of which source, and when it is moved."""
