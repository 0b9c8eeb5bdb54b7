"""Options and arguments that several commands share."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from cli.durations import DurationType
from cli.quantities import PieceSizeType, RateType
from swarm.lazy_pattern import lazy_pattern

if TYPE_CHECKING:
    from cli.runtime import Runtime

    StrType = click.ParamType[str]
else:  # generic since click 8.4 only
    StrType = click.ParamType

Command = TypeVar("Command", bound=Callable[..., Any])

_PEER = lazy_pattern(r"/.+/(?:p2p|ipfs)/[1-9A-HJ-NP-Za-km-z]+")
_PEER_ID = lazy_pattern(r"(?:12D3Koo|Qm)[1-9A-HJ-NP-Za-km-z]{25,57}")


def names_a_peer(text: str) -> bool:
    """Return whether an address ends in ``/p2p/<peer id>`` or ``/ipfs/<peer id>``."""
    return _PEER.fullmatch(text) is not None


def _is(path: str, kind: Callable[[int], bool]) -> bool:
    """Whether something of that kind is there; not if that cannot be told: whoever opens it says why."""
    try:
        return kind(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return False


class PathType(click.Path):
    """A path; one of a folder need not exist yet."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; click ends with exit code 2 for a file in the place of a folder."""
        text = os.fsdecode(value)
        if not self.file_okay and not (self.allow_dash and text == "-") and _is(text, stat.S_ISREG):
            self.fail(f"{text!r} is a file; give a folder", param, ctx)
        return super().convert(value, param, ctx)


class PathOrStream(PathType):
    """A path, or ``-`` for the standard stream: a file of that name is ``./-``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; that of such a file is made absolute, for `Path` drops the ``./``."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        return path.absolute() if path == Path("-") and os.fsdecode(value) != "-" else path


class PeerType(StrType):
    """A multiaddr that names a peer; the node reads the rest of it when it opens."""

    name = "peer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text; click ends with exit code 2 unless it ends in a peer's id."""
        text = self.unwrapped(value)
        if not names_a_peer(text):
            from swarm.content.link import is_link

            if is_link(text):
                self.fail("a link is not the address of a peer; use what follows peer= in it", param, ctx)
            example = "/ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…"
            self.fail(f"{value!r} does not end in /p2p/<peer id>; use one like {example}", param, ctx)
        return text

    @staticmethod
    def unwrapped(text: str) -> str:
        """The text without what gets round it when it is pasted: white space, quotes, a last slash."""
        from swarm.content.link import unwrapped

        return unwrapped(text).rstrip("/")


class TableType(PeerType):
    """A node of a distributed hash table, or the name of one."""

    name = "table"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text; click ends with exit code 2 unless it ends in a peer's id, or is ``ipfs``."""
        return "ipfs" if str(value).lower() == "ipfs" else super().convert(value, param, ctx)


class ListenType(StrType):
    """A multiaddr to listen on."""

    name = "multiaddr"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text; click ends with exit code 2 unless it is an IP address and a TCP port."""
        from swarm.endpoint import Endpoint

        endpoint = Endpoint.read(value)
        if endpoint is None or not endpoint.is_ip:
            self.fail(f"{value!r} is not /ip4/<ip>/tcp/<port> or /ip6/<ip>/tcp/<port>", param, ctx)
        return str(value)


class AddressType(StrType):
    """A multiaddr at which others reach this node."""

    name = "multiaddr"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text; click ends with exit code 2 unless it can be dialled."""
        from swarm.endpoint import Endpoint

        try:
            return str(Endpoint.parse(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}, e.g. /ip4/192.0.2.1/tcp/4001", param, ctx)


MANIFEST_FIRST = "the manifest comes first: swarm verify MANIFEST PATH"


class ManifestFileType(click.Path):
    """A ``.swarm`` file."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; click ends with exit code 2 unless there is such a file."""
        from swarm.storage.manifest_files import is_remote

        if _is(os.fsdecode(value), stat.S_ISDIR):
            self.fail(f"{value!r} is a folder; {MANIFEST_FIRST}", param, ctx)
        if is_remote(os.fsdecode(value)):
            # A link is not repeated: it may hold secrets.
            self.fail(
                "verify needs the .swarm file, not a link or an id: 'swarm fetch --save-manifest' writes it",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


class PeerIdType(StrType):
    """A peer id alone."""

    name = "peerid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id; click ends with exit code 2 unless it has the form of one."""
        if not _PEER_ID.fullmatch(value):
            self.fail(f"{value!r} is not a peer id; 'swarm id' prints one: 12D3Koo…", param, ctx)
        return str(value)


class SignerType(StrType):
    """Whom to trust: a peer id, or an Ed25519 public key in hexadecimal."""

    name = "signer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the peer id; click ends with exit code 2 unless a manifest can be signed by it."""
        from swarm.content.signature import parse_signer

        try:
            return parse_signer(value)
        except ValueError as error:
            self.fail(f"{value!r} is no signer: {error}; 'swarm inspect' prints one", param, ctx)


def _note(name: str) -> Callable[[click.Context, click.Parameter, int], None]:
    def note(ctx: click.Context, _param: click.Parameter, given: int) -> None:
        runtime: Runtime = ctx.find_root().obj
        if given and not ctx.resilient_parsing:
            # Before the command's name and after it: both count.
            setattr(runtime, name, getattr(runtime, name) + given)

    return note


def common(command: Command) -> Command:
    """Add ``--debug``, ``--verbose`` and ``--quiet``, which may stand before or after a command's name."""
    debug = click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_note("debug"),
        help="Show tracebacks of errors.",
    )
    verbose = click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=_note("verbose"),
        help="Say more, such as why a peer was dialled; -vv also tells of every single piece.",
    )
    quiet = click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_note("quiet"),
        help="Say nothing but results and errors.",
    )
    return quiet(verbose(debug(command)))


def listen(command: Command) -> Command:
    """Add ``--listen``, which may be given several times."""
    return click.option(
        "-l",
        "--listen",
        "listen",
        type=ListenType(),
        metavar="MULTIADDR",
        multiple=True,
        help="Listen here, e.g. /ip4/127.0.0.1/tcp/4001 (repeatable; default: all interfaces, a free port).",
    )(command)


def announce(command: Command) -> Command:
    """Add ``--announce``, which may be given several times."""
    return click.option(
        "--announce",
        type=AddressType(),
        metavar="MULTIADDR",
        multiple=True,
        help="Name this address in links and to peers, too, e.g. that of a forwarded port (repeatable).",
    )(command)


class JsonOption(click.Option):
    """``--json``, which the help shows with its optional value."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Write the optional value as people know it."""
        record = super().get_help_record(ctx)
        return None if record is None else (f"{record[0]}[=pieces]", record[1])


JSON_PIECES = "--json-pieces"
"""What the program makes of ``--json=pieces``: click would take the next word for an optional value."""


def json(command: Command) -> Command:
    """Add ``--json``, with the optional value ``pieces``."""
    plain = click.option(
        "-j",
        "--json",
        "as_json",
        cls=JsonOption,
        flag_value="events",
        help="Print one JSON object per line (docs/events.md); with =pieces also for every single piece.",
    )
    return plain(click.option(JSON_PIECES, "as_json", flag_value="pieces", hidden=True)(command))


def without_values(arguments: list[str]) -> list[str]:
    """Return the arguments with each ``--json=…`` as the flag that it means."""
    flags = {"--json=pieces": JSON_PIECES, "--json=events": "--json"}
    return [flags.get(argument, argument) for argument in arguments]


def qr(command: Command) -> Command:
    """Add ``--qr``."""
    return click.option("--qr", is_flag=True, help="Show each link as a QR code, too.")(command)


def daemon(command: Command) -> Command:
    """Add ``--daemon`` to a command that transfers."""
    return click.option(
        "--daemon",
        "by_daemon",
        is_flag=True,
        help="Let the running daemon do it ('swarm daemon'): it goes on when this command has ended.",
    )(command)


def peers_table(command: Command) -> Command:
    """Add ``--peers`` to a command that transfers."""
    return click.option(
        "--peers",
        "show_peers",
        is_flag=True,
        help="Show a table: who has how much, rates, round trips (SIGUSR1 prints it once).",
    )(command)


class OriginType(StrType):
    """The URL of a web server. Messages about it do not repeat it: it may hold secrets."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the `OriginUrl`; click ends with exit code 2 for anything else."""
        from swarm.errors import UsageError
        from swarm.origin_url import OriginUrl

        try:
            return OriginUrl(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


def origins(*, of_fetch: bool) -> Callable[[Command], Command]:
    """Add ``--origin`` and what belongs to it, which the command gets as ``origin_options``."""
    chosen = [
        click.option(
            "--origin",
            "origins",
            type=OriginType(),
            metavar="URL",
            multiple=True,
            help="A web server that has the content, too: the URL of the file, or of the folder that it "
            "lies in, with / at its end (repeatable).",
        ),
        click.option(
            "--origin-ca",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Check https origins by the certificate authorities in this PEM file.",
        ),
        click.option(
            "--origin-public-only", is_flag=True, help="Refuse origins whose address is not a public one."
        ),
    ]
    if of_fetch:
        use = click.option(
            "--origin-use",
            type=click.Choice(("together", "fallback", "never")),
            default="together",
            help="Ask origins together with peers (default), only when peers give nothing, or never.",
        )
        chosen.insert(1, use)

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def gathering(*args: Any, **values: Any) -> Any:
            names = [name for name in values if name == "origins" or name.startswith("origin_")]
            return command(*args, origin_options={name: values.pop(name) for name in names}, **values)

        decorated: Any = gathering
        for option in reversed(chosen):
            decorated = option(decorated)
        return cast("Command", decorated)

    return decorate


def added_origins(command: Command) -> Command:
    """Add ``--origin`` and ``--origin-use`` to a command that gives them to a daemon."""
    urls = click.option(
        "--origin",
        "origin_urls",
        type=OriginType(),
        metavar="URL",
        multiple=True,
        help="A web server that has the content, too, at a public address (repeatable).",
    )
    use = click.option(
        "--origin-use",
        type=click.Choice(("together", "fallback", "never")),
        default="together",
        help="Ask origins together with peers (default), only when peers give nothing, or never.",
    )
    return urls(use(command))


def upload_limit(command: Command) -> Command:
    """Add ``--upload-limit``."""
    return click.option(
        "--upload-limit", type=RateType(), metavar="RATE", help="Send at most this much, e.g. 2.5MiB/s."
    )(command)


def download_limit(command: Command) -> Command:
    """Add ``--download-limit``."""
    return click.option(
        "--download-limit", type=RateType(), metavar="RATE", help="Receive at most this much, e.g. 10MB/s."
    )(command)


def leaving(command: Command) -> Command:
    """Add ``--copies``, ``--ratio`` and ``--for``: when to stop seeding."""
    copies = click.option(
        "--copies",
        type=click.IntRange(min=1),
        metavar="N",
        help="Stop seeding when N peers have got all of it from here or from others.",
    )
    ratio = click.option(
        "--ratio",
        type=click.FloatRange(min=0, min_open=True),
        metavar="R",
        help="Stop seeding when R times its size was sent.",
    )
    seconds = click.option(
        "--for",
        "seconds",
        type=DurationType(),
        metavar="TIME",
        help="Stop seeding after this time, e.g. 90s, 30m, 2h or 1d.",
    )
    return copies(ratio(seconds(command)))


def trust(command: Command) -> Command:
    """Add ``--trust``, which may be given several times."""
    return click.option(
        "--trust",
        type=SignerType(),
        metavar="KEY|PEERID",
        multiple=True,
        help="Accept only a manifest that this key has signed (repeatable: any of them).",
    )(command)


def allow(command: Command) -> Command:
    """Add ``--allow``, which may be given several times."""
    return click.option(
        "--allow",
        type=PeerIdType(),
        metavar="PEERID",
        multiple=True,
        help="Serve only this peer (repeatable); without it, everybody who asks.",
    )(command)


def no_lan(command: Command) -> Command:
    """Add ``--no-lan``."""
    return click.option(
        "--no-lan",
        is_flag=True,
        envvar="SWARM_NO_LAN",
        help="Neither look for peers in this machine's networks nor be found there.",
    )(command)


def reach(command: Command) -> Command:
    """Add the options that say how peers are found, and how this node is; `reach_options` reads them."""
    meet = click.option(
        "--meet",
        type=PeerType(),
        metavar="MULTIADDR",
        multiple=True,
        help="Find peers at this meeting point and pass firewalls with its help ('swarm meet' runs one; "
        "repeatable).",
    )
    relay_data = click.option(
        "--relay-data",
        is_flag=True,
        help="Let pieces go through a meeting point where no direct connection can be made.",
    )
    no_map_port = click.option(
        "--no-map-port",
        is_flag=True,
        envvar="SWARM_NO_MAP_PORT",
        help="Do not ask the router for a port that leads here (asked for what is shared or seeded).",
    )
    dht = click.option(
        "--dht",
        type=TableType(),
        metavar="MULTIADDR|ipfs",
        multiple=True,
        help="Find peers in the distributed hash table that this node is of, or in that of IPFS, whose nodes "
        "learn this node's address and a hash of each id (repeatable).",
    )
    return meet(relay_data(dht(no_lan(no_map_port(command)))))


def reach_options(given: Mapping[str, Any], *, hidden: bool = False, seeds: bool = True) -> dict[str, Any]:
    """Return the fields of `swarm.config.NodeOptions` that the options of `reach` mean.

    A ``hidden`` node serves a few peers that know where it is, and nobody is to find it. One that ``seeds``
    is to be reached by others.
    """
    return {
        "meet": given["meet"],
        "relay_data": given["relay_data"],
        "lan": not (given["no_lan"] or hidden),
        "dht": given["dht"],
        "listed": given.get("listed"),
        "map_port": seeds and not given["no_map_port"],
    }


def piece_size(command: Command) -> Command:
    """Add ``--piece-size``."""
    return click.option(
        "--piece-size",
        type=PieceSizeType(),
        metavar="SIZE",
        help="Length of a piece, a power of two from 16KiB to 16MiB (default: chosen from the size).",
    )(command)


def rehash(command: Command) -> Command:
    """Add ``--rehash``."""
    return click.option(
        "--rehash", is_flag=True, help="Hash files again that have not changed since they were hashed."
    )(command)


def peers(command: Command) -> Command:
    """Add one or more PEER arguments."""
    return click.argument("peers", type=PeerType(), metavar="PEER...", nargs=-1, required=True)(command)


def peers_or_links(command: Command) -> Command:
    """Add one or more PEER arguments, each of which may be a link that names some."""
    return click.argument("peers", metavar="PEER|LINK...", nargs=-1, required=True, callback=_peers_of)(
        command
    )


def _peers_of(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    from swarm.content.link import SwarmLink, is_link
    from swarm.content.series_link import SeriesLink, is_series_link

    found: list[str] = []
    for text in given:
        named: tuple[str, ...] = (text,)
        if is_link(text):
            named = (SeriesLink if is_series_link(text) else SwarmLink).pasted(text).peers
            if not named:
                raise click.BadParameter("the link names no peer", ctx, param)
        found += (PeerType().convert(each, param, ctx) for each in named)
    return tuple(found)


def manifest_file(command: Command) -> Command:
    """Add the MANIFEST argument of the commands that need no network."""
    return click.argument(
        "manifest",
        type=ManifestFileType(exists=True, dir_okay=False, path_type=Path),
        metavar="MANIFEST",
    )(command)
