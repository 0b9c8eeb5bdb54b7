"""A small swarm of real processes on limited uplinks, and the network it runs on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.netns import network
from tests.netns.bench import CASES, measure, rows, saved
from tests.netns.network import PREFIX, Network, payload_rate, remove_leftovers, why_unavailable
from tests.netns.swarms import Case, Moved, Outcome, Swarm
from tests.support.processes import Processes
from tests.support.requirements import require

MIB = 1 << 20
BITS = 50_000_000


@pytest.fixture(autouse=True, scope="module")
def namespaces() -> None:
    why = why_unavailable()
    require(not why, why)


def existing() -> set[str]:
    told = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in told.splitlines()}


@pytest.mark.e2e
@pytest.mark.parametrize("acquainted", [True, False])
def test_leechers_get_most_of_it_from_each_other(tmp_path: Path, acquainted: bool) -> None:
    # A copy takes seconds: leechers that do not start at the same moment have use of each other all the same.
    case = Case(3, BITS // 2, 8 * MIB, acquainted=acquainted)
    outcome = measure(Swarm(), case, tmp_path, patience=30)
    # Three copies are what it would take without each other's help.
    assert 1.0 <= outcome.copies <= 1.9
    assert sum(each.sent for each in outcome.leechers) >= 1.1 * case.size
    assert outcome.duplicates <= 0.03
    assert not any(name.startswith(f"{PREFIX}-{os.getpid()}-") for name in existing())


def test_runs_of_several_calls_make_one_table(tmp_path: Path) -> None:
    case, results = CASES["8a"], tmp_path / "results.jsonl"
    runs = [
        ("swarm", Outcome(case, 512, 30.0, 29.0, case.size, case.size, (Moved(5, case.size),) * 8)),
        ("swarm", Outcome(case, 512, 34.0, 33.0, case.size, case.size, (Moved(5, case.size),) * 8)),
        ("libtorrent", Outcome(case, 256, 64.0, 9.0, 2 * case.size, 9, (Moved(5, 2 * case.size),) * 8)),
    ]
    told = [json.dumps({"case": "8a", "program": name, "outcome": run.to_json()}) for name, run in runs]
    results.write_text("\n".join(told) + "\n")
    read = saved(results)
    assert read == {"8a": {"swarm": [runs[0][1], runs[1][1]], "libtorrent": [runs[2][1]]}}
    swarm, torrent = rows(read)
    assert swarm[1:] == ["swarm", "2", "32.0", "30.0 to 34.0", "1.13", "0.50", "1.00", "0.00%"]
    assert torrent[1:] == ["libtorrent", "1", "64.0", "64.0 to 64.0", "2.25", "", "2.00", "100.00%"]


def test_an_uplink_carries_its_rate_and_no_more(tmp_path: Path) -> None:
    receive = (
        "import socket, time; server = socket.create_server(('', 9)); peer = server.accept()[0]; total = 0\n"
        "def emptied(total=0):\n"
        "    # What waits in the buffer has come before: this process may have been late.\n"
        "    try:\n"
        "        while True: total += len(peer.recv(1 << 16, socket.MSG_DONTWAIT))\n"
        "    except BlockingIOError: return total, time.monotonic()\n"
        "while total < 1_000_000: total += len(peer.recv(1 << 16))\n"
        "_, began = emptied()\n"
        "rates, all_total, start = [], 0, began\n"
        "# A sender that the machine leaves no time cannot fill its uplink: another two seconds, then.\n"
        "while len(rates) < 8 and max(rates, default=0) < 0.95 * %f:\n"
        "    total = 0\n"
        "    while time.monotonic() < start + 2: total += len(peer.recv(1 << 16))\n"
        "    rest, ended = emptied()\n"
        "    rates.append((total + rest) / (ended - start))\n"
        "    all_total, start = all_total + total + rest, ended\n"
        "print('rates', max(rates), all_total / (ended - began), flush=True)"
    )
    send = (
        "import socket, time; end = time.monotonic() + 10\n"
        "while time.monotonic() < end:\n"
        "    try: peer = socket.create_connection(('%s', 9)); break\n"
        "    except OSError: time.sleep(0.05)\n"
        "try:\n"
        "    while True: peer.sendall(bytes(1 << 16))\n"
        "except OSError: pass"
    )
    with Network(2, bits=BITS) as network, Processes(tmp_path) as processes:
        full = payload_rate(BITS)
        receiver = processes.command(network.inside(1, sys.executable, "-c", receive % full))
        processes.command(network.inside(0, sys.executable, "-c", send % network.address(1)))
        most, mean = map(float, receiver.line(r"^rates (\S+) (\S+)$", 40).groups())
    assert most >= 0.95 * full
    assert mean <= 1.05 * full


def test_what_a_killed_run_leaves_is_found_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import signal\n"
        "from tests.netns import network\n"
        "network.PREFIX = %r\n"
        "with network.Network(1, bits=10_000_000) as network:\n"
        "    print(network.name(0), flush=True)\n"
        "    signal.pause()"
    )
    # Other tests beside this one would find and remove it, too.
    prefix = f"{PREFIX}{os.getpid()}"
    monkeypatch.setattr(network, "PREFIX", prefix)
    program %= prefix
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        name = run.stdout.readline().strip()
        assert name.startswith(f"{prefix}-")
        # Of one that lives, nothing is touched.
        remove_leftovers()
        assert name in existing()
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert name in remove_leftovers()
    assert name not in existing()


def test_whoever_is_not_root_is_told_so_in_one_line() -> None:
    program = (
        "import os, sys; from tests.netns.bench import main; sys.argv[1:] = []; os.setuid(65534); main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "swarm-bench: network namespaces need root\n"
