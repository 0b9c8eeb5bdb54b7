"""One-call forms for scripts and notebooks, and for threads of programs that do not use trio."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import trio

from swarm.config import NodeOptions, TransferOptions
from swarm.content.link import SwarmLink
from swarm.ids import ManifestId
from swarm.node.open_node import open_node


def fetch(
    content: str | Path | SwarmLink | ManifestId,
    *,
    into: str | Path,
    options: TransferOptions | None = None,
    node: NodeOptions | None = None,
) -> Path:
    """Fetch ``content`` (a link, a ``.swarm`` file, an id) into the folder ``into``, and return its path.

    Blocks until all of it is verified and in place. Not for trio tasks; an asyncio program can call it in a
    thread. Raises UsageError, ManifestError, NoPeerReachable, Incomplete, IntegrityError, DiskError, Locked.
    """

    async def run() -> Path:
        async with (
            open_node(node) as opened,
            opened.fetch(content, into=into, options=options) as transfer,
        ):
            return await transfer.complete()

    return trio.run(run)


def share(
    path: str | Path,
    *,
    piece_length: int | None = None,
    options: TransferOptions | None = None,
    node: NodeOptions | None = None,
) -> BackgroundShare:
    """Hash ``path`` and seed it from a thread of its own, until `BackgroundShare.stop` or the process ends.

    Blocks until it is hashed. Raises UsageError, DiskError.
    """
    shared = BackgroundShare(Path(path), piece_length, options, node)
    try:
        shared.start()
    except BaseException:
        # Ctrl-C while it hashes: nobody has a handle to stop it with.
        shared.abandon()
        raise
    return shared


class BackgroundShare:
    """What `share` seeds; a ``with`` block ends it.

    ``link`` is the ``swarm:`` link to give to others, ``id`` the manifest's id, ``addresses`` are the node's.
    """

    def __init__(
        self,
        path: Path,
        piece_length: int | None,
        options: TransferOptions | None,
        node: NodeOptions | None,
    ) -> None:
        self._path = path
        self._piece_length = piece_length
        self._options = options
        self._node = node
        self._thread = threading.Thread(target=self._run, name="swarm share", daemon=True)
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._failure: BaseException | None = None
        self._abandoned = False
        self.link = ""
        self.id: ManifestId | None = None
        self.addresses: tuple[str, ...] = ()

    def start(self) -> None:
        """Begin, and wait until it is seeding; raises what prevents that."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Say goodbye to the peers, close the files and wait for the end; harmless when done twice.

        The first call raises what the share failed with meanwhile.
        """
        self.abandon()
        self._thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def abandon(self) -> None:
        """Let it end by itself, and do not wait for that."""
        self._abandoned = True
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._scope.cancel)

    def __enter__(self) -> BackgroundShare:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            trio.run(self._seed)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._failure = error
        finally:
            self._ready.set()

    async def _seed(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        if self._abandoned:
            return
        options = self._node or NodeOptions()
        if not options.serves:
            options = replace(options, serves=(self._path,))
        async with open_node(options) as node:
            with self._scope:
                shared = await node.share(self._path, piece_length=self._piece_length, options=self._options)
                self.link, self.id, self.addresses = shared.link, shared.id, node.addresses
                self._ready.set()
                await shared.closed()
