"""The help of every command, docs/cli.md, README.md and the manual pages agree on the options."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.app import COMMANDS, app
from cli.failures import EXIT_CODES
from cli.manual import pages

ROOT = Path(__file__).parents[2]
CLI = (ROOT / "docs" / "cli.md").read_text("utf-8")
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*|-[a-zA-Z])(?![\w-])")
DEFAULT = re.compile(r"default:? ([0-9][\w.]*[0-9a-zA-Z]|[0-9])")


def section(title: str) -> str:
    """The part of docs/cli.md under the heading, up to the next of its level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", CLI, re.MULTILINE | re.DOTALL)
    assert found, f"docs/cli.md has no heading '## {title}'"
    return found[1]


def command(name: str) -> click.Command:
    found = app.get_command(click.Context(app), name)
    assert found is not None
    return found


def options(of: click.Command) -> Iterator[click.Option]:
    """The options that the help shows."""
    for parameter in of.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            yield parameter


def names(of: click.Command) -> set[str]:
    return {name for option in options(of) for name in (*option.opts, *option.secondary_opts)}


COMMON = names(app) | {"-h", "--help", "-j", "--json"}


def described(text: str) -> str:
    """The synopsis and the tables: what a section says of its own command."""
    synopsis = re.match(r"\s*`([^`]*)`", text)
    assert synopsis, "a section begins with the synopsis of its command"
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return "\n".join([synopsis[1], *rows])


def test_every_command_has_json() -> None:
    for name in COMMANDS:
        assert {"-j", "--json"} <= names(command(name)), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_described_in_its_section(name: str) -> None:
    own = names(command(name)) - COMMON
    missing = own - set(OPTION.findall(described(section(f"swarm {name}"))))
    assert not missing, f"docs/cli.md, swarm {name}: say what these options do"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_describes_no_option_that_there_is_not(name: str) -> None:
    known = names(command(name)) | COMMON
    unknown = set(OPTION.findall(described(section(f"swarm {name}")))) - known
    assert not unknown, f"docs/cli.md, swarm {name}: the command has no such options"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_defaults_are_the_same_in_the_help_and_in_the_section(name: str) -> None:
    text = section(f"swarm {name}")
    for option in options(command(name)):
        shown = DEFAULT.search(option.help or "")
        value = shown[1] if shown else str(option.default) if option.show_default else None
        if value is None:
            continue
        row = next(
            (line for line in text.splitlines() if line.startswith("|") and option.opts[-1] in line), ""
        )
        assert re.search(rf"(?<![\w.]){re.escape(value)}(?!\w|\.\d)", row), (
            f"docs/cli.md, swarm {name}: the default of {option.opts[-1]} is {value}"
        )


def test_the_common_options_are_described() -> None:
    found = set(OPTION.findall(section("What all commands have in common")))
    assert not COMMON - found


def test_no_page_names_an_option_that_no_command_has() -> None:
    known = COMMON.union(*(names(command(name)) for name in COMMANDS))
    for line in CLI.splitlines():
        if "`" in line and "curl" not in line:
            unknown = {name for name in OPTION.findall(line) if name.startswith("--")} - known
            assert not unknown, line


def test_the_readme_uses_options_that_exist() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for name, arguments in re.findall(r"swarm ([a-z]+)((?: [^\n`]*)?)", text):
        if name in COMMANDS:
            unknown = set(OPTION.findall(arguments)) - names(command(name)) - COMMON
            assert not unknown, f"README.md: swarm {name} {arguments}"


def test_every_exit_code_is_documented() -> None:
    documented = dict(
        re.findall(r"^\| (\d+) \| (.*?) \|$", section("What all commands have in common"), re.MULTILINE)
    )
    assert documented == {str(code): meaning for code, meaning in EXIT_CODES}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_manual_page_has_every_option(name: str) -> None:
    page = dict(pages())[f"swarm-{name}.1"].replace("\\-", "-")
    assert names(command(name)) <= set(OPTION.findall(page.replace("\\fB", " ").replace("\\fR", " ")))
    assert f"\n.B swarm {name}\n" in page
    assert ".SH EXIT STATUS" in page


def test_manual_pages_are_written(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "cli.manual", tmp_path / "man"], check=True, cwd=ROOT)
    assert {path.name for path in (tmp_path / "man").iterdir()} == {
        "swarm.1",
        *(f"swarm-{name}.1" for name in COMMANDS),
    }
