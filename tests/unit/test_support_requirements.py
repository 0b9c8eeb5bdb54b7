"""A missing tool skips a test on a developer's machine and fails it in continuous integration."""

from __future__ import annotations

import pytest

from tests.support.requirements import require


@pytest.mark.parametrize("ci", ["", "false", "0"])
def test_a_missing_tool_skips(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.skip.Exception, match="no tool"):
        require(False, "no tool")


@pytest.mark.parametrize("ci", ["true", "True", "1"])
def test_a_missing_tool_fails_under_ci(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.fail.Exception, match="no tool"):
        require(None, "no tool")


def test_a_requirement_can_be_made_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.fail.Exception, match="no tool"):
        require("", "no tool", always=True)


def test_what_is_there_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    require("/usr/bin/tool", "no tool")
