"""Imports only the parts of libp2p that are used: TCP, Noise and multistream.

``import libp2p`` loads everything: QUIC, WebSocket, TLS with ACME certificates, relays, mDNS and UPnP, with
about six hundred modules of their dependencies. `importing` leaves them out in four ways.

- A *lazy package* is one whose own code, which imports all of its parts, waits until a name is asked for that
  no part has. Its parts are imported one by one, as they are needed.
- A *deferred* module, such as that of RSA keys, is loaded when one of its functions or classes is first used.
- A part that libp2p imports all the same and that is never used becomes a *placeholder*, which can be named,
  instantiated and type-tested but not used.
- A *substitute* has the few names that libp2p takes of a module, and no more.

Code that is not loaded costs no time and no memory and cannot be attacked.

Use it in a program only, before libp2p is first imported. An application that embeds `swarm.node` may need
the rest of libp2p.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from swarm.installed import version_of

MADE_FOR = "0.8.1"
"""The version of libp2p that the lists below are for; with any other version everything is loaded."""

LAZY: dict[str, dict[str, str]] = {
    "libp2p": {},
    "libp2p.identity": {},
    "libp2p.identity.identify": {"identify_handler_for": "identify"},
    "libp2p.network": {},
    "libp2p.protocol_muxer": {},
    "libp2p.rcmgr": {"Direction": "metrics", "ResourceManager": "manager"},
    "libp2p.security": {},
    "libp2p.tools.anyio_service": {"Service": "api", "background_trio_service": "context"},
    "libp2p.transport": {},
    "netaddr": {"IPAddress": "ip"},
}
"""The lazy packages, and for some names the part that has them. multiaddr reads numbers with netaddr."""

UNUSED = (
    "libp2p.discovery.bootstrap",
    "libp2p.discovery.mdns",
    "libp2p.discovery.upnp",
    "libp2p.peer.persistent",
    "libp2p.rcmgr.manager",
    "libp2p.relay",
    "libp2p.security.pnet",
    "libp2p.security.secio",
    "libp2p.security.tls",
    "libp2p.stream_muxer.mplex",
    "libp2p.tools.anyio_service.manager",
    "libp2p.transport.quic",
    "libp2p.transport.websocket",
    "libp2p.transport.webtransport",
    "multiaddr.resolvers.dns",
)
"""Replaced by placeholders for good. Names are resolved by the system, see `swarm.net.dialer`."""

DEFERRED = ("libp2p.crypto.rsa", "libp2p.crypto.secp256k1", "multihash.funcs")
"""Keys that few peers have, with `Qm…` or `16Uiu2…` ids, and hash functions by their names."""

UNUSED_OF_OTHERS = (
    "aiofiles.tempfile",
    "anyio",
    "asyncio",
    "cryptography.hazmat.primitives.serialization.ssh",
    "cryptography.x509",
    "multiaddr.utils",
    "prometheus_client",
)
"""Replaced by placeholders during the import only: other code may need them later.

aiofiles asks asyncio for a loop where it is given none; `swarm.storage.aio` gives it one.
"""

UNUSED_WITH_UPB = ("google.protobuf.internal.python_message",)
"""The same, where protobuf does its work in C: then it only names what it has in Python."""

SUBSTITUTES: dict[str, dict[str, Any]] = {
    # Read with a parser of mail headers, from a file that says the same.
    "libp2p.utils.version": {"get_agent_version": lambda: f"py-libp2p/{MADE_FOR}"},
}

_GLIBC = {"c": "libc.so.6", "pthread": "libpthread.so.0"}


def _find_library(name: str) -> str | None:
    """As `ctypes.util.find_library`, which starts `ldconfig` for each name; these have one name each."""
    if sys.platform == "linux" and name in _GLIBC:
        try:
            ctypes.CDLL(_GLIBC[name])
        except OSError:
            pass  # another C library
        else:
            return _GLIBC[name]
    if "ctypes.util" in sys.modules:
        _forget("ctypes.util")
    found: str | None = import_module("ctypes.util").find_library(name)
    return found


SUBSTITUTES_OF_OTHERS: dict[str, dict[str, Any]] = {
    # trio and ifaddr ask for the C library.
    "ctypes.util": {"find_library": _find_library},
    # For type checkers only; a function is what it is without it.
    "trio_typing": {"takes_callable_and_args": lambda function: function},
}
"""As `SUBSTITUTES`, during the import only."""


WITHOUT = ("cffi",)
"""Not found during the import: pycryptodome then reaches its C code through ctypes, as it does where cffi is
not installed, and no C parser is loaded."""


class UnusedPart(Exception):
    """Stands for every class of a part that is not loaded; any use of an instance raises ImportError.

    It is an exception because some of those classes are named in except clauses.
    """

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        pass

    def __class_getitem__(cls, _parameters: Any) -> type[UnusedPart]:
        # Annotations name types such as `TaskStatus[Any]`.
        return cls

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


class _Substitute(_Placeholder):
    """A module in which some names are given."""

    def __init__(self, name: str, given: dict[str, Any]) -> None:
        super().__init__(name)
        vars(self).update(given)


class _LazyPackage(ModuleType):
    """A package whose own code runs when a name is asked for that no part of it has."""

    def __init__(self, spec: ModuleSpec, homes: dict[str, str]) -> None:
        super().__init__(spec.name)
        self.__spec__ = spec
        self.__path__ = list(spec.submodule_search_locations or ())
        self.__file__ = spec.origin
        self._homes = homes

    def __getattr__(self, name: str) -> Any:
        loader = self.__spec__.loader if self.__spec__ is not None else None
        if name.startswith("__") or loader is None:
            raise AttributeError(name)
        if (home := self._homes.get(name)) is not None:
            return getattr(import_module(f"{self.__name__}.{home}"), name)
        if PathFinder.find_spec(f"{self.__name__}.{name}", self.__path__) is not None:
            return import_module(f"{self.__name__}.{name}")
        # From here on it is an ordinary module, also while its own code runs.
        self.__class__ = ModuleType  # type: ignore[assignment]
        loader.exec_module(self)
        return getattr(self, name)


def _add_stand_ins() -> list[_DeferredModule]:
    for name, homes in LAZY.items():
        parent, _, child = name.rpartition(".")
        path = import_module(parent).__path__ if parent else None
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            raise ImportError(f"libp2p has no {name}")
        sys.modules[name] = package = _LazyPackage(spec, homes)
        if parent:
            setattr(sys.modules[parent], child, package)
    deferred = [_DeferredModule(name) for name in DEFERRED]
    sys.modules.update((module.__name__, module) for module in deferred)
    for name, given in SUBSTITUTES.items():
        sys.modules[name] = _Substitute(name, given)
    for name, given in SUBSTITUTES_OF_OTHERS.items():
        if name not in sys.modules:
            sys.modules[name] = substitute = _Substitute(name, given)
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, substitute)
    return deferred


def _has_upb() -> bool:
    """Whether protobuf works in C."""
    try:
        api = import_module("google.protobuf.internal.api_implementation")
    except ImportError:
        return False
    return bool(api.Type() == "upb")


class _DeferredModule(ModuleType):
    """Loads the module of its name when it is used; until the import is over, its names are stand-ins."""

    importing = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if not self.importing:
            return getattr(self.load(), name)
        return _DeferredClass(name, (), {"__module__": self.__name__, "_home": self})

    def load(self) -> ModuleType:
        """The module itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return import_module(self.__name__)


class _DeferredClass(type):
    """A class of a module that is not loaded yet: to be called, asked for what it has, and tested against.

    During the import it has methods only.
    """

    _home: _DeferredModule

    def __getattr__(cls, method: str) -> Any:
        if not cls._home.importing:
            return getattr(cls._loaded(), method)

        def loaded(*arguments: Any, **named: Any) -> Any:
            return getattr(cls._loaded(), method)(*arguments, **named)

        return loaded

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        return cls._loaded()(*arguments, **named)

    def __instancecheck__(cls, instance: object) -> bool:
        # Nothing is an instance of a class that nobody has loaded.
        return sys.modules.get(cls._home.__name__) is not cls._home and isinstance(instance, cls._loaded())

    def _loaded(cls) -> Any:
        return getattr(cls._home.load(), cls.__name__)


class _Finder:
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
        return ModuleSpec(fullname, self, is_package=True) if _within(fullname, self._left_out) else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Placeholder(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def importing() -> Iterator[bool]:
    """Import libp2p without the parts above if it is imported in the block.

    Yields False, and changes nothing, when libp2p is loaded already or is not version `MADE_FOR`.
    """
    if "libp2p" in sys.modules or version_of("libp2p") != MADE_FOR:
        yield False
        return
    unused = UNUSED_OF_OTHERS + (UNUSED_WITH_UPB if _has_upb() else ())
    of_others = _Finder(unused, WITHOUT)
    sys.meta_path[:0] = [of_others, _Finder(UNUSED)]
    deferred = _add_stand_ins()
    try:
        yield True
    finally:
        sys.meta_path.remove(of_others)
        for module in deferred:
            module.importing = False
        passing = (*unused, *SUBSTITUTES_OF_OTHERS)
        for name in [name for name in sys.modules if _within(name, passing)]:
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
