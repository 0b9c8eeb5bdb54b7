"""libtorrent as a member of a swarm, one process for each host.

    python -m tests.netns.torrent_peer TORRENT FOLDER --listen ADDR --mark FILE [--seed] [--peer ADDR]...

ADDR is IP:PORT. Creates the file --mark when libtorrent says that all pieces have passed, and goes on
seeding. At SIGTERM it prints one JSON line: payload bytes sent and received, bytes that were thrown away,
and ends.

libtorrent's own settings are left as they are, but for those that choose how peers meet: TCP instead of
uTP (whose delay-based control yields to the queue of a limited uplink), no DHT, no local discovery, no port
mapping. Peers are given, and named by others (ut_pex), as a magnet link with `x.pe` would have it.
"""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path

import libtorrent as lt

ALERT_WAIT_MS = 50

SETTINGS = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "alert_mask": lt.alert.category_t.status_notification,
}


def make_torrent(file: Path, torrent: Path, web_seed: str | None = None) -> int:
    """Write the torrent (version 1, what most torrents are) of ``file``; return its number of pieces.

    ``web_seed`` is the URL of the folder that has the file, too.
    """
    maker = lt.create_torrent(lt.list_files(str(file)), 0, lt.create_torrent.v1_only)
    if web_seed is not None:
        maker.add_url_seed(web_seed)
    lt.set_piece_hashes(maker, str(file.parent))
    torrent.write_bytes(lt.bencode(maker.generate()))
    return int(lt.torrent_info(str(torrent)).num_pieces())


def run(arguments: argparse.Namespace) -> None:
    session = lt.session({**SETTINGS, "listen_interfaces": arguments.listen})
    wanted = lt.add_torrent_params()
    wanted.ti = lt.torrent_info(str(arguments.torrent))
    wanted.save_path = str(arguments.folder)
    wanted.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if arguments.seed:
        wanted.flags |= lt.torrent_flags.seed_mode
    torrent = session.add_torrent(wanted)
    for peer in arguments.peer:
        host, _, port = peer.rpartition(":")
        torrent.connect_peer((host, int(port)))
    print("begun", flush=True)
    ended = False

    def end(_number: int, _frame: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    while not ended:
        session.wait_for_alert(ALERT_WAIT_MS)
        if any(isinstance(alert, lt.torrent_finished_alert) for alert in session.pop_alerts()):
            arguments.mark.touch()
    status = torrent.status()
    report = {
        "sent": status.total_payload_upload,
        "received": status.total_payload_download,
        "wasted": status.total_redundant_bytes + status.total_failed_bytes,
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("torrent", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--mark", type=Path, required=True)
    parser.add_argument("--seed", action="store_true")
    parser.add_argument("--peer", action="append", default=[])
    run(parser.parse_args())
