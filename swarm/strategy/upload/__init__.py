"""The upload side of one transfer: which peers may ask, and which piece is sent next."""
