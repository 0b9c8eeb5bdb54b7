"""A quick start for a program that uses libp2p's TCP, Noise and multistream, and nothing else of it.

``import libp2p`` loads everything that libp2p can do: QUIC, WebSocket, TLS with ACME certificates, relays,
mDNS and UPnP, with some six hundred modules of their dependencies. `importing` makes the import of those
parts yield placeholders, which can be named, made and tested for but not used. What is not loaded costs no
time and no memory, and cannot be attacked.

For programs only, and before libp2p is first imported: an application that embeds `swarm.node` may want the
rest of libp2p.
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
"""The version of libp2p whose imports were read; with any other everything is loaded."""

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
"""What placeholders stand for from then on; names are resolved by the system, see `swarm.net.dialer`."""

UNUSED_OF_OTHERS = ("cryptography.x509", "prometheus_client")
"""What placeholders stand for during the import only: others may come to need it."""


WITHOUT = ("cffi",)
"""What is not found during the import: pycryptodome then reaches its C code through ctypes, as it does where
cffi is not installed, and no parser of C is loaded."""


class UnusedPart(Exception):
    """Stands for every class of a part that is not loaded; asked anything, an instance raises ImportError.

    An exception itself, because some of those classes are named in except clauses.
    """

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        part = f"{type(self).__module__}.{type(self).__qualname__}"
        raise ImportError(f"{part} is not loaded in this program ({name} was asked of it)")


class _Placeholder(ModuleType):
    """A module in which every public name is a class that can do nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        stand_in = type(name, (UnusedPart,), {"__module__": self.__name__})
        setattr(self, name, stand_in)
        return stand_in


class _Finder(MetaPathFinder, Loader):
    """First in the search for modules: answers for ``left_out`` and leaves the rest to the others."""

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
    """Leave parts of libp2p out if it is imported in the body.

    Gives False, and changes nothing, when libp2p is loaded already or its version is not the one known.
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
    """Undo the import of a placeholder: the next import of that name finds the real module."""
    if not isinstance(sys.modules[name], _Placeholder):
        return
    del sys.modules[name]
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        vars(sys.modules[parent]).pop(child, None)
