"""What a node did, for people and programs: events folded into a snapshot, or written as JSON lines."""
