"""Whatever becomes of their output, real commands go on with their work and obey signals in time.

The full product of commands, outputs and signals is `python -m tests.siege --only outputs`.
"""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.output_cases import Case, field, run_case
from tests.support.sinks import KINDS

SIDE_BY_SIDE = 4
# The promise is two seconds; many processes at once may take longer on a busy machine.
LIMIT = 4.0

SIGNALS = (signal.SIGINT, signal.SIGTERM)
CASES = [
    *(Case("fetch", "both", kind, 0) for kind in KINDS),
    *(Case("fetch", "both", kind, SIGNALS[index % 2]) for index, kind in enumerate(KINDS)),
    *(
        Case("share", ("stdout", "stderr")[index // 2 % 2], kind, SIGNALS[index % 2])
        for index, kind in enumerate(KINDS)
    ),
]


@pytest.mark.timeout(300)
def test_transfers_are_unharmed_and_signals_obeyed(tmp_path: Path) -> None:
    with field(tmp_path) as shared, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        ends = list(pool.map(lambda case: run_case(shared, case, limit=LIMIT), CASES))
    assert [(end.case, end.faults) for end in ends if end.faults] == []
