"""What a command runs with: a node, a view, and the two switches that every command has.

`Runtime.load_node` is the one seam between the commands and the node: a test hands in a node of
its own through click's context object; everybody else gets the real one, imported only when a
command asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from swarm.lazy_dataclass import dataclass, field

if TYPE_CHECKING:
    from cli.output import Outputs
    from cli.render.live import Live
    from swarm.config import MeetingOptions, NodeOptions
    from swarm.node import Node
    from swarm.node.meeting_server import MeetingServer

    class OpenNode(Protocol):
        """Opens a node; ``tell`` is called with warnings about that."""

        def __call__(
            self, options: NodeOptions, *, tell: Callable[[str], None] | None = None
        ) -> AbstractAsyncContextManager[Node]:
            """Open it for the block."""

    OpenMeeting = Callable[[MeetingOptions], AbstractAsyncContextManager[MeetingServer]]


def open_node() -> OpenNode:
    """Import the node, and of libp2p what the node uses: about half a second."""
    from swarm.net.libp2p import partial_import

    with partial_import.importing():
        from swarm.node import open_node as real
    return real


def open_meeting() -> OpenMeeting:
    """Import the meeting point, and of libp2p what it uses."""
    from swarm.net.libp2p import partial_import

    with partial_import.importing():
        from swarm.node.meeting_server import open_meeting_server as real
    return real


TRANSFERRING = frozenset({"share", "fetch", "release", "follow", "listen", "meet", "daemon"})
"""Commands whose work goes on whatever becomes of their output; the others exist to print."""


def _outputs() -> Outputs:
    from cli.output import Outputs

    return Outputs(sys.stdout, sys.stderr)


@dataclass(slots=True)
class Runtime:
    """The state of one run of the program; commands get it as click's context object."""

    load_node: Callable[[], OpenNode] = open_node
    debug: bool = False
    verbose: int = 0
    quiet: bool = False
    prints: bool = True
    """Whether the command exists to print, so that its output matters to its exit code."""
    outputs: Outputs = field(default_factory=_outputs)
    live: Live | None = None

    def show(self, command: str, *, json: str | bool | None = None, peers: bool = False) -> Live:
        """Choose how this command shows what happens, and begin.

        ``json`` is ``pieces`` for lines about single pieces, too; ``peers`` shows a table of them.
        """
        from cli.render.live import Live
        from cli.render.views import choose_view

        self.prints = command not in TRANSFERRING
        self.outputs.out.strict = self.prints
        self.live = Live(
            choose_view(self.outputs, json=json, verbose=self.verbose, quiet=self.quiet, peers=peers)
        )
        self.live.begin(command)
        return self.live

    def imported(self) -> None:
        """Import the node before trio runs, so that a signal during the import ends it at once."""
        self.load_node()

    def with_node(self, node_options: NodeOptions, main: Callable[[Node], Awaitable[None]]) -> None:
        """Open a node, run ``main`` with it, and close it; a signal cancels ``main``."""
        # Imported before trio runs, so that a signal during the import ends it at once. First of all, because
        # trio is to be imported within the partial import.
        opener = self.load_node()
        from cli import running

        async def opened() -> None:
            tell = None if self.live is None else self.live.warn
            async with opener(node_options, tell=tell) as node:
                await main(node)

        running.run(opened)
