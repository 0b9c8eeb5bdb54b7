"""``swarm limit``: how fast a daemon sends and receives."""

from __future__ import annotations

from typing import Any

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

    What is not given stays as it is. A rule of seeding of a transfer's own comes before that of all. Without
    options and an ID, shows what holds for all.
    """
    from swarm.daemon.client import transfer_path
    from swarm.observe.reports import LimitsChanged

    fields = daemon_calls.limit_fields(upload_limit, download_limit)
    fields |= daemon_calls.rule_fields(ratio, copies, seconds)
    if schedule:
        if names:
            raise click.UsageError("--schedule is for all transfers together: leave the ID out")
        fields["schedule"] = [] if schedule == ("none",) else list(schedule)
    if names and not fields:
        raise click.UsageError("give a limit, or a rule of seeding (--ratio, --copies, --for)")
    live = runtime.show("limit", json=as_json)
    with daemon_calls.daemon() as client:
        if names:
            daemon_calls.change_all(
                live, names, "limited", lambda name: client.patch(transfer_path(name), fields)
            )
            return
        if fields:
            found = client.patch("/v1/limits", fields)
            lines = []
        else:
            found = client.get("/v1/status")["node"]
            lines = _lines(found)
        live.result(LimitsChanged(**{name: found[name] for name in LimitsChanged.__match_args__}), *lines)


def _lines(found: dict[str, Any]) -> list[str]:
    """Return what holds for all transfers, a line for each thing."""
    from cli.durations import format_time
    from cli.quantities import format_rate
    from swarm.content.paths import printable

    lines = []
    for name, field in (("upload limit", "upload_limit"), ("download limit", "download_limit")):
        rate, now = found[field], found[f"{field}_now"]
        line = f"{name}: {'none' if rate is None else format_rate(rate)}"
        if now != rate:
            line += f" (at this time {'none' if now is None else format_rate(now)})"
        lines.append(line)
    lines.extend(f"schedule: {printable(line)}" for line in found["schedule"])
    ends = (
        found["ratio"] and f"at ratio {found['ratio']:g}",
        found["copies"] and f"after {found['copies']} copies",
        found["seed_seconds"] and f"after {format_time(found['seed_seconds'])}",
    )
    lines.append(f"seeding ends: {', or '.join(filter(None, ends)) or 'never'}")
    return lines
