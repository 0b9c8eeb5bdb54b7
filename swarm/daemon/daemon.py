"""One daemon: a node, the transfers that are kept, and the API on its sockets."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Final

import trio

from swarm.config import NodeOptions
from swarm.content.paths import printable
from swarm.daemon import places, service_manager
from swarm.daemon.access import TcpAccess
from swarm.daemon.api import Api, StaticFile
from swarm.daemon.change_log import ChangeLog
from swarm.daemon.completion_hook import CompletionHook
from swarm.daemon.http_messages import HttpRequest
from swarm.daemon.http_server import ApiServer
from swarm.daemon.keeper import TransferKeeper
from swarm.daemon.transfer_registry import FILE, TransferRegistry
from swarm.daemon.watch_folder import WatchFolder
from swarm.errors import DiskError, Locked, UsageError
from swarm.lazy_dataclass import dataclass, field, replace
from swarm.node import Node, open_node
from swarm.storage import aio
from swarm.storage.home import make_home
from swarm.storage.home_folder import swarm_home

TOKEN_BYTES: Final = 32
TOKEN_FILE_LIMIT: Final = 256
TOKEN_MODE: Final = 0o600
IDENTITY: Final = "daemon"
"""The daemon's own identity and port belong to this name in its home, as those of a share to its path."""

_PAGE: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/favicon.ico": ("icon.svg", "image/svg+xml"),
}


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """Settings of a daemon; ``http`` is a loopback address and a port for the page, None for no TCP.

    ``node`` are those of its node: the home, addresses, ways to find peers. ``output`` is where a fetch goes
    that names no folder. What is put into the folders of ``watch`` is shared. ``on_complete`` is a program
    with its arguments that is run for each complete fetch. With ``private_origins`` web servers may have
    addresses that are not public.
    """

    node: NodeOptions = field(default_factory=NodeOptions)
    http: tuple[str, int] | None = None
    output: Path = Path()
    watch: tuple[Path, ...] = ()
    on_complete: tuple[str, ...] = ()
    private_origins: bool = False


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """A daemon that is ready. ``page`` is the address of the page with the token, empty without TCP."""

    node: Node
    keeper: TransferKeeper
    socket: Path
    page: str
    token_file: Path
    restored: int


@asynccontextmanager
async def open_daemon(
    options: DaemonOptions, tell: Callable[[str], None], version: str
) -> AsyncIterator[RunningDaemon]:
    """Run a daemon for the block; what is kept goes on, and the API answers.

    ``tell`` is called with one line about what goes wrong meanwhile. Raises Locked if another daemon runs in
    that home, UsageError for an address that cannot be had, DiskError.
    """
    home = options.node.home or swarm_home()
    await make_home(home)
    with _only_one(home), _log(), _sockets(home, options.http) as listeners:
        token = await _token(home) if options.http is not None else ""
        registry = await trio.to_thread.run_sync(TransferRegistry, home / FILE)
        try:
            node_options = replace(options.node, home=home, serves=(home / IDENTITY,))
            async with open_node(node_options, tell=tell) as node, trio.open_nursery() as nursery:
                keeper = TransferKeeper(node, registry, ChangeLog(secrets.token_hex(4)), nursery, tell)
                keeper.private_origins = options.private_origins
                if options.on_complete:
                    keeper.completed = CompletionHook(options.on_complete, keeper, nursery).completed
                nursery.start_soon(_tell_moves, keeper, node.next_move)
                restored = await keeper.restore()
                for folder in dict.fromkeys(map(_real, options.watch)):
                    nursery.start_soon(WatchFolder(keeper, registry, folder).run)
                output = str(_real(options.output))
                api = Api(keeper, output, version, await trio.to_thread.run_sync(page_files), token)
                page = _begin_to_serve(nursery, api, listeners, token)
                service_manager.notify(f"READY=1\nSTATUS={restored} transfers restored")
                try:
                    yield RunningDaemon(
                        node, keeper, home / places.SOCKET, page, home / places.TOKEN, restored
                    )
                finally:
                    service_manager.notify("STOPPING=1")
                    nursery.cancel_scope.cancel()
        finally:
            registry.close()


async def _tell_moves(keeper: TransferKeeper, move: trio.Event) -> None:
    """Count each transfer as changed when the addresses of the node change: they are in its link."""
    while True:
        await move.wait()
        move = keeper.node.next_move
        for each in keeper.entries:
            keeper.changes.touch(each)
        keeper.changes.touch_node()
        keeper.tell_news()


def page_files() -> dict[str, StaticFile]:
    """The parts of the page, by the path under which they are served."""
    folder = resources.files("swarm.daemon") / "page"
    return {path: StaticFile((folder / name).read_bytes(), kind) for path, (name, kind) in _PAGE.items()}


def _begin_to_serve(nursery: trio.Nursery, api: Api, listeners: tuple[socket.socket, ...], token: str) -> str:
    page = ""
    for each in listeners:
        check: Callable[[HttpRequest], None] = _everything
        if each.family != socket.AF_UNIX:
            host, port = each.getsockname()[:2]
            check = TcpAccess(port, token).check
            shown = f"[{host}]" if ":" in host else host
            page = f"http://{shown}:{port}/#token={token}"
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(each))
        serve: Callable[[trio.SocketListener], Awaitable[None]] = ApiServer(api, check).serve
        nursery.start_soon(serve, listener)
    return page


def _real(path: Path) -> Path:
    """The path without links; a link that leads to itself stays, and whoever opens it says so."""
    return Path(os.path.realpath(path))


def _everything(_request: HttpRequest) -> None:
    """Whoever can open the Unix socket is the user."""


@contextmanager
def _log() -> Iterator[None]:
    """Faults of the daemon are written to stderr, with where they are, unless logging was set up.

    A command writes no log, and the node keeps that of libp2p off stderr.
    """
    log = logging.getLogger("swarm")
    handlers = (*log.handlers, *logging.getLogger().handlers)
    if not all(isinstance(each, logging.NullHandler) for each in handlers):
        yield
        return
    handler = logging.StreamHandler()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Hold the lock of the home's daemon."""
    path = home / places.LOCK
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, TOKEN_MODE)
    except OSError as error:
        raise DiskError(f"{printable(str(path))}: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Locked(f"a daemon runs in {printable(str(home))} already: see swarm status") from error
        yield
    finally:
        os.close(fd)


@contextmanager
def _sockets(home: Path, http: tuple[str, int] | None) -> Iterator[tuple[socket.socket, ...]]:
    """The listening sockets of the API; the path of the Unix socket is removed at the end."""
    try:
        unix = places.listening_socket(home)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {printable(str(home / places.SOCKET))}: {error.strerror or error}"
        ) from error
    try:
        with unix:
            if http is None:
                yield (unix,)
                return
            with _tcp(*http) as tcp:
                yield (unix, tcp)
    finally:
        with suppress(OSError):
            (home / places.SOCKET).unlink()


def _tcp(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # A port in TIME_WAIT may be used again; one that another process listens on may not.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(64)
    except OSError as error:
        made.close()
        raise UsageError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    return made


async def _token(home: Path) -> str:
    """The token, made on first use; only its user can read the file."""
    path = home / places.TOKEN
    await aio.write_once(path, secrets.token_urlsafe(TOKEN_BYTES).encode() + b"\n", TOKEN_MODE)
    with suppress(OSError):
        await trio.Path(path).chmod(TOKEN_MODE)
    token = (await aio.read_bytes(path, TOKEN_FILE_LIMIT)).decode("ascii", "replace").strip()
    if len(token) < TOKEN_BYTES or not all("!" <= letter <= "~" for letter in token):
        raise DiskError(f"{printable(str(path))} holds no token: remove it to get a new one")
    return token
