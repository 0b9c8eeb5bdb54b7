"""The node: the only place that wires the rooms together."""

from swarm.node.node import Node, open_node
from swarm.node.results import FetchResult, PingSample, Shared

__all__ = ["FetchResult", "Node", "PingSample", "Shared", "open_node"]
