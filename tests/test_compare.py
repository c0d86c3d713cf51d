"""Comparing: the numbers against closed forms and a recount by hand, and what must not be compared."""

import random
import time
from pathlib import Path
from typing import Any

import pytest

from drp.errors import DataError
from drp.op import Inputs, Report
from drp.ops.compare import compare
from drp.records import Record
from drp.statistics import difference, estimate, ratio
from tests.fakes import FakeWork


def row(model: str, item: str, run: int = 0, **values: Any) -> Record:
    given = {"correct": True, "tokens": 100, "thought_tokens": 80, "truncated": False, "looped": False, "counted": True, **values}
    return {
        "id": f"test/{model}/{item}/{run:03d}", "suite": "test", "model": model, "item": item, "run": run,
        "question": f"what is {item}?", "cutoff": 500, "cutoff_mode": "fail", **given,
    }  # fmt: skip


def report(tmp_path: Path, inputs: Inputs, **options: Any) -> Report:
    return compare(inputs, FakeWork(tmp_path), **options)


def noisy(model: str, chance: float, tokens: int, items: int = 300, runs: int = 2) -> list[Record]:
    rng = random.Random(f"{model}{chance}")
    return [
        row(model, f"i{i:04d}", run, correct=rng.random() < chance, tokens=int(rng.gauss(tokens, 10)), thought_tokens=None)
        for i in range(items)
        for run in range(runs)
    ]


def test_the_standard_error_of_a_share_is_the_binomial_one() -> None:
    found = estimate([1.0] * 75 + [0.0] * 25)
    assert found is not None
    assert found.mean == 0.75
    assert found.se == pytest.approx((0.75 * 0.25 / 99) ** 0.5)


def test_one_item_has_no_standard_error_and_none_has_no_mean() -> None:
    only = estimate([0.5])
    assert only is not None
    assert (only.mean, only.se) == (0.5, None)
    assert estimate([]) is None


def test_a_paired_interval_is_narrower_than_chance_alone_and_matches_the_normal_one() -> None:
    rng = random.Random(1)
    base = [rng.gauss(100, 30) for _ in range(400)]
    ours = [x - 10 + rng.gauss(0, 5) for x in base]
    found = difference(ours, base, samples=4000, seed=0)
    assert found.se is not None
    assert found.se == pytest.approx(5 / 400**0.5, rel=0.15)
    assert found.value == pytest.approx(-10, abs=1)
    assert found.low == pytest.approx(found.value - 1.96 * found.se, abs=0.05)
    assert found.high == pytest.approx(found.value + 1.96 * found.se, abs=0.05)


def test_an_interval_is_what_a_plain_bootstrap_gives() -> None:
    rng = random.Random(2)
    ours = [float(rng.random() < 0.6) for _ in range(60)]
    theirs = [float(rng.random() < 0.5) + 1 for _ in range(60)]
    found = ratio(ours, theirs, samples=20000, seed=0)
    ratios = []
    for _ in range(20000):
        chosen = rng.choices(range(60), k=60)
        ratios.append(sum(ours[i] for i in chosen) / sum(theirs[i] for i in chosen))
    ratios.sort()
    assert found.value == sum(ours) / sum(theirs)
    assert found.low == pytest.approx(ratios[500], abs=0.01)
    assert found.high == pytest.approx(ratios[19500], abs=0.01)


def test_memory_bounds_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from drp import statistics

    ours, theirs = [float(i % 3) for i in range(50)], [float(i % 2) for i in range(50)]
    whole = difference(ours, theirs, samples=500, seed=4)
    monkeypatch.setattr(statistics, "CELLS", 1000)
    assert difference(ours, theirs, samples=500, seed=4) == whole


def test_two_thousand_resamples_of_1300_items_take_less_than_two_seconds() -> None:
    rng = random.Random(3)
    ours, theirs = ([rng.random() + 1 for _ in range(1300)] for _ in range(2))
    began = time.perf_counter()
    difference(ours, theirs, samples=2000, seed=0)
    ratio(ours, theirs, samples=2000, seed=0)
    assert time.perf_counter() - began < 2


def test_pass_at_1_is_the_mean_over_runs_and_then_over_items(tmp_path: Path) -> None:
    rows = [row("base", "a", 0), row("base", "a", 1, correct=False), row("base", "b", 0), row("base", "c", 0, correct=False)]
    found = report(tmp_path, {"scores": rows}).metrics["test"]["base"]
    assert found["accuracy"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert found["accuracy_se"] == pytest.approx((0.25 / 3) ** 0.5)
    assert (found["items"], found["runs"], found["answers"]) == (3, 2, 4)


def test_a_recount_by_hand_gives_every_number(tmp_path: Path) -> None:
    endless = {"correct": False, "tokens": 500, "thought_tokens": 500, "truncated": True, "looped": True}
    base = [row("base", "a", tokens=100), row("base", "b", **endless)]
    ours = [row("drp", "a", tokens=40, thought_tokens=30), row("drp", "b", tokens=60, thought_tokens=50)]
    metrics = report(tmp_path, {"scores": [*base, *ours]}).metrics["test"]
    assert metrics["base"]["tokens"] == 300
    assert metrics["base"]["tokens_correct"] == 100
    assert metrics["base"]["thought_tokens"] == 290
    assert metrics["base"]["truncated"] == 0.5
    assert metrics["base"]["looped"] == 0.5
    assert "vs_base" not in metrics["base"]
    versus = metrics["drp"]["vs_base"]
    assert versus["accuracy_difference"] == 0.5
    assert versus["accuracy_difference_se"] == 0.5
    assert (versus["accuracy_difference_low"], versus["accuracy_difference_high"]) == (0.0, 1.0)
    assert versus["token_ratio"] == pytest.approx(100 / 600)
    assert versus["token_ratio_low"] == pytest.approx(60 / 500)
    assert versus["token_ratio_high"] == pytest.approx(40 / 100)


def test_the_same_rows_give_the_same_report_and_another_seed_other_intervals(tmp_path: Path) -> None:
    inputs = {"scores": [*noisy("base", 0.8, 200), *noisy("drp", 0.8, 100)]}
    assert report(tmp_path, inputs) == report(tmp_path, inputs)
    one, two = (report(tmp_path, inputs, seed=s).metrics["test"]["drp"]["vs_base"] for s in (0, 1))
    assert one["token_ratio"] == two["token_ratio"]
    assert one["token_ratio_low"] != two["token_ratio_low"]


def test_the_table_has_the_base_first_and_a_line_for_each_suite_and_model(tmp_path: Path) -> None:
    inputs = {"scores": [*noisy("drp", 0.8, 100), *noisy("aaa", 0.8, 100), *noisy("base", 0.8, 200)]}
    made = report(tmp_path, inputs)
    lines = made.table.splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:]] == ["base", "aaa", "drp"]
    assert len({line.count("|") for line in lines}) == 1
    assert "300 × 2" in lines[2]
    assert [(r["suite"], r["model"]) for r in made.rows] == [("test", "base"), ("test", "aaa"), ("test", "drp")]
    assert made.rows[1]["vs_base_token_ratio"] == pytest.approx(0.5, abs=0.02)


def test_several_stages_are_told_apart_by_their_names(tmp_path: Path) -> None:
    inputs = {"one": [*noisy("base", 0.8, 200, 20), *noisy("drp", 0.8, 90, 20)], "two": noisy("drp", 0.8, 80, 20)}
    metrics = report(tmp_path, inputs).metrics["test"]
    assert list(metrics) == ["one:base", "one:drp", "two:drp"]
    assert metrics["two:drp"]["vs_base"]["items"] == 20


def test_only_items_that_both_models_have_are_paired(tmp_path: Path) -> None:
    rows = [row("base", "a", tokens=100), row("base", "b", tokens=100), row("drp", "b", tokens=10), row("drp", "c", tokens=900)]
    versus = report(tmp_path, {"scores": rows}).metrics["test"]["drp"]["vs_base"]
    assert versus["items"] == 1
    assert versus["token_ratio"] == pytest.approx(0.1)


def test_rows_that_do_not_count_enter_no_score_but_the_shares(tmp_path: Path) -> None:
    rows = [row("base", "a"), row("base", "b", correct=False, tokens=500, truncated=True, counted=False)]
    made = report(tmp_path, {"scores": rows})
    found = made.metrics["test"]["base"]
    assert (found["accuracy"], found["tokens"], found["truncated"], found["excluded"]) == (1.0, 100.0, 0.5, 1)
    assert "(1 excluded)" in made.table


@pytest.mark.parametrize("changed", [{"cutoff": 600}, {"cutoff_mode": "clip"}])
def test_tokens_under_different_cutoffs_are_never_put_side_by_side(tmp_path: Path, changed: dict[str, Any]) -> None:
    rows = [row("base", "a"), {**row("drp", "a"), **changed}]
    with pytest.raises(DataError, match="tokens under different cutoffs cannot be compared"):
        report(tmp_path, {"scores": rows})


def test_suites_may_have_cutoffs_of_their_own(tmp_path: Path) -> None:
    rows = [row("base", "a"), {**row("base", "a"), "suite": "other", "cutoff": 900}]
    assert set(report(tmp_path, {"scores": rows}).metrics) == {"test", "other"}


def test_items_of_one_id_with_different_questions_are_not_paired(tmp_path: Path) -> None:
    rows = [row("base", "a"), {**row("drp", "a"), "question": "another"}]
    with pytest.raises(DataError, match="'a' of suite 'test' has another question"):
        report(tmp_path, {"scores": rows})


def test_a_base_that_is_not_there_is_named_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"base: 'bse' is not a model of suite 'test' \(base, drp\); did you mean 'base'"):
        report(tmp_path, {"scores": [row("base", "a"), row("drp", "a")]}, base="bse")


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to compare: no row in scores"):
        report(tmp_path, {"scores": []})


def test_unknown_thought_tokens_stay_unknown(tmp_path: Path) -> None:
    made = report(tmp_path, {"scores": [row("base", "a", thought_tokens=None)]})
    assert made.metrics["test"]["base"]["thought_tokens"] is None
