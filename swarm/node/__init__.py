"""The node: the only place that wires the rooms together."""
