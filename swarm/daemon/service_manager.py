"""What systemd wants to hear of a service, over the socket that it names (sd_notify)."""

from __future__ import annotations

import os
import socket
from typing import Final

VARIABLE: Final = "NOTIFY_SOCKET"


def notify(text: str) -> bool:
    """Send lines such as ``READY=1``; says whether somebody listens. Never waits, never raises."""
    name = os.environ.get(VARIABLE, "")
    if not name.startswith(("/", "@")):
        return False
    # An @ stands for the zero byte of an abstract name.
    address = "\0" + name[1:] if name.startswith("@") else name
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(text.encode("utf-8", "replace"), address)
    except OSError:
        return False
    return True
