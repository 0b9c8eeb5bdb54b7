"""A pattern that is compiled when it is first used finds what one does that was compiled before."""

from __future__ import annotations

import re

import pytest

from swarm.lazy_pattern import lazy_pattern


def test_it_finds_the_same_and_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    whole = re.compile

    def counting(source: str, flags: int = 0) -> re.Pattern[str]:
        compiled.append(source)
        return whole(source, flags)

    monkeypatch.setattr(re, "compile", counting)
    pattern = lazy_pattern("(a)(b?)", re.IGNORECASE)
    assert compiled == []
    for text in ("ab", "xA", "b"):
        for name in ("search", "match", "fullmatch"):
            found, expected = (
                getattr(pattern, name)(text),
                getattr(whole("(a)(b?)", re.IGNORECASE), name)(text),
            )
            assert (found and found.groups()) == (expected and expected.groups())
    assert pattern.sub("-", "abA") == "--"
    assert pattern.findall("abA") == [("a", "b"), ("A", "")]
    assert compiled == ["(a)(b?)"]
    assert pattern.groups == 2


def test_a_malformed_one_says_so_when_it_is_used() -> None:
    pattern = lazy_pattern("(")
    with pytest.raises(re.error):
        pattern.search("x")
