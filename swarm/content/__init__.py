"""Manifests, links, piece layouts and the journal format. Pure: no file and no network."""
