"""What people see: the bar, the plain lines, the escaping."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence

import pytest
from rich.cells import cell_len

from cli.output import Outputs
from cli.render.fitting import Style, line
from cli.render.lines import Phase, Standing, percent, short, status, summary, title
from cli.render.live import NO_TRANSFER, Live
from cli.render.narrator import Narrator
from cli.render.terminal import TerminalView
from cli.render.views import JsonView, PlainView, QuietView, choose_view
from swarm.events import (
    BytesReceived,
    BytesSent,
    Event,
    HashingProgress,
    ManifestReady,
    NodeListening,
    PeerComplete,
    PeerConnected,
    PeerHas,
    PieceLost,
    PieceRequested,
    PieceStored,
    PieceWasted,
    RoundTrip,
    TransferComplete,
    TransferStarted,
    Warned,
)
from swarm.ids import ManifestId, PeerId, TransferId
from swarm.lazy_dataclass import replace
from swarm.observe.jsonlines import encode
from swarm.observe.tally import NodeTally
from tests.support.cli_fakes import FakeNode

Capture = pytest.CaptureFixture[str]
ID = ManifestId(bytes(32))
ANN = PeerId("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
MIB = 2**20
ONE, TWO = TransferId(1), TransferId(2)


def half_way(name: str = "photos") -> NodeTally:
    """Four of eight MiB in four seconds from one peer, half a MiB sent."""
    tally = NodeTally(0.0)
    tally.add(ManifestReady(ONE, ID, name, 8 * MIB, 8, MIB, 3, None), 0.0)
    tally.add(PeerConnected(ONE, ANN, "/ip4/192.0.2.1/tcp/1", inbound=False), 0.0)
    for second in range(1, 5):
        tally.add(BytesReceived(ONE, ANN, MIB), float(second))
        tally.add(PieceStored(ONE, second, MIB, ANN), float(second))
    tally.add(BytesSent(ONE, ANN, MIB // 2), 4.0)
    return tally


def test_the_status_of_a_fetch_has_rate_estimate_peers_pieces_up_and_down() -> None:
    snapshot = half_way().latest(4.0)
    line = status(snapshot, Phase.FETCHING)
    assert line.startswith("4.0MiB of 8.0MiB, 0:0")
    for part in (" left", "1 peer", "4/8 pieces", "down 1.", "up 512.0KiB at "):
        assert part in line
    assert percent(snapshot, Phase.FETCHING) == 50.0
    assert percent(snapshot, Phase.SEEDING) is None
    assert title(snapshot, Phase.FETCHING) == "fetching photos"


def test_a_name_cannot_talk_to_the_terminal() -> None:
    snapshot = half_way("\x1b]0;owned\x07[bold]x").latest(4.0)
    assert title(snapshot, Phase.FETCHING) == "fetching \\x1b]0;owned\\x07[bold]x"
    assert short(PeerId("a\x1b[2Jbcd")) == "…a\\x1b[2Jbcd"


def test_the_summary_counts_what_was_received_and_from_how_many() -> None:
    tally = half_way()
    tally.add(TransferComplete(ONE, ID, "out/photos", 8 * MIB, 4.0), 4.0)
    assert summary(tally.latest(9.0)) == (
        "fetched 4.0MiB in 4.0 s (1.0MiB/s) from 1 peer, sent 512.0KiB, wasted 0B"
    )


def test_what_was_here_already_is_not_said_to_be_fetched() -> None:
    snapshot = replace(half_way("a\x1bb").latest(4.0), received=0, wasted=0, sent=7, complete=True)
    assert summary(snapshot) == "a\\x1bb was here already, 8.0MiB: nothing was fetched"
    for made in ("reused", "patched"):
        assert summary(replace(snapshot, **{made: 5})).startswith("fetched 0B in ")
    assert summary(replace(snapshot, size=0)).startswith("fetched 0B in "), "an empty file is made anew"


def read(outputs: Outputs, capsys: Capture) -> tuple[str, str]:
    """What was written to stdout and stderr."""
    outputs.flush(20)
    outputs.out.close()
    outputs.err.close()
    return tuple(capsys.readouterr())  # type: ignore[return-value]


def standing(tally: NodeTally, phase: Phase, now: float = 4.0) -> tuple[Standing]:
    return (Standing(tally.latest(now), phase),)


def test_plain_lines_do_not_repeat_themselves(capsys: Capture) -> None:
    outputs = Outputs(sys.stdout, sys.stderr)
    view = PlainView(outputs)
    tally = half_way()
    view.draw(standing(tally, Phase.FETCHING), 4.0)
    outputs.flush(20)
    view.draw(standing(tally, Phase.FETCHING), 8.0)
    outputs.flush(20)
    tally.add(HashingProgress(ONE, 1, 4), 12.0)
    view.draw(standing(tally, Phase.HASHING, 12.0), 12.0)
    out, err = read(outputs, capsys)
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("fetching photos: 50.0%, 4.0MiB of 8.0MiB")
    assert second == "hashing photos: 25.0%, 1B of 4B"


def test_fading_rates_and_long_transfers_do_not_fill_a_log(capsys: Capture) -> None:
    outputs = Outputs(sys.stdout, sys.stderr)
    view = PlainView(outputs)
    tally = half_way()
    for tick in range(3, 300, 3):
        view.draw(standing(tally, Phase.FETCHING, float(tick)), float(tick))
        outputs.flush(20)
    assert len(read(outputs, capsys)[1].splitlines()) == 1
    for tick in range(300, 300 + 24 * 3600, 3):
        tally.add(BytesSent(ONE, ANN, 1), float(tick))
        view.draw(standing(tally, Phase.SEEDING, float(tick)), float(tick))
        outputs.flush(20)
    # A day long a line every three seconds would be 28,800.
    assert 1440 <= len(read(outputs, capsys)[1].splitlines()) <= 1500


def test_json_sums_bytes_up_until_it_draws(capsys: Capture) -> None:
    outputs = Outputs(sys.stdout, sys.stderr)
    view = JsonView(outputs)
    for t in (0.1, 0.2, 0.3):
        view.event(BytesReceived(ONE, ANN, 5), t)
        view.event(BytesSent(ONE, ANN, 1), t)
        view.event(BytesSent(TWO, ANN, 2), t)
    view.event(Warned("between"), 0.3)
    view.draw((), 0.5)
    view.draw((), 1.0)
    assert read(outputs, capsys)[0].splitlines() == [
        encode(Warned("between"), 0.3),
        encode(BytesReceived(ONE, ANN, 15), 0.5),
        encode(BytesSent(ONE, ANN, 3), 0.5),
        encode(BytesSent(TWO, ANN, 6), 0.5),
    ]


def test_json_says_how_each_transfer_stands_while_that_changes(capsys: Capture) -> None:
    outputs = Outputs(sys.stdout, sys.stderr)
    view = JsonView(outputs)
    tally = half_way()
    for now in (4.0, 5.0, 6.0):
        view.draw(standing(tally, Phase.FETCHING, now), now)
    tally.add(BytesReceived(ONE, ANN, 3), 7.0)
    view.draw(standing(tally, Phase.FETCHING, 7.0), 7.0)
    records = [json.loads(line) for line in read(outputs, capsys)[0].splitlines()]
    assert [(record["event"], record["t"]) for record in records] == [
        ("transfer_progress", 4.0),
        ("transfer_progress", 7.0),
    ]
    first = records[0]
    assert (first["phase"], first["done"], first["size"]) == ("fetching", 4 * MIB, 8 * MIB)
    assert (first["pieces_done"], first["pieces"], first["received"]) == (4, 8, 4 * MIB)
    assert first["seconds_left"] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("end", ["result", "close"])
def test_json_sums_are_complete_before_an_end(capsys: Capture, end: str) -> None:
    outputs = Outputs(sys.stdout, sys.stderr)
    view = JsonView(outputs)
    view.event(BytesReceived(ONE, ANN, 5), 0.1)
    if end == "result":
        view.result(Warned("as good as any"), ("for people",), 0.2)
    else:
        view.close(0.2)
    first, *others = read(outputs, capsys)[0].splitlines()
    assert json.loads(first)["event"] == "bytes_received"
    assert all("for people" not in line for line in others)


def test_quiet_is_results_alone(capsys: Capture) -> None:
    outputs = Outputs(sys.stdout, sys.stderr)
    view = QuietView(outputs)
    view.event(Warned("careful"), 0.1)
    view.draw(standing(half_way(), Phase.FETCHING), 4.0)
    view.say("hint")
    view.result(None, ("out/photos",), 4.0)
    view.close(4.0)
    assert read(outputs, capsys) == ("out/photos\n", "")


def terminal(outputs: Outputs, columns: int = 160, **options: bool) -> TerminalView:
    return TerminalView(outputs, verbose=1, columns=lambda: columns, style=Style(colour=False), **options)


def test_the_terminal_shows_percentage_and_figures(capsys: Capture) -> None:
    outputs = Outputs(sys.stdout, sys.stderr)
    view = terminal(outputs)
    view.draw(standing(half_way("[red]photos"), Phase.FETCHING), 4.0)
    outputs.flush(20)
    view.event(PieceRequested(ONE, 5, ANN, "fastest [bold]"), 4.0)
    view.draw(standing(half_way("[red]photos"), Phase.SEEDING), 4.0)
    view.result(None, ("out/photos",), 4.0)
    view.close(4.0)
    out, shown = read(outputs, capsys)
    for part in ("[red]photos", "50%", "4/8 pieces", "piece 5 asked of …", "fastest [bold]"):
        assert part in shown
    assert out == "out/photos\n"


@pytest.mark.parametrize(
    ("columns", "gone"),
    [
        (120, []),
        (94, ["pieces"]),
        (79, ["pieces", "MiB of"]),
        (59, ["pieces", "MiB of", "peer", "up "]),
        (39, ["pieces", "MiB of", "peer", "up ", "━"]),
        (26, ["pieces", "MiB of", "peer", "up ", "━", "debian"]),
        (16, ["pieces", "MiB of", "peer", "up ", "━", "debian", "left"]),
        (6, ["pieces", "MiB of", "peer", "up ", "━", "debian", "left", "/s"]),
    ],
)
def test_percent_stays_longest_and_pieces_go_first(columns: int, gone: list[str]) -> None:
    shown = line(*standing(half_way("debian-13.1.0-amd64.iso"), Phase.FETCHING), columns, Style(colour=False))
    assert cell_len(shown) <= columns
    figures = ["50%", "/s", "left", "debian", "━", "up ", "peer", "MiB of", "pieces"]
    assert [figure for figure in figures if figure not in shown] == sorted(gone, key=figures.index)


@pytest.mark.parametrize("name", ["写真" * 40, "x" * 300, "a\u0301" * 90, ""])
@pytest.mark.parametrize("phase", [Phase.FETCHING, Phase.SEEDING, Phase.HASHING])
def test_no_name_is_wider_than_the_terminal(name: str, phase: Phase) -> None:
    for columns in range(10, 130):
        assert cell_len(line(*standing(half_way(name), phase), columns, Style(colour=False))) <= columns


def test_the_terminal_is_left_clean(capsys: Capture) -> None:
    outputs = Outputs(sys.stdout, sys.stderr)
    view = terminal(outputs)
    view.draw(standing(half_way(), Phase.FETCHING), 4.0)
    outputs.flush(20)
    view.close(4.0)
    shown = read(outputs, capsys)[1]
    assert "\x1b[?25l" not in shown, "a process that is killed could not show the cursor again"
    assert shown.endswith("\r\x1b[2K")


def test_the_table_of_peers_says_who_has_how_much(capsys: Capture) -> None:
    outputs = Outputs(sys.stdout, sys.stderr)
    tally = half_way()
    tally.add(PeerHas(ONE, ANN, 6), 4.0)
    tally.add(RoundTrip(ANN, 0.0125), 4.0)
    terminal(outputs, peers=True).draw(standing(tally, Phase.FETCHING), 4.0)
    _, headings, peer = read(outputs, capsys)[1].splitlines()
    assert headings.split() == ["PEER", "HAS", "DOWN", "UP", "GOT", "SENT", "TRIP", "ADDRESS"]
    assert peer.split()[:2] == [short(ANN), "75%"]
    assert "12.500ms" in peer


def test_verbose_has_no_line_for_every_piece() -> None:
    narrator = Narrator(verbose=1)
    said = [
        line
        for piece in range(1000)
        for event in (PieceRequested(ONE, piece, ANN, f"rtt {piece} ms"), PieceWasted(ONE, piece, 1, ANN))
        for line in narrator.tell(event, piece / 100)
    ]
    assert said == [f"piece 0 asked of {short(ANN)}: rtt 0 ms"]
    assert len(list(narrator.tell(PieceRequested(ONE, 1, ANN, "endgame"), 100.0))) == 1
    everything = Narrator(verbose=2)
    assert len([1 for n in range(9) for _ in everything.tell(PieceRequested(ONE, n, ANN, ""), 0.0)]) == 9


def test_lost_pieces_are_counted_after_the_first() -> None:
    narrator = Narrator(verbose=0)
    said = [line for piece in range(1000) for line in narrator.tell(PieceLost(ONE, piece, 1), 0.0)]
    assert said == ["warning: piece 0 changed on the disk and is not served any more"]
    assert list(narrator.overdue(1.0)) == []
    assert list(narrator.overdue(6.0)) == [
        "warning: 999 more pieces changed on the disk, not served any more"
    ]
    assert list(narrator.overdue(60.0, last=True)) == []


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_view_follows_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = Outputs(sys.stdout, sys.stderr)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(choose_view(outputs), PlainView)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(choose_view(outputs), TerminalView)
    assert isinstance(choose_view(outputs, quiet=True), QuietView)
    assert isinstance(choose_view(outputs, json="events"), JsonView)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(choose_view(outputs), PlainView)


class Recorder:
    """A view that remembers."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.shows_pieces = True
        self.events: list[tuple[Event, float]] = []
        self.drawn: list[tuple[int, float]] = []
        self.said: list[str] = []

    def event(self, event: Event, t: float) -> None:
        self.events.append((event, t))

    def draw(self, standings: Sequence[Standing], t: float) -> None:
        self.drawn.append((sum(each.snapshot.received for each in standings), t))

    def say(self, text: str) -> None:
        self.said.append(text)

    def result(self, report: Event | None, lines: tuple[str, ...], t: float) -> None:
        self.said.extend(lines)

    def close(self, t: float) -> None:
        self.said.append("closed")


async def test_all_that_was_published_is_shown_even_if_the_block_ends_at_once() -> None:
    node, view = FakeNode(), Recorder(interval=1000)
    live = Live(view, clock=lambda: 7.0)
    async with live.following(node):  # type: ignore[arg-type]
        for piece in range(500):
            node.event_stream.publish(PieceStored(ONE, piece, 1, ANN))
            node.event_stream.publish(BytesReceived(ONE, ANN, piece))
        node.event_stream.publish(NodeListening(ANN, ()))
        node.event_stream.publish(HashingProgress(ONE, 1, 2))
    shown = [event for event, _ in view.events]
    assert shown[0] == NodeListening(node.peer_id, node.addresses)
    stored = [PieceStored(ONE, piece, 1, ANN) for piece in range(500)]
    assert [event for event in shown[1:] if not isinstance(event, BytesReceived)] == [
        *stored,
        NodeListening(ANN, ()),
        HashingProgress(ONE, 1, 2),
    ]
    assert live.snapshot().received == sum(range(500))


async def test_a_view_that_shows_no_pieces_is_told_of_none_but_they_count() -> None:
    node, view = FakeNode(), Recorder(interval=1000)
    view.shows_pieces = False
    live = Live(view)
    async with live.following(node):  # type: ignore[arg-type]
        node.event_stream.publish(*(PieceStored(ONE, piece, MIB, ANN) for piece in range(100)))
        node.event_stream.publish(HashingProgress(ONE, 1, 2))
    assert [event for event, _ in view.events][1:] == [HashingProgress(ONE, 1, 2)]
    assert (live.snapshot().have_pieces, live.snapshot().have_size) == (100, 100 * MIB)


async def test_settling_shows_everything_so_far_and_loses_nothing_after() -> None:
    node, view = FakeNode(), Recorder(interval=1000)
    live = Live(view)
    async with live.following(node):  # type: ignore[arg-type]
        for round_number in range(1, 4):
            for _ in range(100):
                node.event_stream.publish(BytesReceived(ONE, ANN, 1))
                node.event_stream.publish(PieceStored(ONE, 0, 1, ANN))
            await live.settle()
            assert live.snapshot().received == 100 * round_number
            assert live.snapshot().have_pieces == 100 * round_number
        node.event_stream.publish(BytesReceived(ONE, ANN, 1))
    assert live.snapshot().received == 301


async def test_what_the_node_has_told_before_is_shown_before_what_the_command_says() -> None:
    node, view = FakeNode(), Recorder(interval=1000)
    live = Live(view)
    async with live.following(node):  # type: ignore[arg-type]
        assert [event for event, _ in view.events] == [NodeListening(node.peer_id, node.addresses)]


class Phases(Recorder):
    """A view that remembers what the command was busy with."""

    def draw(self, standings: Sequence[Standing], t: float) -> None:
        for snapshot, phase in standings:
            self.said.append(f"{phase.value} {percent(snapshot, phase)}")


def test_a_fetch_that_hashes_what_is_there_says_so() -> None:
    live = Live(view := Phases(interval=1000))
    live.phase = Phase.FETCHING
    live.event(TransferStarted(ONE, "fetch"))
    live.event(ManifestReady(ONE, ID, "photos", 8 * MIB, 8, MIB, 3, None))
    live.event(HashingProgress(ONE, MIB, 4 * MIB))
    live.draw()
    live.event(HashingProgress(ONE, 4 * MIB, 4 * MIB))
    live.draw()
    assert view.said == ["hashing 25.0", "fetching 0.0"]


async def test_a_node_that_closes_first_holds_nothing_up() -> None:
    node, view = FakeNode(), Recorder(interval=1000)
    live = Live(view)
    async with live.following(node):  # type: ignore[arg-type]
        node.event_stream.publish(Warned("bye"))
        node.event_stream.close()
        await live.settle()
        assert view.events[-1][0] == Warned("bye")
        await live.settle()


async def test_what_was_published_before_an_error_is_shown() -> None:
    node, view = FakeNode(), Recorder(interval=1000)
    live = Live(view)
    with pytest.raises(ExceptionGroup):
        async with live.following(node):  # type: ignore[arg-type]
            node.event_stream.publish(Warned("last words"))
            raise ValueError
    assert view.events[-1][0] == Warned("last words")


async def test_the_view_sets_the_pace(autojump_clock: object) -> None:
    import trio

    node, view = FakeNode(), Recorder(interval=0.5)
    live = Live(view, clock=trio.current_time)
    async with live.following(node):  # type: ignore[arg-type]
        node.event_stream.publish(BytesReceived(ONE, ANN, 3))
        live.hashing(1, 9)
        live.hashing(2, 9)
        live.warn("careful")
        await trio.sleep(1.75)
    assert view.drawn == [(3, pytest.approx(0.5)), (3, pytest.approx(1.0)), (3, pytest.approx(1.5))]
    shown = [event for event, _ in view.events]
    hashing = [HashingProgress(NO_TRANSFER, done, 9) for done in (1, 2)]
    assert [event for event in shown if not isinstance(event, BytesReceived | NodeListening)] == [
        *hashing,
        Warned("careful"),
    ]


def test_the_time_left_is_shown_while_something_is_hashed() -> None:
    tally = NodeTally(0.0)
    tally.add(TransferStarted(ONE, "share"), 0.0)
    for second in range(5):
        tally.add(HashingProgress(ONE, second * MIB, 100 * MIB), float(second))
    standing = Standing(tally.of(ONE, 4.0), Phase.HASHING)
    assert status(*standing) == "4.0MiB of 100.0MiB, 1:31 left"
    assert "4%" in line(standing, 79, Style())
    assert "1:31 left" in line(standing, 79, Style())


def test_a_peer_that_has_everything_is_told_with_the_name_of_what_that_is() -> None:
    narrator = Narrator(verbose=0)
    for number, name in ((ONE, "photos"), (TWO, "mu\nsic")):
        assert not list(narrator.tell(ManifestReady(number, ID, name, 8, 8, MIB, 3, None), 0.0))
    assert list(narrator.tell(PeerComplete(TWO, ANN, fetched=True), 1.0)) == [
        f"complete: {short(ANN)} has all of mu\\x0asic"
    ]
    assert not list(narrator.tell(PeerComplete(ONE, ANN, fetched=False), 1.0))


@pytest.mark.parametrize("kind", ["terminal", "plain", "quiet", "json"])
def test_whoever_asks_is_told_how_things_stand_in_every_view(kind: str, capsys: Capture) -> None:
    outputs = Outputs(sys.stdout, sys.stderr)
    views = {
        "terminal": lambda: terminal(outputs, columns=60),
        "plain": lambda: PlainView(outputs),
        "quiet": lambda: QuietView(outputs),
        "json": lambda: JsonView(outputs),
    }
    view = views[kind]()
    for _ in range(2):
        view.report(standing(half_way(), Phase.FETCHING), 4.0)
    out, err = read(outputs, capsys)
    if kind == "json":
        told = [json.loads(text) for text in out.splitlines()]
        assert [each["event"] for each in told] == ["transfer_progress"] * 2
        assert told[0]["done"] == 4 * MIB
        return
    lines = err.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("fetching photos: 50.0%, 4.0MiB of 8.0MiB")
    assert lines[1].split()[:3] == ["PEER", "HAS", "DOWN"]
    assert lines[2].split()[0] == short(ANN)
