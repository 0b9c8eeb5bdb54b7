"""The node: the only place that joins the rooms together."""

from swarm.node.node import Node, PingSample, open_node

__all__ = ["Node", "PingSample", "open_node"]
