"""Patterns of what is not shared: `--ignore` and the file `.swarmignore`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from swarm.content.paths import quoted
from swarm.errors import UsageError

IGNORE_FILE = ".swarmignore"
"""The file in a shared folder that lists patterns, one a line."""


class IgnoreRules:
    """Patterns in the manner of ``.gitignore``; the last one that matches decides.

    A pattern without ``/`` matches a name at any depth, one with ``/`` the path from the shared folder;
    ``*``, ``?`` and ``[…]`` match within one name, ``**`` any number of folders. One that ends in ``/``
    matches folders only. A folder is ignored with all that is in it. ``!`` at the start takes a match back.
    Blank lines and lines that start with ``#`` say nothing. Raises UsageError for a malformed pattern.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._rules: list[tuple[bool, bool, re.Pattern[str]]] = []
        for line in patterns:
            pattern = line.strip()
            if not pattern or pattern.startswith("#"):
                continue
            takes_back = pattern.startswith("!")
            text = pattern[takes_back:]
            folders_only = text.endswith("/")
            text = text.rstrip("/").removeprefix("./")
            if text:
                try:
                    compiled = re.compile(_translated(text), re.DOTALL)
                except re.error as error:
                    raise UsageError(f"the pattern {quoted(line)} is malformed: {error}") from error
                self._rules.append((not takes_back, folders_only, compiled))

    def __bool__(self) -> bool:
        return bool(self._rules)

    def match(self, parts: Sequence[str], is_folder: bool) -> bool:
        """Whether the file or folder with this path from the shared folder is ignored."""
        path = "/".join(parts)
        ignored = False
        for ignores, folders_only, pattern in self._rules:
            if ignores != ignored and (is_folder or not folders_only) and pattern.fullmatch(path):
                ignored = ignores
        return ignored


def _translated(pattern: str) -> str:
    """Return the regular expression for a pattern."""
    anchored = "/" in pattern
    names = pattern.strip("/").split("/")
    made = "" if anchored else "(?:.*/)?"
    for number, name in enumerate(names):
        last = number == len(names) - 1
        if name == "**":
            made += ".*" if last else "(?:.*/)?"
        else:
            made += _name(name) + ("" if last else "/")
    return made


def _name(pattern: str) -> str:
    made, at = "", 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            made += "[^/]*"
        elif character == "?":
            made += "[^/]"
        elif (
            character == "["
            and (end := pattern.find("]", at + 2 if pattern[at : at + 1] in "!^" else at + 1)) > 0
        ):
            inner = pattern[at:end].replace("\\", "\\\\").replace("[", "\\[")
            made += f"[{'^' + inner[1:] if inner[:1] in ('!', '^') else inner}]"
            at = end + 1
        elif character == "\\" and at < len(pattern):
            made += re.escape(pattern[at])
            at += 1
        else:
            made += re.escape(character)
    return made
