"""Every limit of the meeting point, the relay and the punching. Sizes are bytes, times are seconds."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 4096
"""One message of the relay and of the punching; DCUtR's specification names this size."""
MAX_IDENTIFY_BYTES = 64 * 1024
"""What a peer says of itself; only the observed address is taken from it."""
MAX_FIELDS = 256
"""Fields of one protobuf message, those of nested messages not counted."""
MAX_ADDRESS_BYTES = 256
MAX_ADDRESSES = 8
"""Of one peer in one message; more are ignored."""

# --- Meeting --------------------------------------------------------------------------------------

MAX_NAMESPACE_BYTES = 255
MAX_RECORD_BYTES = 1024
MAX_RENDEZVOUS_BYTES = 128 * 1024
"""One message of the rendezvous protocol: an answer with `MAX_FOUND` records."""
MAX_REQUEST_BYTES = 2048
"""A question or registration."""
MAX_FOUND = 64
"""Peers in one answer; the cookie asks for those that follow."""
MAX_REGISTRATIONS = 12_288
MAX_REGISTRATIONS_PER_PEER = 512
MAX_REGISTRATIONS_PER_NETWORK = 2048
"""Of one IPv4 address, or one /64 of IPv6: a sixth of all."""
MAX_RECORDS = 2048
"""Peers with any registration."""
DEFAULT_TTL = 7200
MIN_TTL = 60
MAX_TTL = 72 * 3600
REFRESH_SECONDS = 1800.0
"""A registration is renewed after so long, which is well within what it is asked for."""
REGISTERED_SECONDS = 2 * 3600
"""What a registration is asked for: the least that the specification recommends a server to take."""
MAX_WAIT = 60
"""How long a question may wait for a peer to come."""
WAITING_PER_PEER = 32
"""Questions of one peer that wait at the same time."""
MEETING_STREAMS = 4096
MEETING_STREAMS_PER_NETWORK = 1024
"""Streams that a meeting point serves at once, of everybody and of one network; each takes about 6 kB."""
REQUESTS_RATE = 20.0
REQUESTS_BURST = 600.0
"""Messages that one peer may send a second, and in a burst: a share of hundreds of files registers each."""
REGISTERS_RATE = 10.0
REGISTERS_BURST = 300.0
"""Registrations that a node sends to one meeting point a second, and in a burst: half of what that takes, for
questions count there, too."""
FOUND_RATE = 10.0
FOUND_BURST = 600.0
"""Answers with peers that a node takes from one meeting point a second, and in a burst: each peer's record is
verified."""

# --- Relay ----------------------------------------------------------------------------------------

RESERVATION_SECONDS = 3600
LEAST_RESERVATION = 120
"""What another relay grants is taken to be within these."""
RESERVATION_RENEWED = 0.5
"""A reservation is renewed when this part of its time is over."""
MAX_RESERVATIONS = 512
MAX_RESERVATIONS_PER_NETWORK = 64
MAX_CIRCUITS = 256
MAX_CIRCUITS_PER_PEER = 16
"""Circuits that begin or end at one peer."""
MAX_CIRCUITS_PER_NETWORK = 64
"""Circuits that peers of one network open."""
CIRCUIT_BYTES = 128 * 1024
"""Of each direction of one circuit, by default: enough to agree on a punch, not to move files."""
CIRCUIT_SECONDS = 120
LEAST_FOR_DATA = 1 << 20
"""A circuit that carries less is not used for pieces."""
HANDSHAKE_SECONDS = 10.0

COORDINATED_CIRCUITS = 16
COORDINATED_PER_PEER = 4
COORDINATED_PER_NETWORK = 8
"""Circuits of a node that is no meeting point, between peers that it has sessions with: in all, those that
begin or end at one peer, and those that peers of one network open."""
COORDINATED_BYTES = 16 * 1024
COORDINATED_SECONDS = 20
"""Of each of them: enough to agree on three punches, which takes 3 kB and 8 s, and for nothing else."""
COORDINATED_RATE = 0.5
COORDINATED_BURST = 16.0
"""Such circuits that one peer may ask for a second, and in a burst; and those that one peer may bring."""

# --- Punching -------------------------------------------------------------------------------------

PUNCH_ATTEMPTS = 3
PUNCH_SECONDS = 8.0
"""For all attempts together."""
ATTEMPT_SECONDS = 2.4
GIVE_UP_SECONDS = 9.5
"""From the begin of a connect until the end that opened a circuit waits for a punch no more, however slow the
way to the relay is. A connection that the last attempt makes later is used by the next connect."""
UPGRADE_SECONDS = 60.0
"""Pause before a direct connection is tried again while pieces go over a circuit."""
LED_RATE = 0.1
LED_BURST = 6.0
"""Attempts a second, and in a burst, that one peer may lead where this end awaits none: twice what the trying
again takes."""
DIRECT_HEAD_START = 1.0
NEAR_HEAD_START = 0.2
"""Seconds that direct dials have for themselves before a circuit is opened: to addresses of the Internet, and
to those in a network of this machine. Other private addresses get none: most are behind a translator."""

# --- Probe ----------------------------------------------------------------------------------------

PROBE_SECONDS = 4.0
"""How long a dial back may take."""
PROBES_AT_ONCE = 16
PROBE_RATE = 1 / 30
PROBE_BURST = 4.0
"""Dial backs for one network (an IPv4 address, or a /64) a second, and in a burst."""
