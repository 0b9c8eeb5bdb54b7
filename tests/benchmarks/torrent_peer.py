"""libtorrent as a seeder or a leecher on loopback: one TCP connection, no limits, no discovery.

    python -m tests.benchmarks.torrent_peer [--encrypted] seed FILE TORRENT
    python -m tests.benchmarks.torrent_peer [--encrypted] leech TORRENT FOLDER PORT

The seeder writes TORRENT (version 1, so SHA-1: what most torrents are), prints `listening PORT` and
serves until it is ended. The leecher prints `begin` when it adds the torrent, `finished SECONDS` when
libtorrent says that all pieces have passed, and how the connection was encrypted.
"""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path

import libtorrent as lt

ALERT_WAIT_MS = 1000
POLICY_FORCED, POLICY_DISABLED = 0, 2
LEVEL_RC4 = 2


def session(encrypted: bool) -> lt.session:
    policy = POLICY_FORCED if encrypted else POLICY_DISABLED
    return lt.session(
        {
            "listen_interfaces": "127.0.0.1:0",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            "in_enc_policy": policy,
            "out_enc_policy": policy,
            "allowed_enc_level": LEVEL_RC4,
            "prefer_rc4": True,
            "unchoke_slots_limit": -1,
            "send_buffer_watermark": 8 << 20,
            "send_buffer_watermark_factor": 500,
            "max_out_request_queue": 2000,
            "alert_mask": lt.alert.category_t.all_categories & ~lt.alert.category_t.session_log_notification,
        }
    )


def parameters(info: lt.torrent_info, folder: Path) -> lt.add_torrent_params:
    wanted = lt.add_torrent_params()
    wanted.ti = info
    wanted.save_path = str(folder)
    wanted.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    return wanted


def seed(arguments: argparse.Namespace) -> None:
    maker = lt.create_torrent(lt.list_files(str(arguments.file)), 0, lt.create_torrent.v1_only)
    lt.set_piece_hashes(maker, str(arguments.file.parent))
    arguments.torrent.write_bytes(lt.bencode(maker.generate()))
    host = session(arguments.encrypted)
    wanted = parameters(lt.torrent_info(str(arguments.torrent)), arguments.file.parent)
    wanted.flags |= lt.torrent_flags.seed_mode
    host.add_torrent(wanted)
    print(f"listening {host.listen_port()}", flush=True)
    signal.pause()


def leech(arguments: argparse.Namespace) -> None:
    host = session(arguments.encrypted)
    info = lt.torrent_info(str(arguments.torrent))
    print("begin", flush=True)
    started = time.perf_counter()
    torrent = host.add_torrent(parameters(info, arguments.folder))
    torrent.connect_peer(("127.0.0.1", arguments.port))
    link = ""
    while True:
        host.wait_for_alert(ALERT_WAIT_MS)
        now = time.perf_counter()
        if any(isinstance(alert, lt.torrent_finished_alert) for alert in host.pop_alerts()):
            break
        link = link or encryption(torrent)
    print(f"finished {now - started:.6f}", flush=True)
    print(f"link {link}", flush=True)
    torrent.flush_cache()


def encryption(torrent: lt.torrent_handle) -> str:
    """Return how the payload of the one connection is encrypted, once it is established."""
    for peer in torrent.get_peer_info():
        if peer.total_download:
            return "rc4" if peer.flags & lt.peer_info.rc4_encrypted else "plaintext"
    return ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--encrypted", action="store_true", help="RC4 forced")
    modes = parser.add_subparsers(required=True)
    seeding = modes.add_parser("seed")
    seeding.set_defaults(run=seed)
    seeding.add_argument("file", type=Path)
    seeding.add_argument("torrent", type=Path)
    leeching = modes.add_parser("leech")
    leeching.set_defaults(run=leech)
    leeching.add_argument("torrent", type=Path)
    leeching.add_argument("folder", type=Path)
    leeching.add_argument("port", type=int)
    chosen = parser.parse_args()
    chosen.run(chosen)
