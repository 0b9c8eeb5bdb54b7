import pytest

from swarm.errors import RemoteError
from swarm.mux.mux_limits import GROWTH_BUDGET, INITIAL_WINDOW, LOCAL_WINDOW, MAX_WINDOW
from swarm.mux.stream import ReceiveWindow, WindowBudget

RTT = 0.05


def read_steadily(window: ReceiveWindow, rate: float, seconds: float, rtt: float = RTT) -> None:
    """Let a peer fill the window once per round trip, or at its rate, and a reader read at once."""
    now = 0.0
    while now < seconds:
        size = min(window.credit, max(1, int(rate * rtt)))
        window.spend(size)
        now += rtt if size == window.credit + size else max(size / rate, 1e-6)
        window.replenish(0, now, rtt)


def test_credit_is_given_when_half_of_the_window_is_due():
    window = ReceiveWindow(WindowBudget())
    window.spend(INITIAL_WINDOW // 2 - 1)
    assert window.replenish(0, 1.0, RTT) == 0
    window.spend(1)
    assert window.replenish(0, 1.0, RTT) == INITIAL_WINDOW // 2
    assert window.credit == INITIAL_WINDOW


def test_unread_bytes_are_not_credited():
    window = ReceiveWindow(WindowBudget())
    window.spend(INITIAL_WINDOW)
    assert window.replenish(INITIAL_WINDOW, 1.0, RTT) == 0
    assert window.replenish(INITIAL_WINDOW // 4, 1.0, RTT) == INITIAL_WINDOW * 3 // 4


def test_one_byte_too_many_is_the_peers_fault():
    window = ReceiveWindow(WindowBudget())
    window.spend(INITIAL_WINDOW)
    with pytest.raises(RemoteError, match="window of 0"):
        window.spend(1)


def test_a_fast_stream_grows_to_the_maximum_and_a_slow_one_does_not():
    fast, slow = ReceiveWindow(WindowBudget()), ReceiveWindow(WindowBudget())
    read_steadily(fast, rate=1e9, seconds=20)
    read_steadily(slow, rate=100e3, seconds=20)
    assert fast.target == MAX_WINDOW
    assert slow.target == INITIAL_WINDOW


def test_on_a_fast_path_growth_ends_at_the_local_window():
    window = ReceiveWindow(WindowBudget())
    read_steadily(window, rate=1e9, seconds=2, rtt=50e-6)
    assert window.target == LOCAL_WINDOW


def test_a_maximum_below_the_local_window_holds():
    window = ReceiveWindow(WindowBudget(), 2 * INITIAL_WINDOW)
    read_steadily(window, rate=1e9, seconds=2, rtt=50e-6)
    assert window.target == 2 * INITIAL_WINDOW


def test_growth_ends_near_bandwidth_times_round_trip():
    window = ReceiveWindow(WindowBudget())
    read_steadily(window, rate=20e6, seconds=20)
    assert 20e6 * RTT <= window.target <= 16 * 20e6 * RTT


def test_growth_stays_within_the_budget_of_the_process_and_leaves_a_share():
    budget = WindowBudget()
    windows = [ReceiveWindow(budget) for _ in range(64)]
    for window in windows:
        read_steadily(window, rate=1e9, seconds=5)
    assert sum(window.target - INITIAL_WINDOW for window in windows) <= GROWTH_BUDGET
    assert windows[8].target >= 2 * INITIAL_WINDOW
    for window in windows:
        window.release()
    assert budget.growth_left == GROWTH_BUDGET


def test_credit_and_unread_never_exceed_the_target():
    window = ReceiveWindow(WindowBudget())
    unread = 0
    for step in range(1000):
        size = min(window.credit, 50_000)
        window.spend(size)
        unread += size
        unread -= min(unread, 47_000 + step)
        window.replenish(unread, step * 0.001, RTT)
        assert window.credit + unread <= window.target


def test_the_stalest_stream_is_given_up_when_too_much_is_held():
    budget = WindowBudget(held_limit=100)
    budget.record_unread("unread", 40, consumed=False)
    budget.record_unread("busy", 30, consumed=False)
    budget.record_unread("unread", 60, consumed=False)
    assert budget.least_recently_read() is None
    budget.record_unread("busy", 50, consumed=True)
    assert budget.held == 110
    assert budget.least_recently_read() == "unread"
    budget.record_unread("unread", 0, consumed=False)
    assert budget.least_recently_read() is None
    budget.record_unread("busy", 0, consumed=True)
    assert budget.held == 0


def test_a_stream_that_reads_is_not_the_stalest():
    budget = WindowBudget(held_limit=10)
    budget.record_unread("reader", 6, consumed=False)
    budget.record_unread("idle", 6, consumed=False)
    assert budget.least_recently_read() == "reader"
    budget.record_unread("reader", 5, consumed=True)
    assert budget.least_recently_read() == "idle"
