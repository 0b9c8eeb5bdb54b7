"""The harness of the end-to-end tests keeps its own promises."""

from __future__ import annotations

import os
import sys
import time

import pytest

from tests.support.processes import Processes, ProcessFailure

PYTHON = sys.executable


def script(processes: Processes, text: str, **options):
    return processes.command([PYTHON, "-c", text], **options)


def test_lines_events_and_exit_code(processes):
    run = script(
        processes,
        'print(\'hello 42\'); print(\'{"event": "A", "n": 1}\'); print(\'{"event": "A", "n": 2}\');'
        "import sys; print('oops', file=sys.stderr); sys.exit(3)",
    )
    assert run.line(r"hello (\d+)").group(1) == "42"
    assert run.event("A", n=2) == {"event": "A", "n": 2}
    assert len(run.events_until("A", 2)) == 2
    assert run.wait() == 3
    assert run.errors() == "oops"
    assert run.lines("^hello") == ["hello 42"]
    assert [event["n"] for event in run.events("A")] == [1, 2]
    with pytest.raises(ProcessFailure, match=r"(?s)exit code 3, expected 0.*hello 42.*oops"):
        run.expect_exit(0)


def test_what_never_comes_fails_when_the_output_ends(processes):
    run = script(processes, "print('one')")
    started = time.monotonic()
    with pytest.raises(ProcessFailure, match="ended without line matching 'two'"):
        run.line("two", within=60)
    assert time.monotonic() - started < 20


def test_what_never_comes_fails_at_the_deadline(processes):
    run = script(processes, "import time; print('one'); time.sleep(600)")
    run.line("one")
    with pytest.raises(ProcessFailure, match=r"no 1 x event B .* within 0.2 s"):
        run.event("B", within=0.2)


def test_address_from_text_or_event(processes):
    text = script(processes, "print('libp2p node address: /ip4/1.2.3.4/tcp/5/p2p/Qm')")
    event = script(processes, 'print(\'{"event": "node_listening", "addresses": ["/ip4/6.7.8.9"]}\')')
    assert text.address() == "/ip4/1.2.3.4/tcp/5/p2p/Qm"
    assert event.address() == "/ip4/6.7.8.9"


def test_stop_ends_children_too_and_signals_after_the_end_are_harmless(processes):
    run = script(
        processes,
        "import subprocess, sys, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print('child', child.pid); time.sleep(600)",
    )
    child = int(run.line(r"child (\d+)").group(1))
    run.stop(within=0.3)
    assert run.exit_code == -9
    run.kill()
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{child}") and "Z" not in open_state(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def open_state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"


def test_usage_counts_processor_time_and_memory(processes):
    run = script(processes, "data = bytearray(b'x') * (80 << 20); sum(range(5_000_000))")
    run.expect_exit(0)
    usage = run.usage()
    assert usage.peak_rss > 80 << 20
    assert 0.02 < usage.cpu_seconds <= run.elapsed() * 2


def test_each_name_has_its_own_home_and_keeps_it(processes):
    show = "import os; print(os.environ['SWARM_HOME'], os.getcwd())"
    first, again, other = (script(processes, show, name=name) for name in ("a", "a", "b"))
    for run in (first, again, other):
        run.expect_exit(0)
    assert first.lines() == again.lines() != other.lines()
    assert first.lines() == [f"{processes.home('a')} {processes.work('a')}"]
