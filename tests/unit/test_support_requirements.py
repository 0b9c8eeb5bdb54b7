"""A missing tool skips a test on a developer's machine and fails it in continuous integration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.requirements import require, require_program


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


def test_a_program_that_is_there_is_found_also_in_the_folders_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="apt-get install some-package"):
        require_program("a-tool-of-ours", "some-package")
    tool = tmp_path / "a-tool-of-ours"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert require_program("a-tool-of-ours", "some-package") == str(tool)
