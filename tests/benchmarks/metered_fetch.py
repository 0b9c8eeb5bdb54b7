"""A `swarm fetch` that counts the processor time of each of its steps; see `bench_profile`.

    python -m tests.benchmarks.metered_fetch TOLD fetch LINK …

Steps nest: the time of an inner one does not count for the outer one. What no step covers is time of tasks,
their scheduler and the rest. The counts of the main thread go to the file TOLD as JSON, in seconds.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import runpy
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = {
    "receive and open": ("swarm.net.record_socket:RecordSocket.receive_now",),
    "seal and send": ("swarm.net.record_socket:RecordSocket.send",),
    "frames and windows": (
        "swarm.net.muxed_connection:Driver.pull",
        "swarm.net.muxed_connection:Driver.consumed",
    ),
    "rules of the session": (
        "swarm.protocol.session_rules:SessionRules.received_data",
        "swarm.protocol.session_rules:SessionRules.sent",
    ),
    "request": (
        "swarm.strategy.download.asking:Asker.fill",
        "swarm.transfer.session:PeerSession.send",
        "swarm.transfer.session:PeerSession.flush",
    ),
    "whole piece, in the brain": ("swarm.strategy.brain:Brain.pieces_received",),
    "store: hash": (
        "swarm.storage.piece_writer:PieceWriter._verified",
        "swarm.storage.target:Target._verified",
    ),
    "store: write": ("swarm.storage.file_layer:PosixLayer.write",),
    "store: the rest": (
        "swarm.storage.piece_writer:PieceWriter.put_now",
        "swarm.storage.target:Target.put_now",
    ),
    "journal": ("swarm.storage.syncer:Syncer.add", "swarm.content.journal:encode_stored"),
    "stored piece, in the brain": ("swarm.strategy.brain:Brain.pieces_stored",),
    "have": ("swarm.strategy.announcer:Announcer.stored",),
    "event": ("swarm.transfer.progress:TransferRecord.publish",),
    "event, shown": ("cli.render.live:Live.event", "cli.render.live:Live.draw"),
    "commands": ("swarm.transfer.performer:Performer.perform",),
}


class Meter:
    """Processor time of the main thread, by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STEPS, 0.0)
        self._stack: list[str] = []
        self._since = 0.0
        self.began = 0.0

    def _charge(self) -> None:
        now = time.thread_time()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def wrap(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def metered(*given: Any, **named: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return function(*given, **named)
            self.began = self.began or time.thread_time()
            self._charge()
            self._stack.append(step)
            try:
                return function(*given, **named)
            finally:
                self._charge()
                self._stack.pop()

        return metered

    def install(self) -> None:
        # Versions before this one lack some, or have them elsewhere.
        for step, names in STEPS.items():
            for name in names:
                module, _, path = name.partition(":")
                *inner, last = path.split(".")
                try:
                    owner: Any = importlib.import_module(module)
                except ModuleNotFoundError:
                    continue
                for part in inner:
                    owner = getattr(owner, part)
                if hasattr(owner, last):
                    setattr(owner, last, self.wrap(step, getattr(owner, last)))

    def tell(self, path: Path) -> None:
        rest = time.thread_time() - self.began - sum(self.seconds.values())
        path.write_text(json.dumps({**self.seconds, "tasks, reading, the rest": rest}))


def main() -> None:
    told, meter, leave = Path(sys.argv[1]).resolve(), Meter(), os._exit
    meter.install()

    def leaving(code: int) -> None:
        meter.tell(told)
        leave(code)

    os._exit = leaving  # type: ignore[assignment]
    sys.argv[:2] = ["swarm"]
    runpy.run_module("swarm", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
