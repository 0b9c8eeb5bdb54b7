"""Manual pages, made of what the commands say of themselves: ``python -m cli.manual FOLDER``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from cli.app import app
from cli.failures import EXIT_CODES
from cli.version import version

_SENTENCE = re.compile(r"\.(?:\s|$)")


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name of each page's file and its text, in roff."""
    with click.Context(app, info_name="swarm") as root:
        names = app.list_commands(root)
        commands = {name: app.get_command(root, name) for name in names}
        others = [f"swarm-{name}" for name in names]
        summaries = [(name, _summary(command)) for name, command in commands.items() if command]
        yield "swarm.1", "\n".join(_page(root, "swarm", others, summaries)) + "\n"
        for name, command in commands.items():
            if command is not None:
                with click.Context(command, info_name=name, parent=root) as context:
                    yield f"swarm-{name}.1", "\n".join(_page(context, f"swarm-{name}", ["swarm"], [])) + "\n"


def _page(
    context: click.Context, title: str, see: list[str], commands: list[tuple[str, str]]
) -> Iterator[str]:
    command = context.command
    yield f'.TH "{title.upper()}" "1" "" "swarm {version()}" "User Commands"'
    yield ".SH NAME"
    yield f"{_text(title)} \\- {_text(_summary(command))}"
    yield ".SH SYNOPSIS"
    yield f".B {_text(context.command_path)}"
    yield _text(" ".join(command.collect_usage_pieces(context)))
    yield ".SH DESCRIPTION"
    yield from _paragraphs(command.help or "")
    yield ".SH OPTIONS"
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield ".TP"
            yield f"\\fB{_text(record[0])}\\fR"
            yield _text(record[1])
    if commands:
        yield ".SH COMMANDS"
        for name, summary in commands:
            yield from (".TP", f"\\fB{_text(name)}\\fR", _text(summary))
    yield ".SH EXIT STATUS"
    for code, meaning in EXIT_CODES:
        yield from (".TP", f"\\fB{code}\\fR", _text(meaning))
    yield ".SH SEE ALSO"
    yield ",\n".join(f"\\fB{_text(other)}\\fR(1)" for other in see)


def _summary(command: click.Command) -> str:
    first = " ".join((command.help or "").split("\n\n")[0].split())
    return _SENTENCE.split(first, maxsplit=1)[0]


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        yield _text(" ".join(paragraph.replace("\b", "").split()))


def _text(text: str) -> str:
    """Write plain text in roff."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    # A line that begins with a dot would be a command.
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def main() -> None:
    """Write all pages into the folder that the command line names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
