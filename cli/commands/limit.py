"""``swarm limit``: how fast a daemon sends and receives."""

from __future__ import annotations

import click

from cli import daemon_calls, options
from cli.runtime import Runtime


@click.command()
@click.argument("names", metavar="[ID]...", nargs=-1)
@daemon_calls.limits
@daemon_calls.rule
@click.option(
    "--schedule",
    metavar="LINE",
    multiple=True,
    help="Limits by the time of day, e.g. 'mon-fri 08:00-18:00 up 2MB/s down 10MB/s' (repeatable; they take "
    "the place of those before; none: no schedule).",
)
@options.json
@options.common
@click.pass_obj
def command(
    runtime: Runtime,
    /,
    *,
    names: tuple[str, ...],
    upload_limit: int | None,
    download_limit: int | None,
    ratio: float | None,
    copies: float | None,
    seconds: float | None,
    schedule: tuple[str, ...],
    as_json: str | None,
) -> None:
    """Limit each transfer ID, and say when it is seeded enough; without an ID, all transfers of the daemon.

    What is not given stays as it is. A rule of seeding of a transfer's own comes before that of all.
    """
    from swarm.daemon.client import transfer_path
    from swarm.observe.reports import LimitsChanged

    fields = daemon_calls.limit_fields(upload_limit, download_limit)
    fields |= daemon_calls.rule_fields(ratio, copies, seconds)
    if schedule:
        if names:
            raise click.UsageError("--schedule is for all transfers together: leave the ID out")
        fields["schedule"] = [] if schedule == ("none",) else list(schedule)
    if not fields:
        raise click.UsageError("give a limit, a rule of seeding (--ratio, --copies, --for) or --schedule")
    live = runtime.show("limit", json=as_json)
    with daemon_calls.daemon() as client:
        if names:
            daemon_calls.change_all(
                live, names, "limited", lambda name: client.patch(transfer_path(name), fields)
            )
            return
        found = client.patch("/v1/limits", fields)
        live.result(LimitsChanged(**{name: found[name] for name in LimitsChanged.__match_args__}))
