"""Every limit of the link by name. Sizes are bytes, times are seconds.

Sources: the Noise specification section 3 (message size), hashicorp/yamux `spec.md` and the libp2p
Yamux specification (header, first window, ACK backlog).
"""

from __future__ import annotations

from dataclasses import dataclass

NOISE_MAX_MESSAGE = 65_535
NOISE_TAG = 16
NOISE_LENGTH_PREFIX = 2
NOISE_MAX_PLAINTEXT = NOISE_MAX_MESSAGE - NOISE_TAG
NOISE_MAX_SEALED = NOISE_LENGTH_PREFIX + NOISE_MAX_MESSAGE
NOISE_MAX_NONCE = 2**64 - 2

YAMUX_HEADER = 12
YAMUX_FRAME_PAYLOAD = NOISE_MAX_PLAINTEXT - YAMUX_HEADER
"""Payload of our largest DATA frame: header and payload fill one Noise message."""

INITIAL_WINDOW = 256 * 1024
MAX_WINDOW = 16 * 1024 * 1024
MAX_SEND_WINDOW = 2**32 - 1
"""A sender's window never counts beyond this, however many updates a peer sends."""

GROWTH_RTTS = 4.0
"""A window doubles when updates come within so many round trips."""

LOCAL_WINDOW = 1024 * 1024
LOCAL_GROWTH_SECONDS = 0.005
"""Up to LOCAL_WINDOW it also doubles when updates come within this, however short the round trip:
the two ends do not run all the time. More gains nothing on a fast path and delays what is urgent.
"""

MEMORY_BUDGET = 64 * 1024 * 1024
"""Received and unread bytes of all streams of the process together."""

GROWTH_BUDGET = MEMORY_BUDGET * 3 // 4
"""What windows may grow by, all together, beyond INITIAL_WINDOW each."""

GROWTH_SHARE = 4
"""One step of growth takes at most 1/GROWTH_SHARE of what is left of GROWTH_BUDGET."""

DEPTH_SECONDS = 0.02
DEPTH_MIN = 64 * 1024
DEPTH_START = 128 * 1024
DEPTH_MAX = 1024 * 1024
"""What is sealed and handed to the socket ahead of the network: DEPTH_SECONDS of its rate."""

ABANDONED_SECONDS = 60.0
"""A stream closed here whose peer has not finished after this long is reset."""

FRAME_RATE = 2000.0
FRAME_BURST = 16384.0
FRAME_EARNINGS = 512
FRAMES_PER_STREAM = 8
"""Frames a second and at once that a peer may send; so many bytes of payload earn one more, and a
stream that it opens costs as many as this. Bulk data in frames of half a KiB pays for itself, a thousand
streams may be opened in a row, and who goes on at that rate is gone within seconds.
"""


@dataclass(frozen=True, slots=True)
class MuxLimits:
    """What one connection allows its peer.

    ``inbound_streams``: streams of the peer open at once; one more is reset.
    ``accept_backlog``: of these, how many may wait to be accepted; one more is reset.
    ``unacknowledged``: our streams that the peer has not acknowledged; opening waits beyond it.
    ``control_frames``: control frames waiting to be sent; one more ends the connection.
    ``skipped_ids``: stream ids that the peer jumped over and may still open, for peers whose
    concurrent opens reach the wire out of order.
    ``max_window``: the largest receive window of one stream.
    """

    inbound_streams: int = 64
    accept_backlog: int = 64
    unacknowledged: int = 256
    control_frames: int = 1024
    skipped_ids: int = 256
    max_window: int = MAX_WINDOW
