"""The last event of a transfer is last for every observer; an observer that stops reading is forgotten."""

from __future__ import annotations

import gc
import weakref

from swarm.events import BytesReceived, BytesSent, TransferEnded, TransferStarted
from swarm.ids import PeerId, SourceId, TransferId
from swarm.observe.event_stream import EventStream

ONE, OTHER = TransferId(1), TransferId(2)
PEER = PeerId(SourceId("peer"))


async def test_bytes_come_before_the_end_of_their_transfer() -> None:
    stream = EventStream()
    of_node = stream.subscribe()
    for number in (ONE, OTHER):
        stream.publish(TransferStarted(number, "fetch"))
    of_one = stream.subscribe(ONE)
    stream.publish(BytesReceived(ONE, PEER, 5))
    stream.publish(BytesReceived(OTHER, PEER, 6))
    stream.publish(BytesSent(ONE, PEER, 7))
    stream.publish(BytesReceived(ONE, PEER, 8))
    stream.publish(TransferEnded(ONE))
    stream.close()
    about_one = [BytesReceived(ONE, PEER, 13), BytesSent(ONE, PEER, 7), TransferEnded(ONE)]
    assert [event async for event in of_one] == [TransferStarted(ONE, "fetch"), *about_one]
    told = [event async for event in of_node]
    assert told[2:5] == about_one
    assert told[5:] == [BytesReceived(OTHER, PEER, 6)]


async def test_an_observer_that_comes_after_the_end_is_told_nothing() -> None:
    stream = EventStream()
    stream.publish(TransferStarted(ONE, "share"))
    stream.publish(TransferEnded(ONE, "an error"))
    assert [event async for event in stream.subscribe(ONE)] == []


async def test_an_observer_that_is_no_longer_read_is_forgotten() -> None:
    stream = EventStream()
    stream.publish(TransferStarted(ONE, "share"))
    subscription = stream.subscribe()
    async for _ in subscription:
        break
    gone = weakref.ref(subscription)
    del subscription
    gc.collect()
    assert gone() is None
