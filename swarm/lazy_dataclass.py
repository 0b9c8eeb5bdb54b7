"""`dataclass`, like the standard library's, whose methods are made when they are first needed.

The standard library compiles up to seven methods of a frozen class when the class is made: about half a
millisecond. A program that makes 160 such classes at its start and uses a third of them pays for all. Here a
class gets its slots at once, and stand-ins for its methods. The first use of one makes them all; only
``__init__`` needs the compiler. What `dataclasses.fields` asks for, the standard library supplies, once it is
asked for. A program with time to spare makes the methods before they are needed: `incomplete`, `complete`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["complete", "dataclass", "field", "incomplete", "replace"]

if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace

    def incomplete(*packages: str) -> list[type]:
        """The lazy dataclasses of these packages, or modules, whose methods are not made yet."""

    def complete(made: type) -> None:
        """Make the methods of such a class now: some 0.1 ms. Nothing is done for any other class."""

else:
    import dataclasses
    import operator
    import threading
    import types
    from dataclasses import field, replace

    _ABOUT = ("__dataclass_fields__", "__dataclass_params__", "__match_args__")
    _COMPLETING = threading.RLock()
    """What a class inherits is asked of its bases."""

    _WAITING = {}
    """The classes that are not complete."""

    def incomplete(*packages):
        """The lazy dataclasses of these packages, or modules, whose methods are not made yet."""
        return [made for made in tuple(_WAITING) if _is_within(made.__module__, packages)]

    def complete(made):
        """Make the methods of such a class now: some 0.1 ms. Nothing is done for any other class."""
        lazy = _WAITING.get(made)
        if lazy is not None:
            lazy.completed()

    def _is_within(module, packages):
        return any(module == package or module.startswith(f"{package}.") for package in packages)

    def dataclass(*, slots, frozen=False, eq=True):
        """Make a dataclass of a class, as `dataclasses.dataclass` would; ``slots`` has to be True."""
        if not slots:
            raise TypeError("a lazy dataclass has slots")
        return lambda plain: _Lazy(plain, frozen, eq).made

    class _Lazy:
        """One class with slots, and how its methods are made when they are needed."""

        def __init__(self, plain, frozen, eq):
            self._plain = plain
            self._frozen = frozen
            self.made = _with_slots(plain)
            self._complete = self._described = False
            self._fields = None
            _WAITING[self.made] = self
            methods = ["__init__", "__repr__", *(("__eq__", "__hash__") if eq else ())]
            # A class that defines __eq__ has a __hash__ of None: that one is not of its own making.
            self._methods = [name for name in methods if vars(plain).get(name) is None]
            for name in self._methods:
                setattr(self.made, name, self._stand_in(name))
            if eq and not frozen and "__hash__" in self._methods:
                self._methods.remove("__hash__")
                self.made.__hash__ = None
            for name in _ABOUT:
                setattr(self.made, name, _Awaited(name, self))
            if frozen:
                self.made.__setattr__ = _refuse_setting
                self.made.__delattr__ = _refuse_deleting
                self.made.__getstate__ = _state
                self.made.__setstate__ = _restore

        def _stand_in(self, name):
            def first(instance, *arguments, **named):
                return vars(self.completed())[name](instance, *arguments, **named)

            first.__name__ = name
            return first

        def completed(self):
            """The class with all of its methods."""
            with _COMPLETING:
                if not self._complete:
                    self._finish()
                    self._complete = True
                    del _WAITING[self.made]
            return self.made

        def described(self):
            """The class with what `dataclasses.fields` asks for."""
            with _COMPLETING:
                if not self._described:
                    # The standard library takes the fields out of the plain class.
                    self.fields()
                    # This compiles nothing. For a class without a text it would tokenize a signature.
                    self._plain.__doc__ = self._plain.__doc__ or self._plain.__name__
                    whole = dataclasses.dataclass(init=False, repr=False, eq=False)(self._plain)
                    for name in _ABOUT:
                        setattr(self.made, name, vars(whole)[name])
                    self._described = True
            return self.made

        def fields(self):
            """Its fields by their names, first those that it inherits: what its methods are made of."""
            if self._fields is None:
                found = {}
                for base in reversed(self._plain.__mro__[1:]):
                    about = vars(base).get("__dataclass_fields__")
                    if isinstance(about, _Awaited):
                        found |= about.lazy.fields()
                    elif about is not None:
                        found |= {each.name: each for each in dataclasses.fields(base)}
                for name, kind in vars(self._plain).get("__annotations__", {}).items():
                    if _is_field(kind):
                        found[name] = _field_of(self._plain, name, kind)
                self._fields = found
            return self._fields

        def _finish(self):
            fields = list(self.fields().values())
            compared = [each.name for each in fields if each.compare]
            hashed = [each.name for each in fields if (each.compare if each.hash is None else each.hash)]
            make = {
                "__init__": lambda: _init(self.made, fields, self._frozen),
                "__repr__": lambda: _repr([each.name for each in fields if each.repr]),
                "__eq__": lambda: _eq(_values(compared)),
                "__hash__": lambda: _hash(_values(hashed)),
            }
            for name in self._methods:
                method = make[name]()
                method.__qualname__ = f"{self.made.__qualname__}.{name}"
                setattr(self.made, name, method)

    def _with_slots(plain):
        names = [name for name, kind in vars(plain).get("__annotations__", {}).items() if _is_field(kind)]
        inherited = {name for base in plain.__mro__[1:] for name in vars(base).get("__slots__", ())}
        body = {name: value for name, value in vars(plain).items() if name not in names}
        for name in ("__dict__", "__weakref__"):
            body.pop(name, None)
        body["__slots__"] = tuple(name for name in names if name not in inherited)
        body["__qualname__"] = plain.__qualname__
        made = type(plain)(plain.__name__, plain.__bases__, body)
        # Let super() in its methods mean the class that has slots.
        for method in vars(plain).values():
            function = getattr(method, "fget", None) or getattr(method, "__func__", method)
            for cell in getattr(function, "__closure__", None) or ():
                if cell.cell_contents is plain:
                    cell.cell_contents = made
        return made

    def _is_field(kind):
        return not str(kind).startswith(("ClassVar", "typing.ClassVar"))

    class _Awaited:
        """An attribute of the class that is there once it is asked for."""

        def __init__(self, name, lazy):
            self._name = name
            self.lazy = lazy

        def __get__(self, _instance, _owner):
            return vars(self.lazy.described())[self._name]

    def _field_of(plain, name, kind):
        given = getattr(plain, name, dataclasses.MISSING)
        if isinstance(given, dataclasses.Field):
            found = given
        else:
            # A slot that is inherited is no default.
            is_slot = isinstance(given, types.MemberDescriptorType)
            found = field(default=dataclasses.MISSING if is_slot else given)
        found.name, found.type = name, kind
        return found

    def _init(made, fields, frozen):
        names = {"_MISSING": dataclasses.MISSING}
        parameters, lines = [], []
        for each in fields:
            name, given, value = each.name, each.name, each.name
            if each.default is not dataclasses.MISSING:
                names[f"_default_{name}"] = each.default
                given = f"{name}=_default_{name}"
            elif each.default_factory is not dataclasses.MISSING:
                names[f"_make_{name}"] = each.default_factory
                given = f"{name}=_MISSING"
                value = f"_make_{name}() if {name} is _MISSING else {name}"
            parameters.append(given)
            if frozen:
                names[f"_set_{name}"] = getattr(made, name).__set__
                lines.append(f"_set_{name}(self, {value})")
            else:
                lines.append(f"self.{name} = {value}")
        if hasattr(made, "__post_init__"):
            lines.append("self.__post_init__()")
        body = "\n  ".join(lines or ["pass"])
        text = f"def __init__({', '.join(['self', *parameters])}):\n  {body}"
        exec(text, names)  # noqa: S102 - the names are those of the class's own fields
        names["__init__"].__annotations__ = {each.name: each.type for each in fields} | {"return": None}
        return names["__init__"]

    def _repr(shown):
        def __repr__(self):  # noqa: N807 - it becomes one
            values = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
            return f"{type(self).__qualname__}({values})"

        return __repr__

    def _values(names):
        return operator.attrgetter(*names) if names else lambda _: ()

    def _eq(values):
        def __eq__(self, other):  # noqa: N807 - it becomes one
            return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

        return __eq__

    def _hash(values):
        def __hash__(self):  # noqa: N807 - it becomes one
            return hash(values(self))

        return __hash__

    def _refuse_setting(_self, name, _value):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_deleting(_self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def _state(self):
        return [getattr(self, each.name) for each in dataclasses.fields(self)]

    def _restore(self, state):
        for each, value in zip(dataclasses.fields(self), state, strict=True):
            object.__setattr__(self, each.name, value)
