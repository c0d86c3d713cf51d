"""The miniature, cut down to a few questions: plain `dvc repro`, its table, its plots, its artifacts, its lineage."""

import json
import re
import shutil
from pathlib import Path

import pytest

from drp.records import count, read
from tests.projects import Project_, begin

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Project_:
    """A copy of the miniature with 24 training questions and 16 exam questions, reproduced by `dvc repro`."""
    made = Project_(tmp_path_factory.mktemp("mini") / "p")
    made.root.mkdir()
    for name in ("params.yaml", "dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, made.root / name)
    for name in ("prompts", "models/mini-student", "recipes/mini", "recipes/mini-exams"):
        shutil.copytree(ROOT / name, made.root / name, ignore=shutil.ignore_patterns("dvc.*", "reports", "resolved.yaml"))
    recipe = made.root / "recipes/mini/recipe.yaml"
    recipe.write_text(re.sub(r"size: \d+", "size: 12", recipe.read_text()))
    exams = made.root / "recipes/mini-exams/recipe.yaml"
    exams.write_text(re.sub(r"size: \d+", "size: 4", exams.read_text()))
    begin(made)
    made.run("drp", "compile")
    made.commit("begin")
    made.run("dvc", "repro")
    made.commit("reproduced")
    return made


def test_plain_repro_builds_the_table_and_a_second_one_runs_nothing(mini: Project_) -> None:
    table = mini.run("drp", "show", "mini", "table")
    assert [row.split("|")[2].strip() for row in table.splitlines()[2:]] == ["base", "drp"] * 2
    assert "Running stage" not in mini.run("dvc", "repro")
    assert mini.run("dvc", "dag", "--dot").count("->") > 15


def test_every_stage_counts_what_it_read_kept_and_dropped(mini: Project_) -> None:
    counts = json.loads((mini.root / "recipes/mini/reports/counts.json").read_text())
    assert counts["correct"]["read"] == counts["traces"]["kept"] == count(mini.root / "data/mini/traces.parquet")
    for stage in ("correct", "steps", "edits", "pruned", "targets", "adapter"):
        found = counts[stage]
        assert found["read"] == found["kept"] + sum(found["dropped"].values()), stage
        assert found["kept"] == count(mini.root / f"data/mini/{stage}.parquet")
        assert sum(found["dropped"].values()) == count(mini.root / f"data/mini/{stage}.dropped.parquet")


def test_every_target_is_a_closed_thought_made_of_cited_steps(mini: Project_) -> None:
    records = list(read(mini.root / "data/mini/targets.parquet"))
    assert records
    for record in records:
        assert "".join(record["thought"][s["start"] : s["end"]] for s in record["steps"]) == record["thought"]
        assert [a["step"] for a in record["actions"]] == list(range(len(record["steps"])))
        assert record["target"] == f"<think>\n{record['pruned']}\n</think>\n\n{record['target_reply']}"
        assert record["correct"]


def test_no_exam_question_is_trained_on(mini: Project_) -> None:
    trained = {r["question"] for r in read(mini.root / "data/mini/targets.parquet")}
    exams = {
        r["question"]
        for s in ("in-distribution", "out-of-distribution")
        for r in read(mini.root / f"data/mini-exams/{s}.parquet")
    }
    assert len(exams) == 16
    assert not trained & exams


def test_data_sets_load_with_the_hubs_library(mini: Project_, tmp_path: Path) -> None:
    import datasets

    rows = datasets.load_dataset(
        "parquet", data_files=str(mini.root / "data/mini/targets.parquet"), split="train", cache_dir=str(tmp_path)
    )
    assert rows.num_rows == count(mini.root / "data/mini/targets.parquet")


def test_plots_and_artifacts_work_as_dvc_users_expect(mini: Project_) -> None:
    plots = json.loads(mini.run("dvc", "plots", "show", "--json"))
    assert {"tokens", "accuracy"} <= {name.split("::")[-1] for name in plots["data"]} | set(plots["data"])
    mini.run("gto", "register", "mini-targets", "--version", "v1.0.0")
    mini.run("dvc", "artifacts", "get", ".", "mini-targets", "-o", "taken.parquet")
    assert (mini.root / "taken.parquet").read_bytes() == (mini.root / "data/mini/targets.parquet").read_bytes()
    assert "adapter" in mini.run("dvc", "metrics", "show", "recipes/mini/reports/counts.json")
