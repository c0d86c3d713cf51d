"""Narrating: questions with traces, in order, each from its own seed."""

from pathlib import Path

import pytest

from drp.ops.narrate import check, narrate
from drp.records import Dropped, Kept, Record
from tests.fakes import FakeWork

SUM = "State the final answer to the following arithmetic problem: 12 + 7 - 5 ="


def sums(count: int) -> list[Record]:
    return [{"id": f"q{i}", "question": SUM, "family": "chain_sum", "answer": "14"} for i in range(count)]


def test_each_question_is_told_as_often_as_asked_and_the_same_way_again(tmp_path: Path) -> None:
    told = list(narrate(sums(3), FakeWork(tmp_path), samples=2))
    assert [o.record["id"] for o in told] == ["q0/000", "q0/001", "q1/000", "q1/001", "q2/000", "q2/001"]
    assert len({o.record["thought"] for o in told}) == 6
    assert told == list(narrate(sums(3), FakeWork(tmp_path), samples=2))
    assert told[:2] == list(narrate(sums(1), FakeWork(tmp_path), samples=2))
    assert told != list(narrate(sums(3), FakeWork(tmp_path), samples=2, seed=1))


def test_a_finished_trace_has_a_reply_and_a_target_and_an_endless_one_neither(tmp_path: Path) -> None:
    told = [o.record for o in narrate(sums(1), FakeWork(tmp_path), samples=200)]
    assert {row["finished"] for row in told} == {True, False}
    for row in told:
        if row["finished"]:
            assert row["target"] == f"<think>\n{row['thought']}\n</think>\n\n{row['reply']}"
            assert "\\boxed{14}" in row["reply"]
        else:
            assert (row["reply"], row["target"]) == (None, None)


def test_a_question_that_cannot_be_narrated_is_dropped(tmp_path: Path) -> None:
    (outcome,) = narrate([{"id": "q", "question": "Why?", "family": "chain_sum"}], FakeWork(tmp_path))
    assert isinstance(outcome, Dropped)
    assert (outcome.record["id"], outcome.reason) == ("q/000", "no-narration")
    assert all(isinstance(o, Kept) for o in narrate(sums(1), FakeWork(tmp_path)))


@pytest.mark.parametrize("samples", [0, 1001])
def test_samples_that_would_not_sort_are_refused(samples: int) -> None:
    assert [key for key, _ in check({"samples": samples})] == ["samples"]
