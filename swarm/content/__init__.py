"""What is shared: manifests, names, layouts, bitfields and records; pure, no file and no network."""
