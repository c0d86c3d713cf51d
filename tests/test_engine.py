"""The engine's promises, as its benchmarks measure them, at a small size; what is timed is only measured there."""

from collections.abc import Iterable

import pytest

from benchmarks import kills, memory, staleness
from benchmarks.table import Row


def _unmet(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.met is not True]


def test_a_stage_killed_at_random_moments_asks_again_only_what_was_in_flight_and_makes_the_same_bytes() -> None:
    assert _unmet(kills.rows(times=4, size=300, seed=1)) == []


def test_every_change_asks_for_exactly_what_it_touches_and_leaves_no_stale_row() -> None:
    assert _unmet(staleness.rows(size=8)) == []


@pytest.mark.slow
def test_the_memory_of_a_stage_does_not_grow_with_its_records() -> None:
    assert _unmet(memory.rows((10_000, 60_000))) == []
