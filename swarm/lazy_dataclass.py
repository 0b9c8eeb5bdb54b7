"""`dataclass`, the standard library's decorator, whose methods are made when they are first needed.

The standard library compiles up to seven methods of a frozen class when the class is made: about half a
millisecond. A program that makes 160 such classes at its start and uses a third of them pays for all. Here a
class gets its slots at once, and stand-ins for the methods; the first one that is called lets the standard
library make all of them, and they replace the stand-ins for good. A class behaves as if made by
`dataclasses.dataclass` with ``slots=True``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["dataclass", "field", "replace"]

if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
else:
    import dataclasses
    import threading
    from dataclasses import field, replace

    _ABOUT = ("__dataclass_fields__", "__dataclass_params__", "__match_args__")
    _COMPARING = ("__lt__", "__le__", "__gt__", "__ge__")
    _COMPLETING = threading.RLock()
    """Completing a class completes its bases."""

    def dataclass(*, slots, frozen=False, eq=True, order=False):
        """Make a dataclass of a class, as `dataclasses.dataclass` would; ``slots`` has to be True."""
        if not slots:
            raise TypeError("a lazy dataclass has slots")
        return lambda plain: _slotted(plain, {"frozen": frozen, "eq": eq, "order": order})

    def _slotted(plain, options):
        names = [name for name, kind in vars(plain).get("__annotations__", {}).items() if _is_field(kind)]
        inherited = {name for base in plain.__mro__[1:] for name in vars(base).get("__slots__", ())}
        body = {name: value for name, value in vars(plain).items() if name not in names}
        for name in ("__dict__", "__weakref__"):
            body.pop(name, None)
        body["__slots__"] = tuple(name for name in names if name not in inherited)
        body["__qualname__"] = plain.__qualname__
        made = type(plain)(plain.__name__, plain.__bases__, body)
        _refer_to(made, plain)
        own = vars(plain)

        awaited = [*_ABOUT, "__init__", "__repr__"]
        awaited += ("__eq__", "__hash__") if options["eq"] else ()
        awaited += _COMPARING if options["order"] else ()
        # A class that defines __eq__ has a __hash__ of None: that one is not of its own making.
        awaited = [name for name in awaited if own.get(name) is None]

        def complete():
            """Let the standard library make what is awaited; returns the finished class."""
            with _COMPLETING:
                if isinstance(vars(made)["__dataclass_fields__"], _Awaited):
                    whole = vars(dataclasses.dataclass(**options)(plain))
                    for name in awaited:
                        setattr(made, name, whole[name])
            return made

        for name in awaited:
            setattr(made, name, _Awaited(name, complete) if name in _ABOUT else _stand_in(name, complete))
        if options["eq"] and not options["frozen"] and "__hash__" in awaited:
            made.__hash__ = None
        if options["frozen"]:
            made.__setattr__ = _refuse_setting
            made.__delattr__ = _refuse_deleting
            made.__getstate__ = _state
            made.__setstate__ = _restore
        return made

    def _is_field(kind):
        return not str(kind).startswith(("ClassVar", "typing.ClassVar"))

    def _refer_to(made, plain):
        """Let ``super()`` in the methods of the class mean the class that has slots."""
        for method in vars(plain).values():
            function = getattr(method, "fget", None) or getattr(method, "__func__", method)
            for cell in getattr(function, "__closure__", None) or ():
                if cell.cell_contents is plain:
                    cell.cell_contents = made

    def _stand_in(name, complete):
        def first(self, *arguments, **named):
            return vars(complete())[name](self, *arguments, **named)

        first.__name__ = name
        return first

    class _Awaited:
        """An attribute of the class that is there once the class is complete."""

        def __init__(self, name, complete):
            self._name = name
            self._complete = complete

        def __get__(self, _instance, _owner):
            return vars(self._complete())[self._name]

    def _refuse_setting(_self, name, _value):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_deleting(_self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def _state(self):
        return [getattr(self, each.name) for each in dataclasses.fields(self)]

    def _restore(self, state):
        for each, value in zip(dataclasses.fields(self), state, strict=True):
            object.__setattr__(self, each.name, value)
