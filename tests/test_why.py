"""`drp why`: from a sentence, a record, a metric or a file back to what it was made from, in any clone, at any revision."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.projects import Project_
from tests.traced import traced

MERGED = "The total number of apples is 3 * 12 = 36."


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project_:
    return traced(tmp_path_factory.mktemp("why") / "p")


def rows(made: Project_, stage: str, part: str = "") -> list[dict[str, Any]]:
    return list(pq.read_table(made.root / f"data/fruit/{stage}{part}.parquet").to_pylist())


def asked(made: Project_, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made.run("drp", "why", *arguments, "--json"))
    return found


def walk(branch: dict[str, Any]) -> list[dict[str, Any]]:
    return [branch, *(inner for below in branch.get("below", []) for inner in walk(below))]


def of(branch: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [each for each in walk(branch) if each["kind"] == kind]


def stage(branch: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in of(branch, "stage") if each["name"] == f"fruit/{name}")


def test_a_merged_sentence_leads_to_both_its_steps_their_actions_and_what_the_teacher_was_asked(made: Project_) -> None:
    found = asked(made, MERGED)
    (sentence,) = of(found, "sentence")
    pruned = {row["id"]: row for row in rows(made, "pruned")}[sentence["record"]]
    assert pruned["pruned"][sentence["start"] : sentence["end"]].strip() == MERGED
    assert sentence["made"] == "merged"
    steps = [each for each in sentence["below"] if each["kind"] == "step"]
    assert [step["text"].strip() for step in steps] == ["So, 3 * 12 = 36.", "The total number of apples is 36."]
    for step in steps:
        assert pruned["thought"][step["start"] : step["end"]] == step["text"]
        (action,) = [each for each in step["below"] if each["kind"] == "action"]
        assert (action["name"], action["into"]) == ("merge", steps[0]["step"])
        (completion,) = action["below"]
        assert completion["found"]
        assert completion["model"]["name"] == "rules"
        assert step["text"].strip() in completion["messages"][-1][1], "the prompt as it was rendered"
        assert any(a["action"] == "merge" for a in json.loads(completion["reply"])["actions"])
        assert completion["prompts"] == ["prompts/edit.j2"]


def test_a_record_goes_back_to_the_row_of_its_source_through_every_stage(made: Project_) -> None:
    (target,) = [row for row in rows(made, "targets") if row["question"].startswith("Tom has 6 bags") and row["sample"] == 1]
    found = asked(made, target["id"])
    names = [each["name"] for each in found["below"] if each["kind"] == "stage"]
    assert names == [
        f"fruit/{name}" for name in ("targets", "pruned", "edits", "steps", "correct", "traces", "questions", "pears")
    ]
    traces, source = stage(found, "traces"), stage(found, "pears")
    assert (traces["sample"], traces["seed"]) == (1, target["seed"])
    assert (source["source"], source["row"], source["answer"]) == ("questions/pears.jsonl", "0", "78")
    completion = next(each for each in traces["below"] if each["kind"] == "completion")
    assert (completion["model"]["name"], completion["served"]) == ("pupil-7b", "pupil-7b-2024-10-served")
    assert completion["usage"]["prompt_tokens"] == 7
    assert completion["cost"] == pytest.approx((7 * 2 + 3 * 10) / 1e6)
    assert target["thought"] in completion["reply"]


def test_a_record_says_which_optimiser_steps_saw_it_and_how_many_of_its_tokens_reach_the_loss(made: Project_) -> None:
    for entry in rows(made, "adapter"):
        (model,) = [each for each in asked(made, entry["id"])["below"] if each["kind"] == "model"]
        assert model["name"] == "models/fruit/adapter"
        assert {key: model[key] for key in entry if key != "id"} == {key: entry[key] for key in entry if key != "id"}


def test_a_record_that_two_sources_had_names_both(made: Project_) -> None:
    (shared,) = [row["id"] for row in rows(made, "apples") if row["question"].startswith("Tom has 3 bags")]
    found = stage(asked(made, f"{shared}/000"), "questions")
    assert found["parents"] == [f"fruit/apples:{shared}", f"fruit/pears:{shared}"]
    assert {each["name"] for each in of(found, "stage")} >= {"fruit/pears"}


def test_a_stage_tells_commit_values_prompts_packages_and_that_it_is_clean(made: Project_) -> None:
    here = stage(asked(made, MERGED), "edits")["made"]
    assert here["commit"] == made.run("git", "rev-parse", "HEAD").strip()
    assert here["dirty"] is False
    assert here["params"]["recipes/fruit/recipe.yaml:stages.edits.prompt"] == "edit"
    assert here["fingerprint"].startswith("1-")
    assert here["packages"]["python"]
    (prompt,) = [each for each in here["prompts"] if each["path"] == "prompts/edit.j2"]
    assert prompt["commit"] == made.run("git", "log", "-1", "--format=%H", "--", "prompts/edit.j2").strip()


def test_a_prompt_that_was_run_uncommitted_is_not_the_one_of_a_commit(made: Project_, tmp_path: Path) -> None:
    here = Project_(tmp_path / "p")
    shutil.copytree(made.root, here.root)
    committed = stage(asked(here, MERGED), "edits")["made"]["prompts"]
    with (here.root / "prompts/edit.j2").open("a") as file:
        file.write("{# Another wording. #}\n")
    here.run("drp", "compile")
    here.run("dvc", "repro", "-s", "recipes/fruit/dvc.yaml:edits")
    found = stage(asked(here, MERGED), "edits")["made"]
    assert (found["commit"], found["dirty"], found["differs"]) == (None, True, ["prompts/edit.j2"])
    assert [each["dirty"] for each in found["prompts"] if each["path"] == "prompts/edit.j2"] == [True]
    told = here.run("drp", "why", MERGED, "--full")
    assert "prompts/edit.j2 (not as committed)" in told
    assert "not committed; the last commit has another prompts/edit.j2" in told
    assert stage(asked(here, MERGED, "--at", "HEAD"), "edits")["made"]["prompts"] == committed


def test_in_a_shallow_clone_a_commit_that_may_not_be_the_first_is_told_as_such(made: Project_, tmp_path: Path) -> None:
    here = Project_(tmp_path / "p")
    shutil.copytree(made.root, here.root)
    here.write("notes.txt", "other")
    here.commit("notes")
    here.run("git", "clone", "-q", "--depth", "1", f"file://{here.root}", str(tmp_path / "clone"))
    clone = Project_(tmp_path / "clone")
    shutil.copytree(here.root / ".dvc/cache", clone.root / ".dvc/cache")
    clone.run("dvc", "checkout", "-q")
    found, head = stage(asked(clone, MERGED), "edits")["made"], here.run("git", "rev-parse", "HEAD").strip()
    assert (found["commit"], found["shallow"], found["dirty"]) == (head, True, False)
    assert {(each["commit"], each["shallow"]) for each in found["prompts"]} == {(head, True)}
    words = f"commit {head[:10]} or earlier (this clone is shallow)"
    assert f"prompt prompts/_style.j2: {words}" in clone.run("drp", "why", MERGED, "--full")
    assert words in clone.run("drp", "why", "prompts/edit.j2")
    whole = stage(asked(here, MERGED), "edits")["made"]
    assert (whole["shallow"], {each["shallow"] for each in whole["prompts"]}) == (False, {False})


def test_a_piece_of_text_that_was_deleted_says_so_and_why(made: Project_) -> None:
    found = asked(made, "Wait, let me double-check that.")
    (step,) = of(found, "step")
    assert found["column"] == "thought"
    (action,) = [each for each in step["below"] if each["kind"] == "action"]
    assert action["name"] == "delete"
    assert action["reason"]


def test_a_dropped_record_says_by_which_stage_and_why(made: Project_) -> None:
    (dropped,) = rows(made, "correct", ".dropped")
    found = asked(made, dropped["id"])
    assert (found["dropped"], found["stage"], found["reason"]) == (True, "fruit/correct", "wrong-answer")
    assert stage(found, "traces")


def test_a_metric_leads_to_the_answers_that_it_counts_and_the_model_that_gave_them(made: Project_) -> None:
    found = asked(made, "exam.base.accuracy")
    answers = rows(made, "scores")
    counted = stage(found, "scores")
    assert (counted["answers"], counted["correct"]) == (len(answers), sum(row["correct"] for row in answers))
    assert found["value"] == pytest.approx(counted["correct"] / counted["answers"])
    assert next(each["name"] for each in of(found, "model")) == "pupil-7b"
    assert stage(found, "exam")


def test_an_answer_of_an_evaluation_leads_to_its_item_and_its_completion(made: Project_) -> None:
    row = rows(made, "scores")[0]
    found = asked(made, row["id"])
    assert found["verdict"] == row["verdict"]
    assert next(each["key"] for each in found["below"] if each["kind"] == "completion") == row["completion"]
    assert [each["name"] for each in of(found, "record")] == [row["item"]]


def test_an_adapter_and_a_file_lead_to_all_that_they_were_made_from(made: Project_) -> None:
    every = {"adapter", "targets", "pruned", "edits", "steps", "correct", "traces", "questions", "apples", "pears", "exam"}
    for target in ("models/fruit/adapter", "fruit/adapter", "adapter", "data/fruit/adapter.parquet"):
        assert {each["name"] for each in of(asked(made, target), "stage")} == {f"fruit/{name}" for name in every}


def test_a_clone_that_never_paid_answers_the_same_once_the_completions_are_shared(made: Project_, tmp_path: Path) -> None:
    here = Project_(tmp_path / "p")
    shutil.copytree(made.root, here.root)
    before = asked(here, MERGED)
    here.run("drp", "cache", "export", "fruit")
    here.run("dvc", "add", "-q", "recipes/fruit/completions.parquet")
    here.run("dvc", "remote", "add", "-d", "there", str(tmp_path / "remote"))
    here.commit("share")
    here.run("dvc", "push", "-q")
    here.run("git", "clone", "-q", str(here.root), str(tmp_path / "clone"))
    clone = Project_(tmp_path / "clone")
    clone.run("dvc", "pull", "-q")
    assert not (clone.root / ".dvc/cache/drp").exists()
    after = asked(clone, MERGED)
    assert _but_money(after) == _but_money(before)
    assert {each["where"] for each in of(after, "completion")} == {"recipes/fruit/completions.parquet"}
    assert not (clone.root / ".dvc/cache/drp").exists(), "to ask why leaves nothing behind"
    (clone.root / "recipes/fruit/completions.parquet").unlink()
    shutil.rmtree(clone.root / ".dvc/cache")
    told = clone.run("drp", "why", MERGED)
    assert "not here" in told
    assert "drp cache import" in told


def _but_money(found: dict[str, Any]) -> dict[str, Any]:
    """An answer without what only the one who paid knows, and where it was found."""
    text = json.dumps(found)
    for each in of(found, "completion"):
        text = text.replace(json.dumps(each["where"]), '""').replace(f'"cost": {json.dumps(each["cost"])}', '"cost": null')
    plain: dict[str, Any] = json.loads(text)
    return plain


def test_it_answers_for_an_earlier_revision_from_the_cache(made: Project_, tmp_path: Path) -> None:
    here = Project_(tmp_path / "p")
    shutil.copytree(made.root, here.root)
    before = asked(here, MERGED)
    here.edit(
        "recipes/fruit/recipe.yaml", "model: teacher, prompt: edit}", "model: teacher, prompt: edit, actions: [keep, delete]}"
    )
    here.run("drp", "compile")
    for name in ("edits", "pruned", "targets", "adapter"):
        here.run("dvc", "repro", "-s", f"recipes/fruit/dvc.yaml:{name}")
    assert "merged" not in here.run("drp", "why", "So, 3 * 12 = 36.")
    assert _but_uses(asked(here, MERGED, "--at", "HEAD")) == _but_uses(before)
    found = stage(asked(here, "So, 3 * 12 = 36."), "edits")["made"]
    assert (found["commit"], found["dirty"]) == (None, True)
    told = here.run("drp", "why", MERGED, "--at", "nowhere", code=2)
    assert "'nowhere'" in told
    assert "main" in told


def _but_uses(found: Any) -> Any:
    """An answer without the stages whose *last* run a completion answered."""
    if isinstance(found, dict):
        return {key: _but_uses(value) for key, value in found.items() if key != "used_by"}
    return [_but_uses(each) for each in found] if isinstance(found, list) else found


def test_a_target_that_is_nothing_says_what_was_looked_at(made: Project_) -> None:
    assert "no stage 'fruit/targts'" in made.run("drp", "why", "fruit/targts", "--as", "stage", code=1)
    assert "did you mean 'fruit/targets'" in made.run("drp", "why", "fruit/targts", "--as", "stage", code=1)
    told = made.run("drp", "why", "no such words anywhere", code=1)
    assert "fruit/targets" in told
    assert "reports no metric" in made.run("drp", "why", "fruit/table:exam.base.acuracy", code=1)


def test_the_short_answer_fits_a_screen_and_full_has_prompts_and_replies(made: Project_) -> None:
    short, full = made.run("drp", "why", MERGED), made.run("drp", "why", MERGED, "--full")
    assert len(short.splitlines()) < 40
    assert "recipes/fruit/recipe.yaml:stages.edits.prompt" in full
    assert "recipes/fruit/recipe.yaml" not in short
    assert '"passages"' in full
    assert "python 3" in full


def test_a_text_is_told_from_its_sentence_to_the_checkpoints_and_each_completion_once(made: Project_) -> None:
    text = made.run("drp", "why", MERGED, "--full")
    record = asked(made, MERGED)["below"][0]
    kinds = [each["kind"] for each in record["below"]]
    assert kinds == ["sentence", *["stage"] * 8, "model"]
    keys = [each["key"] for each in of(record, "completion")]
    assert len(set(keys)) < len(keys)
    assert text.count('"passages"') == made.run("drp", "why", record["name"], "--full").count('"passages"')
    assert "told above" in text


def test_of_a_text_that_many_records_have_it_is_said_how_many(made: Project_) -> None:
    whole = sum("Tom has" in row["pruned"] for row in rows(made, "targets"))
    assert whole > 2
    found = asked(made, "Tom has", "-n", "2")
    assert (found["records"], found["more"], len(found["below"])) == (whole, True, 2)
    assert f", in {whole} records; `-n` shows more" in made.run("drp", "why", "Tom has", "-n", "2").splitlines()[0]


def test_a_question_lists_its_samples_and_what_became_of_each_and_its_beginning_means_the_same(made: Project_) -> None:
    (lost,) = rows(made, "correct", ".dropped")
    name = lost["id"].partition("/")[0]
    found = asked(made, name)
    samples = {each["id"]: each for each in found["below"] if each["kind"] == "sample"}
    assert set(samples) == {row["id"] for row in rows(made, "traces") if row["id"].startswith(name)}
    assert (samples[lost["id"]]["dropped"]["stage"], samples[lost["id"]]["dropped"]["reason"]) == (
        "fruit/correct",
        lost["reason"],
    )
    kept = [each for each in samples.values() if each["dropped"] is None]
    assert [(each["last"], each["trained_on_by"]) for each in kept] == [("fruit/targets", ["models/fruit/adapter"])] * len(kept)
    assert kept
    assert asked(made, name[:8]) == found
    assert (
        asked(made, f"{name}/00")["name"] if len(samples) == 1 else "several ids" in made.run("drp", "why", f"{name}/00", code=1)
    )
    assert asked(made, lost["id"])["dropped"] is True


def test_a_role_of_a_recipe_means_the_model_that_it_is_bound_to(made: Project_) -> None:
    assert asked(made, "teacher") == asked(made, "rules")
    assert made.run("drp", "why", "teacher").startswith("model of params.yaml rules: ")


def test_a_name_that_is_near_to_a_targets_is_asked_for(made: Project_) -> None:
    for typo, meant in (("fruit/target", "fruit/targets"), ("models/fruit/adaptor", "models/fruit/adapter"),
                        ("prompts/edti.j2", "prompts/edit.j2"), ("exam.base.acuracy", "exam.base.accuracy")):  # fmt: skip
        assert f"did you mean '{meant}'?" in made.run("drp", "why", typo, code=1)
