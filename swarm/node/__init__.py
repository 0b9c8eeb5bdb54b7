"""The node: the only place that joins the rooms together."""

from swarm.node.node import Node
from swarm.node.open_node import open_node
from swarm.node.pinging import PingSample

__all__ = ["Node", "PingSample", "open_node"]
