"""Sorting: the same as sorting in memory, with no more than one run of it held there."""

import random
from pathlib import Path

import pytest

from drp.sorting import in_order


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20, 21, 257])
def test_it_is_the_sorted_order_and_equal_keys_keep_theirs(tmp_path: Path, count: int) -> None:
    draw = random.Random(count)
    values = [(draw.randrange(30), place) for place in range(count)]
    assert list(in_order(values, lambda v: v[0], tmp_path, run=10)) == sorted(values, key=lambda v: v[0])
    assert list(tmp_path.iterdir()) == []


def test_one_run_needs_no_disk(tmp_path: Path) -> None:
    assert list(in_order([3, 1, 2], lambda v: v, tmp_path / "none", run=10)) == [1, 2, 3]
    assert not (tmp_path / "none").exists()


def test_who_stops_early_leaves_nothing_behind(tmp_path: Path) -> None:
    values = in_order(range(100, 0, -1), lambda v: v, tmp_path, run=10)
    assert next(values) == 1
    assert len(list(tmp_path.iterdir())) == 1
    values.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []
