"""mix: several inputs become one, every record once, nothing lost without a reason."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from drp.errors import DataError
from drp.op import Dropped, Kept, Outcome, Record
from drp.ops.mix import check, mix
from tests.fakes import FakeWork


def records(*ids: str, **columns: Any) -> list[Record]:
    return [{"id": i, **columns} for i in ids]


def run(folder: Path, inputs: dict[str, list[Record]], **options: Any) -> list[Outcome]:
    return list(mix(inputs, FakeWork(folder), **options))


def shown(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [(o.record["id"], o.reason if isinstance(o, Dropped) else "kept") for o in outcomes]


def test_inputs_are_merged_in_the_order_of_their_ids(tmp_path: Path) -> None:
    outcomes = run(tmp_path, {"left": records("a", "c", "e"), "right": records("b", "d")})
    assert shown(outcomes) == [(i, "kept") for i in "abcde"]


def test_of_two_records_with_one_id_the_first_inputs_stays_and_the_trail_names_both(tmp_path: Path) -> None:
    kept, dropped = run(tmp_path, {"new": records("a", text="new"), "old": records("a", text="old")})
    assert isinstance(kept, Kept)
    assert kept.record["text"] == "new"
    assert [row.parents for row in kept.trail] == [("new:a", "old:a")]
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.detail) == ("duplicate", "of old; new has it too")


def test_a_share_of_an_input_is_drawn_and_stays_drawn_when_records_are_added(tmp_path: Path) -> None:
    ids = [f"{k:04d}" for k in range(1000)]
    inputs = {"all": records("x"), "some": records(*ids)}
    outcomes = run(tmp_path, inputs, weights={"some": 0.3})
    counts = Counter(reason for _, reason in shown(outcomes))
    assert sum(counts.values()) == 1001
    assert 230 < counts["kept"] < 370
    before = {i for i, reason in shown(outcomes) if reason == "kept"}
    more = run(tmp_path, {"all": records("x"), "some": records(*ids, "2000")}, weights={"some": 0.3})
    assert {i for i, reason in shown(more) if reason == "kept"} - {"2000"} == before
    other = run(tmp_path, inputs, weights={"some": 0.3}, seed=1)
    assert {i for i, reason in shown(other) if reason == "kept"} != before


def test_a_question_that_stands_in_an_exam_is_left_out_with_a_reason(tmp_path: Path) -> None:
    train = [{"id": "a", "question": "1 + 1?"}, {"id": "b", "question": "2 + 2?"}]
    outcomes = run(tmp_path, {"train": train}, without={"exam": [{"id": "z", "question": "1 + 1?"}]})
    assert shown(outcomes) == [("a", "held-out"), ("b", "kept")]


def test_a_record_that_one_input_does_not_draw_is_taken_from_the_other(tmp_path: Path) -> None:
    outcomes = run(tmp_path, {"none": records("a"), "all": records("a")}, weights={"none": 0.0})
    assert shown(outcomes) == [("a", "not-drawn"), ("a", "kept")]


def test_what_is_over_the_limit_is_dropped_with_a_reason(tmp_path: Path) -> None:
    outcomes = run(tmp_path, {"left": records("a", "c"), "right": records("a", "b")}, limit=2)
    assert shown(outcomes) == [("a", "kept"), ("a", "duplicate"), ("b", "kept"), ("c", "over-limit")]


def test_shares_and_limits_that_cannot_be_are_refused(tmp_path: Path) -> None:
    assert [key for key, _ in check({"weights": {"a": 2.0}, "limit": -1})] == ["weights", "limit"]
    with pytest.raises(DataError, match=r"'lft' is not an input .* did you mean 'left'"):
        run(tmp_path, {"left": records("a")}, weights={"lft": 0.5})
