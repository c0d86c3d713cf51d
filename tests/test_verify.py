"""verify: which records go on, and why the others do not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drp.errors import DataError
from drp.op import Dropped, Kept, Outcome, Record
from drp.ops.verify import check, verify
from tests.fakes import FakeWork


def sample(key: str, reply: str | None, **columns: Any) -> Record:
    return {"id": key, "answer": "4", "reply": reply, "finish": "stop", "tokens": 10, **columns}


def run(folder: Path, records: list[Record], **options: Any) -> list[Outcome]:
    return list(verify(records, FakeWork(folder), timeout=20.0, **{"verifier": "exact", **options}))


def shown(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [(o.record["id"], o.reason if isinstance(o, Dropped) else "kept") for o in outcomes]


RECORDS = [
    sample("a/000", "The answer is 4."),
    sample("b/000", "\\boxed{5}"),
    sample("c/000", "I\ndo not know"),
    sample("d/000", None, finish="length"),
    sample("e/000", None),
]


def test_correct_records_go_on_and_every_other_one_is_dropped_with_its_reason(tmp_path: Path) -> None:
    outcomes = run(tmp_path, RECORDS, verifier="math")
    assert shown(outcomes) == [
        ("a/000", "kept"), ("b/000", "wrong-answer"), ("c/000", "no-answer"), ("d/000", "truncated"), ("e/000", "no-answer"),
    ]  # fmt: skip
    assert isinstance(outcomes[1], Dropped)
    assert outcomes[1].detail == "answered '5', gold '4'"


def test_with_keep_all_verdicts_are_data(tmp_path: Path) -> None:
    outcomes = run(tmp_path, RECORDS, keep="all")
    assert all(isinstance(o, Kept) for o in outcomes)
    assert [(o.record["prediction"], o.record["correct"], o.record["verdict"]) for o in outcomes] == [
        ("4", True, "right"), ("5", False, "wrong"), (None, False, "no-answer"), (None, False, "truncated"),
        (None, False, "no-answer"),
    ]  # fmt: skip


def test_a_pruned_reply_is_judged_instead_of_the_students_own(tmp_path: Path) -> None:
    records = [sample("a/000", "\\boxed{4}", target_reply="\\boxed{5}"), sample("b/000", None, finish="length", target_reply="4")]
    assert shown(run(tmp_path, records)) == [("a/000", "wrong-answer"), ("b/000", "kept")]


def test_of_each_questions_correct_samples_the_shortest_stays(tmp_path: Path) -> None:
    records = [
        sample("a/000", "4", tokens=30), sample("a/001", "5", tokens=1), sample("a/002", "4", tokens=20),
        sample("a/003", "4", tokens=20), sample("b/000", "5", tokens=1), sample("c/000", "4", tokens=99),
    ]  # fmt: skip
    outcomes = run(tmp_path, records, keep="shortest-correct")
    assert shown(outcomes) == [
        ("a/000", "longer-than-shortest"), ("a/001", "wrong-answer"), ("a/002", "kept"), ("a/003", "longer-than-shortest"),
        ("b/000", "wrong-answer"), ("c/000", "kept"),
    ]  # fmt: skip
    assert isinstance(outcomes[0], Dropped)
    assert outcomes[0].detail == "a/002 is correct in 20 tokens"


def test_the_set_is_never_held_in_memory(tmp_path: Path) -> None:
    read = 0

    def endless() -> Iterator[Record]:
        nonlocal read
        while True:
            read += 1
            yield sample(f"{read:08d}/000", "4")

    stream = verify(endless(), FakeWork(tmp_path), keep="shortest-correct", verifier="exact")
    assert sum(isinstance(next(stream), Kept) for _ in range(500)) == 500
    assert read < 2500
    stream.close()  # type: ignore[attr-defined]


def test_a_record_without_a_reply_column_or_token_count_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'reply': verify comes after generate"):
        run(tmp_path, [{"id": "a", "answer": "4"}])
    with pytest.raises(DataError, match="no `tokens`"):
        run(tmp_path, [sample("a", "4", tokens=None)], keep="shortest-correct")


def test_a_verifier_or_time_out_that_cannot_be_is_refused_at_the_door() -> None:
    assert [key for key, _ in check({"verifier": "mth", "timeout": 0.0})] == ["verifier", "timeout"]
    assert list(check({"verifier": "my_module.code:judge", "timeout": 1})) == []
