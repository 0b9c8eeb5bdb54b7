"""What the commands share that talk to a daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.durations import parse_duration
from cli.quantities import LimitType

if TYPE_CHECKING:
    from cli.render.live import Live
    from swarm.daemon.client import DaemonClient

    FloatType = click.ParamType[float]
else:  # generic since click 8.4 only
    FloatType = click.ParamType

DEFAULT = -1.0
"""Stands for the rule of all transfers together."""
MOST = 1e9

Command = TypeVar("Command", bound=Callable[..., Any])


@contextmanager
def daemon() -> Iterator[DaemonClient]:
    """The daemon of this user; raises `DaemonAway` at the first call if none runs."""
    from swarm.daemon.client import DaemonClient
    from swarm.storage.home_folder import swarm_home

    client = DaemonClient(swarm_home())
    try:
        yield client
    finally:
        client.close()


def transfers(command: Command) -> Command:
    """Add one or more ID arguments."""
    return click.argument("names", metavar="ID...", nargs=-1, required=True)(command)


def limits(command: Command) -> Command:
    """Add ``--upload-limit`` and ``--download-limit``, which take ``none``."""
    upload = click.option(
        "--upload-limit", type=LimitType(), metavar="RATE", help="Send at most this much; none: no limit."
    )
    download = click.option(
        "--download-limit",
        type=LimitType(),
        metavar="RATE",
        help="Receive at most this much; none: no limit.",
    )
    return upload(download(command))


class RuleNumberType(FloatType):
    """A number above 0; ``none``, which is 0, for no end by it; ``default``, -1, for the rule of all."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; click ends with exit code 2 for anything else."""
        if isinstance(value, float):
            return value
        if value in {"none", "default"}:
            return 0.0 if value == "none" else DEFAULT
        return self.read(str(value), param, ctx)

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return what a text other than those words means."""
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 < number < MOST:
            self.fail(f"{text!r} is not a number above 0, none or default", param, ctx)
        return number


class RuleCountType(RuleNumberType):
    """As `RuleNumberType`, for whole numbers."""

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the whole number."""
        if not (text.isascii() and text.isdigit() and 0 < int(text) < MOST):
            self.fail(f"{text!r} is not a whole number above 0, none or default", param, ctx)
        return float(text)


class RuleTimeType(RuleNumberType):
    """As `RuleNumberType`, for times."""

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        try:
            return parse_duration(text)
        except ValueError as error:
            self.fail(f"{error}, none or default", param, ctx)


def rule(command: Command) -> Command:
    """Add ``--ratio``, ``--copies`` and ``--for``, which take ``none`` and ``default``."""
    ratio = click.option(
        "--ratio",
        type=RuleNumberType(),
        metavar="R",
        help="Stop seeding when R times its size was sent; none: not by that; default: as the rule of all.",
    )
    copies = click.option(
        "--copies",
        type=RuleCountType(),
        metavar="N",
        help="Stop seeding when N peers have got all of it; none, default: as with --ratio.",
    )
    seconds = click.option(
        "--for",
        "seconds",
        type=RuleTimeType(),
        metavar="TIME",
        help="Stop seeding after this time, e.g. 90s, 30m, 2h or 1d; none, default: as with --ratio.",
    )
    return ratio(copies(seconds(command)))


def rule_fields(ratio: float | None, copies: float | None, seconds: float | None) -> dict[str, object]:
    """The fields of a request that changes the rule of seeding; what was not given stays as it is."""
    given = {"ratio": ratio, "copies": copies, "seed_seconds": seconds}
    fields: dict[str, object] = {}
    for name, value in given.items():
        if value is not None:
            fields[name] = None if value == DEFAULT else int(value) if name == "copies" else value
    return fields


def limit_fields(upload: int | None, download: int | None) -> dict[str, object]:
    """The fields of a request that changes limits; what was not given stays as it is."""
    given = {"upload_limit": upload, "download_limit": download}
    return {name: value or None for name, value in given.items() if value is not None}


def change_all(live: Live, names: Sequence[str], done: str, change: Callable[[str], dict[str, Any]]) -> None:
    """Change each transfer and tell its id; one that fails is told and does not stop the others.

    Raises the failure of a single one, or else one error for those that failed.
    """
    from cli.failures import explain, summed_up
    from swarm.content.paths import printable
    from swarm.errors import SwarmError
    from swarm.observe.reports import PathFailed, TransferChanged

    failures: list[BaseException] = []
    for name in names:
        try:
            found = change(name)
        except SwarmError as error:
            if len(names) == 1:
                raise
            failures.append(error)
            failure = explain(error)
            live.event(PathFailed(name, failure.message, failure.exit_code))
            continue
        live.result(TransferChanged(found["id"], found["name"], found.get("state", "removed")), found["id"])
        live.say(f"{done} {printable(found['name'])}")
    if failures:
        raise summed_up(failures, len(names), done)
