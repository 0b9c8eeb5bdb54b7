"""Pieces on disk: scanning, seeding in place, fetch targets and identity keys. Source: docs/storage.md."""
