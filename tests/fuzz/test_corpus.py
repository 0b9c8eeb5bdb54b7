"""What the fuzzers kept, run again: every input, and the oracles themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.mux.frames import FrameReader
from tests.fuzz import blind, ledger
from tests.fuzz.__main__ import CORPUS, KEPT_BYTES
from tests.fuzz.surfaces import SURFACES, Broken, Surface, check_memory, run_link

MEASURED = 12
EXECUTIONS, EXECUTIONS_SECONDS = 100, 0.5
"""So many mutations at least, and for so long."""


@pytest.mark.parametrize("surface", SURFACES.values(), ids=lambda surface: surface.name)
def test_everything_that_was_kept_is_dealt_with(surface: Surface) -> None:
    kept = sorted((CORPUS / surface.name).glob("*"))
    assert kept
    assert sum(path.stat().st_size for path in kept) <= KEPT_BYTES
    inputs = [*surface.seeds(), *(path.read_bytes() for path in kept)]
    for data in inputs:
        surface.run(data)
    for data in sorted(inputs, key=len)[-MEASURED:]:
        check_memory(surface, data)


@pytest.mark.parametrize("surface", SURFACES.values(), ids=lambda surface: surface.name)
def test_a_little_random_mutation_finds_nothing(surface: Surface, tmp_path: Path) -> None:
    done = seed = 0
    while done < EXECUTIONS:
        # Most surfaces run thousands in that time; on a busy machine the slowest may need more of it.
        seed += 1
        done += blind.fuzz(surface, list(surface.seeds()), EXECUTIONS_SECONDS, seed, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_fault_is_found_and_its_input_kept(tmp_path: Path) -> None:
    def faulty(data: bytes) -> None:
        if data[:1] == b"\x07":
            raise Broken("seven")

    surface = Surface("faulty", faulty, lambda: [b"\x06\x00"])
    with pytest.raises(Broken):
        blind.fuzz(surface, [b"\x06\x00"], 20, 1, tmp_path / "crashes")
    (found,) = (tmp_path / "crashes").iterdir()
    assert found.read_bytes()[0] == 7


def test_a_frame_before_a_bad_one_counts_in_one_record_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first fault that was found: the outcome depended on how frames were cut into records."""
    specimen = bytes.fromhex("000100010000000200000000" + "00000000000080001673660d" + "03")
    run_link(specimen)
    read = FrameReader.read
    monkeypatch.setattr(FrameReader, "read", lambda self, data: list(read(self, data)))
    with pytest.raises(Broken, match="another chunking"):
        run_link(specimen)


def test_the_ledger_adds_up(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    ledger.add("codec", "guided", 10, 1.4, path)
    ledger.add("codec", "random", 5, 1.4, path)
    ledger.add("link", "random", 1, 0, path)
    assert ledger.read(path)["codec"] == {"guided": 10, "random": 5, "seconds": 2}
    assert "15" in ledger.table(ledger.read(path))
