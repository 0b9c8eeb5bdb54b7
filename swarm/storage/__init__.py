"""Pieces on disk: scanning what is shared, seeding in place, fetch targets, keys; see docs/storage.md."""
