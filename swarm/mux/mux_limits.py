"""Every limit of the encrypted, multiplexed connection. Sizes are bytes, times are seconds.

Sources: the Noise specification section 3 (message size), hashicorp/yamux `spec.md` and the libp2p
Yamux specification (header, first window, ACK backlog).
"""

from __future__ import annotations

from swarm.lazy_dataclass import dataclass

NOISE_MAX_MESSAGE = 65_535
NOISE_TAG = 16
NOISE_LENGTH_PREFIX = 2
NOISE_MAX_PLAINTEXT = NOISE_MAX_MESSAGE - NOISE_TAG
NOISE_MAX_SEALED = NOISE_LENGTH_PREFIX + NOISE_MAX_MESSAGE
NOISE_MAX_NONCE = 2**64 - 2
AES_MAX_NONCE = 2**27
"""Records under one AES-GCM key: 8 TiB in full ones, and an attacker's advantage stays below 2^-50."""

YAMUX_HEADER = 12

FRAME_BYTES = 16 * NOISE_MAX_PLAINTEXT - YAMUX_HEADER
"""The longest payload of a DATA frame sent from here, if the window of the peer allows it: below the 1 MiB
that rust-yamux takes."""
SHARED_FRAME_BYTES = NOISE_MAX_PLAINTEXT - YAMUX_HEADER
"""The same while another stream waits for its turn: one record."""

INITIAL_WINDOW = 256 * 1024
MAX_WINDOW = 16 * 1024 * 1024
MAX_SEND_WINDOW = 2**32 - 1
"""The send window is capped here, however many updates the peer sends."""

GROWTH_RTTS = 4.0
"""A window doubles when its updates are at most this many round trips apart."""

LOCAL_WINDOW = 4 * 1024 * 1024
LOCAL_GROWTH_SECONDS = 0.01
"""On a short path a window also doubles, up to LOCAL_WINDOW, when updates are at most LOCAL_GROWTH_SECONDS
apart: scheduling, not the round trip, is the delay there, and every update has a price at both ends. A larger
window would only delay urgent frames.
"""

MEMORY_BUDGET = 64 * 1024 * 1024
"""Received and unread bytes of all streams in the process."""

GROWTH_BUDGET = MEMORY_BUDGET * 3 // 4
"""Total growth of all windows beyond INITIAL_WINDOW each."""

GROWTH_SHARE = 4
"""One growth step takes at most 1/GROWTH_SHARE of the remaining GROWTH_BUDGET."""

DEPTH_SECONDS = 0.02
DEPTH_MIN = 64 * 1024
DEPTH_START = 128 * 1024
DEPTH_MAX = 1024 * 1024
"""Bytes sealed ahead of the network: DEPTH_SECONDS at its measured rate, within these bounds."""

ABANDONED_SECONDS = 60.0
"""A stream closed here is reset when the peer has not finished it after this long."""

FRAME_RATE = 2000.0
FRAME_BURST = 16384.0
FRAME_EARNINGS = 512
FRAMES_PER_STREAM = 8
"""Frames that a peer may send a second, and in a burst. FRAME_EARNINGS bytes of payload earn one more
frame; opening a stream costs FRAMES_PER_STREAM. Bulk data in frames of 512 bytes pays for itself. A peer may
open a thousand streams in a row; one that keeps that rate up is disconnected within seconds.
"""

SMALL_RECORD = 256
"""Bytes of plaintext. A shorter record counts: to open one costs about half of what a frame costs, however
few bytes are in it. In longer ones payload costs no more than in frames of FRAME_EARNINGS bytes.
"""
RECORDS_PER_FRAME = 3
"""Small records that come free with a frame. Other implementations send a frame in one record, or its header
in one and its body in the next; this is one more. A further one costs as much as a frame: FRAME_RATE and
FRAME_BURST are for both together.
"""


@dataclass(frozen=True, slots=True)
class MuxLimits:
    """Limits of one connection.

    ``inbound_streams``: open streams of the peer; one more is reset.
    ``accept_backlog``: of these, streams not accepted yet; one more is reset.
    ``unacknowledged``: streams opened here that the peer has not acknowledged; opening then waits.
    ``control_frames``: queued control frames; one more ends the connection.
    ``skipped_ids``: skipped stream ids that the peer may still open, see `PeerIds`.
    ``max_window``: bytes of the largest receive window of a stream.
    ``last_stream_id``: the largest id of a stream opened here; ids have 32 bits.
    """

    inbound_streams: int = 64
    accept_backlog: int = 64
    unacknowledged: int = 256
    control_frames: int = 1024
    skipped_ids: int = 256
    max_window: int = MAX_WINDOW
    last_stream_id: int = 2**32 - 1
