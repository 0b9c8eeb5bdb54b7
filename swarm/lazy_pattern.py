"""Regular expressions that are compiled when they are first used: a command uses few that it loads."""

from __future__ import annotations

import re
from typing import Any, AnyStr, Generic, cast


class _LazyPattern(Generic[AnyStr]):
    def __init__(self, source: AnyStr, flags: int | re.RegexFlag) -> None:
        self._source: AnyStr = source
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        compiled = re.compile(self._source, self._flags)
        # What is asked for next is found without this method, so it costs what it does on the pattern itself.
        for method in ("search", "match", "fullmatch", "finditer", "findall", "split", "sub"):
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def lazy_pattern(source: AnyStr, flags: int | re.RegexFlag = 0) -> re.Pattern[AnyStr]:
    """As `re.compile`, which is called with the first use of a method; re.error is raised there."""
    return cast("re.Pattern[AnyStr]", _LazyPattern(source, flags))
