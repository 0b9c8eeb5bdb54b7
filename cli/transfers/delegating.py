"""``--daemon`` of ``share`` and ``fetch``: the running daemon does the work, and this command tells of it."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import daemon_calls
from cli.failures import explain, most_telling, summed_up
from cli.interrupts import Interrupted
from cli.render.lines import Phase, Standing
from cli.transfers.naming import shown
from swarm.daemon.client import DaemonRefused, transfer_path
from swarm.errors import Incomplete, NoPeerReachable, SwarmError, UsageError
from swarm.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from cli.render.live import Live
    from cli.transfers.sharing import Sharing
    from swarm.content.envelope import Envelope
    from swarm.daemon.client import DaemonClient
    from swarm.observe.tally import TransferSnapshot

ASK_SECONDS = 0.2
"""Between two questions to the daemon while something changes."""
WAIT_SECONDS = 1
"""How long one question waits for news."""
PATIENCE = 120.0
_MENDED_ELSEWHERE = frozenset({4, 5})
"""Exit codes of failures that peers mend: the daemon tries again, and this command waits for it."""
_SHARED = frozenset({"seeding", "finished"})
"""States of a share whose manifest is known and which has nothing in its way."""
_PHASES = {"hashing": Phase.HASHING, "seeding": Phase.SEEDING}

Json = dict[str, Any]


def refuse_what_cannot_be_passed(ctx: click.Context, passed: frozenset[str]) -> None:
    """Raise click.UsageError for an option on the command line that means nothing to a daemon."""
    for parameter in ctx.command.params:
        name = parameter.name or ""
        given = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if given and name not in passed and isinstance(parameter, click.Option) and parameter.expose_value:
            raise click.UsageError(f"{parameter.opts[-1]} cannot be passed to the daemon", ctx)


@dataclass(frozen=True, slots=True)
class DelegatedFetch:
    """What to fetch, into which folder; ``fields`` are those of the requests. ``patience`` is seconds."""

    contents: tuple[str, ...]
    output: Path
    fields: Mapping[str, object]
    patience: float | None = None
    save_manifest: Path | None = None
    seed: bool = False
    peers: bool = False
    """Show a table of the peers."""


def share_by_daemon(live: Live, sharing: Sharing, fields: Mapping[str, object]) -> None:
    """Let the daemon share every path; writes the manifests and tells the links as a share does."""
    from cli.transfers.sharing import tell_command

    failures: list[BaseException] = []
    with daemon_calls.daemon() as client:
        for path, target in sharing.places:
            try:
                inside = [str(each.absolute()) for _, each in sharing.places if _is_inside(each, path)]
                # A daemon of an older version knows no such field.
                omit = {"omit": inside} if inside else {}
                link = _share(client, live, path, target, {**fields, **omit})
                tell_command(live, link, qr=sharing.qr)
            except (SwarmError, OSError) as error:
                _note(live, failures, error, str(path), alone=len(sharing.places) == 1)
        if len(failures) < len(sharing.places):
            addresses = client.get("/v1/status")["node"]["addresses"]
            live.result(None, *(f"libp2p node address: {address}" for address in addresses))
    if failures:
        raise summed_up(failures, len(sharing.places), "shared")


def fetch_by_daemon(live: Live, fetching: DelegatedFetch) -> None:
    """Let the daemon fetch, and tell how that goes until all of it is there; the daemon goes on with it."""
    failures: list[BaseException] = []
    with daemon_calls.daemon() as client:
        watched = Watched(client, live, peers=fetching.peers)
        try:
            for content in fetching.contents:
                try:
                    fields = {**fetching.fields, **fetch_fields(content, fetching.output)}
                    watched.add(content, client.post("/v1/transfers", fields), new=client.made)
                except SwarmError as error:
                    _note(live, failures, error, shown(content), alone=len(fetching.contents) == 1)
            for about, prevented in watched.until_complete(fetching.patience or PATIENCE):
                try:
                    if prevented is not None:
                        raise prevented
                    _fetched(client, live, fetching, about, watched)
                except (SwarmError, OSError) as failure:
                    what = watched.what(about)
                    _note(live, failures, failure, what, alone=len(fetching.contents) == 1)
        except Interrupted:
            live.close()
            live.say("interrupted; the daemon goes on: see swarm status")
            raise
    if failures:
        raise summed_up(failures, len(fetching.contents), "fetched")


def fetch_fields(content: str, output: Path) -> dict[str, object]:
    """The fields that name a fetch; raises UsageError for what is neither a manifest nor the name of one."""
    from swarm.content.paths import printable
    from swarm.storage.manifest_files import is_remote, kind_at

    if not is_remote(content):
        if not stat.S_ISREG(kind_at(content)):
            raise UsageError(f"there is no file {printable(content)}, and it is no link and no id")
        content = str(Path(content).absolute())
    return {"link": content, "output": str(output.absolute())}


class Watched:
    """Transfers of the daemon whose progress is shown."""

    def __init__(self, client: DaemonClient, live: Live, *, peers: bool = False) -> None:
        self._client = client
        self._live = live
        self._peers = peers
        self._began = time.monotonic()
        self._draws_at = self._began
        self._version = ""
        self._named: dict[str, str] = {}
        self._new: set[str] = set()
        self._first: dict[str, Json] = {}
        self._abouts: dict[str, Json] = {}

    def add(self, content: str, about: Json, *, new: bool) -> None:
        """Watch what the daemon answered to a request."""
        self._named[about["id"]] = content
        self._abouts[about["id"]] = self._first[about["id"]] = about
        if new:
            self._new.add(about["id"])

    def what(self, about: Json) -> str:
        """What a transfer was called on the command line."""
        return shown(self._named[about["id"]])

    def until(self, done: Callable[[Json], bool]) -> Json:
        """Wait until something is true of the only transfer, and return it; raises what prevents that."""
        (about,) = self._abouts.values()
        while not done(about):
            self.check(about)
            self._ask()
            (about,) = self._abouts.values()
        return about

    def until_complete(self, patience: float) -> Sequence[tuple[Json, SwarmError | None]]:
        """Wait for all of them; returns each with what has prevented it, or None."""
        ended: dict[str, tuple[Json, SwarmError | None]] = {}
        moved: dict[str, tuple[object, float]] = {}
        while len(ended) < len(self._abouts):
            for each, about in self._abouts.items():
                if each in ended:
                    continue
                if about["complete"] and about["path"] is not None:
                    ended[each] = about, None
                    continue
                marks = about["done"], about["hashed"], about["manifest"]
                if moved.get(each, (None, 0.0))[0] != marks:
                    moved[each] = marks, time.monotonic()
                try:
                    self.check(about)
                    if time.monotonic() - moved[each][1] > patience:
                        raise _impatient(about, patience)
                except SwarmError as error:
                    ended[each] = about, error
            if len(ended) < len(self._abouts):
                self._ask()
        return [ended[each] for each in self._abouts]

    def check(self, about: Json) -> None:
        """Raise what has ended a transfer, or keeps it waiting for something other than peers.

        What is new and fails for good is removed again: the command has told.
        """
        if about["state"] == "paused":
            raise Incomplete("the transfer is paused: swarm resume goes on with it")
        if about["error"] is None or (
            about["state"] == "waiting" and about["exit_code"] in _MENDED_ELSEWHERE
        ):
            return
        if about["state"] == "failed" and about["id"] in self._new:
            self._client.delete(transfer_path(about["id"]))
            raise DaemonRefused(about["error"], about["exit_code"])
        raise DaemonRefused(f"{about['error']}; the daemon keeps it: swarm status", about["exit_code"])

    def _ask(self) -> None:
        delta = self._client.get("/v1/transfers", since=self._version, wait=WAIT_SECONDS)
        self._version = delta["version"]
        there = {each["id"]: each for each in delta["transfers"]}
        for each in self._abouts:
            gone = each not in there if delta["whole"] else each in delta["removed"]
            if gone:
                raise Incomplete(f"transfer {each} was removed from the daemon meanwhile")
            self._abouts[each] = there.get(each, self._abouts[each])
        self._draw()
        time.sleep(ASK_SECONDS)

    def _draw(self) -> None:
        """Show how they stand, at the pace of the view."""
        now = time.monotonic()
        if now < self._draws_at:
            return
        self._draws_at = now + self._live.interval
        self._live.show(
            [self._standing(number, each) for number, each in enumerate(self._abouts.values(), 1)]
        )

    def _standing(self, number: int, about: Json) -> Standing:
        if self._peers:
            about = self._client.get(transfer_path(about["id"]))
        return Standing(
            snapshot_of(about, number, time.monotonic() - self._began),
            _PHASES.get(about["state"], Phase.FETCHING),
        )

    @property
    def seconds(self) -> float:
        """Since this began."""
        return time.monotonic() - self._began

    def since(self, about: Json) -> TransferSnapshot:
        """How a transfer stands; bytes are those that have moved since it is watched."""
        first = self._first[about["id"]]
        moved = {name: max(0, about[name] - first[name]) for name in ("received", "sent", "wasted")}
        sources = about.get("sources", ()) if moved["received"] else ()
        return snapshot_of({**about, **moved, "sources": sources}, 1, self.seconds)


def snapshot_of(about: Json, number: int, elapsed: float) -> TransferSnapshot:
    """How a transfer of the daemon stands, in the form of one of this process; with its sources, if told."""
    from swarm.ids import ManifestId, SourceId, TransferId
    from swarm.observe.tally import SourceRow, TransferSnapshot

    sources = tuple(
        SourceRow(
            source=SourceId(each["source"]),
            pieces_held=None if each["has"] is None else round(each["has"] * about["pieces"]),
            **{
                name: each[name] for name in SourceRow.__match_args__ if name not in {"source", "pieces_held"}
            },
        )
        for each in about.get("sources", ())
    )
    return TransferSnapshot(
        transfer=TransferId(number),
        manifest=None if about["manifest"] is None else ManifestId.parse(about["manifest"]),
        elapsed=elapsed,
        all_pieces=about["pieces"],
        have_pieces=about["pieces_done"],
        have_size=about["done"],
        resumed=0,
        hashing=about["state"] == "hashing",
        eta=about["seconds_left"],
        connected=about["peers"],
        banned=0,
        paused=about["state"] == "paused",
        ended=False,
        sources=sources,
        **{
            name: about[name]
            for name in (
                "kind", "name", "size", "pieces", "hashed", "hash_total", "received", "sent", "wasted",
                "down_rate", "up_rate", "full_peers", "complete", "error",
            )
        },
    )  # fmt: skip


def _is_inside(target: Path, folder: Path) -> bool:
    return Path(os.path.realpath(target)).is_relative_to(os.path.realpath(folder))


def _share(client: DaemonClient, live: Live, path: Path, target: Path, fields: Mapping[str, object]) -> str:
    from swarm.observe.reports import PathShared
    from swarm.storage.manifest_files import check_place

    in_trio(partial(check_place, target))
    watched = Watched(client, live)
    request = {**fields, "path": str(path.absolute())}
    about = client.post("/v1/transfers", request)
    if about["state"] == "finished":
        # One that is new and ends by its rule while this command looks on has been shared as it should.
        raise Incomplete(f"it was seeded enough ({about['finished']}): swarm resume seeds it again")
    watched.add(str(path), about, new=client.made)
    about = watched.until(lambda each: each["state"] in _SHARED)
    envelope = _write_manifest(client, about["id"], target)
    manifest = envelope.manifest
    live.result(
        PathShared(
            manifest=manifest.id,
            path=str(target),
            link=about["link"],
            name=manifest.name,
            size=manifest.total_length,
            pieces=manifest.piece_count,
            piece_length=manifest.piece_length,
        ),
        str(target),
        str(manifest.id),
        about["link"],
    )
    return str(about["link"])


def _fetched(
    client: DaemonClient, live: Live, fetching: DelegatedFetch, about: Json, watched: Watched
) -> None:
    from cli.render.lines import summary
    from cli.transfers.sharing import SUFFIX, tell_command
    from swarm.content.paths import printable
    from swarm.ids import ManifestId
    from swarm.observe.reports import FetchedSeeded, PathFetched

    about = client.get(transfer_path(about["id"]))
    if fetching.save_manifest is not None:
        target = fetching.save_manifest
        target = Path(f"{about['name']}{SUFFIX}") if target == Path() else target
        _write_manifest(client, about["id"], target)
        live.say(f"manifest: {printable(str(target))}")
    path = Path(about["path"])
    if path.parent == Path(os.path.realpath(fetching.output)):
        # As it was given, so that it reads as it does without a daemon.
        path = fetching.output / path.name
    manifest = ManifestId.parse(about["manifest"])
    live.say(summary(watched.since(about)))
    live.result(PathFetched(manifest, str(path), about["size"], watched.seconds), printable(str(path)))
    if fetching.seed:
        live.result(FetchedSeeded(manifest, about["link"]), about["link"])
        tell_command(live, about["link"])
    if about["state"] in {"finished", "paused"}:
        live.say(f"the daemon does not seed it ({about['state']}): swarm resume {about['id'][:8]}")
    else:
        live.say(f"the daemon seeds it: swarm status {about['id'][:8]}")


def _write_manifest(client: DaemonClient, transfer: str, target: Path) -> Envelope:
    from swarm.content.envelope import Envelope
    from swarm.storage.manifest_files import write_envelope

    envelope = Envelope.from_bytes(client.get_bytes(f"{transfer_path(transfer)}/manifest"))
    in_trio(partial(write_envelope, target, envelope))
    return envelope


def in_trio(function: Callable[[], Any]) -> None:
    """Run ``function`` under trio; raises what it raises, not in a group."""
    from cli import running

    async def main() -> None:
        await function()

    try:
        running.run(main)
    except ExceptionGroup as group:
        raise most_telling(group) from group


def _note(live: Live, failures: list[BaseException], error: BaseException, what: str, *, alone: bool) -> None:
    """Tell what one of several failed with; raise that of a single one."""
    from swarm.observe.reports import PathFailed

    if alone:
        raise error
    failures.append(error)
    failure = explain(error)
    live.event(PathFailed(what, failure.message, failure.exit_code))


def _impatient(about: Json, patience: float) -> SwarmError:
    why = about["error"] or about["note"] or ("no piece has come" if about["peers"] else "no peer is there")
    message = f"{why}; after {patience:g} s this command waits no longer, the daemon goes on"
    return Incomplete(message) if about["peers"] or about["received"] else NoPeerReachable(message)
