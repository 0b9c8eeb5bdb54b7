"""What the commands share that talk to a daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.quantities import LimitType

if TYPE_CHECKING:
    from cli.render.live import Live
    from swarm.daemon.client import DaemonClient

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
