"""The node: the only place that wires the rooms together."""

from swarm.node.node import FetchResult, Node, PingSample, Shared, open_node

__all__ = ["FetchResult", "Node", "PingSample", "Shared", "open_node"]
