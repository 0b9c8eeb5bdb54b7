"""Imports only the parts of libp2p that are used: TCP, Noise and multistream.

``import libp2p`` loads everything: QUIC, WebSocket, TLS with ACME certificates, relays, mDNS and UPnP, with
about six hundred modules of their dependencies. `importing` replaces those parts with placeholders, which
can be named, instantiated and type-tested but not used. Code that is not loaded costs no time and no memory
and cannot be attacked.

Use it in a program only, before libp2p is first imported. An application that embeds `swarm.node` may need
the rest of libp2p.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MADE_FOR = "0.8.1"
"""The version of libp2p that the lists below are for; with any other version everything is loaded."""

UNUSED = (
    "libp2p.discovery.bootstrap",
    "libp2p.discovery.mdns",
    "libp2p.discovery.upnp",
    "libp2p.peer.persistent",
    "libp2p.relay",
    "libp2p.security.secio",
    "libp2p.security.tls",
    "libp2p.stream_muxer.mplex",
    "libp2p.transport.quic",
    "libp2p.transport.websocket",
    "libp2p.transport.webtransport",
    "multiaddr.resolvers.dns",
)
"""Replaced by placeholders for good. Names are resolved by the system, see `swarm.net.dialer`."""

UNUSED_OF_OTHERS = ("cryptography.x509", "prometheus_client")
"""Replaced by placeholders during the import only: other code may need them later."""


WITHOUT = ("cffi",)
"""Not found during the import: pycryptodome then reaches its C code through ctypes, as it does where cffi is
not installed, and no C parser is loaded."""


class UnusedPart(Exception):
    """Stands for every class of a part that is not loaded; any use of an instance raises ImportError.

    It is an exception because some of those classes are named in except clauses.
    """

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        part = f"{type(self).__module__}.{type(self).__qualname__}"
        raise ImportError(f"{part} is not loaded in this program ({name} was asked of it)")


class _Placeholder(ModuleType):
    """A module in which every public name is a subclass of `UnusedPart`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        stand_in = type(name, (UnusedPart,), {"__module__": self.__name__})
        setattr(self, name, stand_in)
        return stand_in


class _Finder(MetaPathFinder, Loader):
    """A module finder that returns placeholders for ``left_out`` and leaves the rest to other finders."""

    def __init__(self, left_out: Sequence[str], not_found: Sequence[str] = ()) -> None:
        self._left_out = left_out
        self._not_found = not_found

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the protocol's arguments
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname in self._not_found:
            raise ModuleNotFoundError(f"{fullname} is left out of this import", name=fullname)
        return ModuleSpec(fullname, self, is_package=True) if _within(fullname, self._left_out) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Placeholder(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def importing() -> Iterator[bool]:
    """Import libp2p without the parts above if it is imported in the block.

    Yields False, and changes nothing, when libp2p is loaded already or is not version `MADE_FOR`.
    """
    if "libp2p" in sys.modules or metadata.version("libp2p") != MADE_FOR:
        yield False
        return
    of_others = _Finder(UNUSED_OF_OTHERS, WITHOUT)
    sys.meta_path[:0] = [of_others, _Finder(UNUSED)]
    try:
        yield True
    finally:
        sys.meta_path.remove(of_others)
        for name in [name for name in sys.modules if _within(name, UNUSED_OF_OTHERS)]:
            _forget(name)


def _within(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _forget(name: str) -> None:
    """Undo the import of a placeholder, so that the next import of that name finds the real module."""
    if not isinstance(sys.modules[name], _Placeholder):
        return
    del sys.modules[name]
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        vars(sys.modules[parent]).pop(child, None)
