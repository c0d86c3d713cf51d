"""drp diff: two states of a project record by record, recounted from the Parquet files with plain Python."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from drp.comparing.contrast import contrast
from drp.pipeline.yamlfile import dump, mapping
from tests.projects import Project_
from tests.taught import answered, data, patterned, reproduced, rows, write_rows

STAGES = ("questions", "traces", "correct", "steps", "edits", "pruned", "targets")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project_:
    """Two states: HEAD~1; and HEAD, with an edit prompt reworded, no action but keep, a row withdrawn, one answered wrong, one told
    otherwise, and three new ones. What the first one's data were lies in `before`."""
    made = reproduced(tmp_path_factory, "diff")
    shutil.copytree(made.root / "data", made.root.parent / "before/data")
    before = rows(12)
    wrong, told = before[1], before[2]
    wrong["s"] = wrong["s"].rpartition("\n\n")[0] + "\n\n\\boxed{-1}"
    told["s"] = f"Well, here we go. {told['s']}"
    write_rows(made, [row for k, row in enumerate(before) if k != 3] + rows(3, first=20))
    made.edit("recipes/one/recipe.yaml", "actions: [keep, delete, rewrite, merge]", "actions: [keep]")
    made.edit("prompts/edit.j2", "You prune a student's chain of thought", "You shorten a student's chain of thought")
    made.repro()
    made.commit("second")
    return made


def diff(made: Project_, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = answered(made, "diff", *arguments)
    return found


def old(made: Project_, stage: str, part: str = "") -> dict[str, dict[str, Any]]:
    return data(made.root.parent / "before", stage, part)


def question(made: Project_, number: int) -> str:
    """The id of a question of the first state, by its row."""
    return next(name for name, record in old(made, "questions").items() if record["row"] == str(number))


def first_difference(made: Project_, name: str) -> str:
    """The first stage of the chain where a record differs."""
    for stage in STAGES:
        here = name if "/" in next(iter(data(made.root, stage))) else name.partition("/")[0]
        was, now = old(made, stage)[here], data(made.root, stage)[here]
        if {k: v for k, v in was.items() if k != "row"} != {k: v for k, v in now.items() if k != "row"} or was["row"] != now[
            "row"
        ]:
            return stage
    raise AssertionError(name)


def test_records_are_counted_as_a_recount_counts_them(made: Project_) -> None:
    [found] = diff(made, "HEAD~1", "HEAD")["datasets"]
    was, now = old(made, "targets"), data(made.root, "targets")
    changed = {name for name in was.keys() & now.keys() if was[name] != now[name]}
    assert found["counts"] == {
        "old": len(was), "new": len(now), "same": len(was.keys() & now.keys()) - len(changed), "changed": len(changed),
        "gone": len(was.keys() - now.keys()), "added": len(now.keys() - was.keys()),
    }  # fmt: skip
    assert changed
    told = {fate: {r["id"] for r in found["records"] if r["state"] == fate} for fate in ("changed", "gone", "added")}
    assert told == {"changed": changed, "gone": was.keys() - now.keys(), "added": now.keys() - was.keys()}
    for column in ("thought", "pruned", "target"):
        assert found["characters"][column] == {
            "old": sum(len(r[column]) for r in was.values()), "new": sum(len(r[column]) for r in now.values())
        }  # fmt: skip


def test_a_changed_record_names_the_first_stage_where_it_differs(made: Project_) -> None:
    [found] = diff(made, "HEAD~1", "HEAD")["datasets"]
    changed = [r for r in found["records"] if r["state"] == "changed"]
    assert {r["id"]: r["stage"] for r in changed} == {r["id"]: first_difference(made, r["id"]) for r in changed}
    counts = Counter(r["stage"] for r in changed)
    assert {row["stage"]: row["records"] for row in found["changed"]} == counts
    assert counts.keys() >= {"questions"}


def test_changed_actions_are_counted_by_skill_as_a_recount_counts_them(made: Project_) -> None:
    [found] = diff(made, "HEAD~1", "HEAD", "--stage", "edits")["datasets"]
    was, now = old(made, "edits"), data(made.root, "edits")
    expected: Counter[tuple[str, str, str]] = Counter()
    for name in was.keys() & now.keys():
        if was[name]["thought"] == now[name]["thought"]:
            assert was[name]["steps"] == now[name]["steps"]
            for step, before, after in zip(was[name]["steps"], was[name]["actions"], now[name]["actions"], strict=True):
                if before["action"] != after["action"]:
                    expected[before["action"], after["action"], step["skill"]] += 1
    assert expected
    rows = {(r["old"], r["new"], r["skill"]): r["steps"] for r in found["actions"] if r["what"] == "action"}
    assert rows == expected
    each = Counter(
        (a["old"]["action"], a["new"]["action"], a["skill"])
        for r in found["records"] if r["state"] == "changed" for a in r["actions"] if a["what"] == "action"
    )  # fmt: skip
    assert each == expected


def test_a_record_that_is_gone_says_where_it_went_and_an_added_one_where_it_was_lost_before(made: Project_) -> None:
    [found] = diff(made, "HEAD~1", "HEAD")["datasets"]
    fates = {r["id"]: (r["state"], r["stage"], r["reason"]) for r in found["records"] if r["state"] != "changed"}
    assert fates[f"{question(made, 3)}/000"] == ("gone", "questions", "not-loaded")
    assert fates[f"{question(made, 1)}/000"] == ("gone", "correct", "wrong-answer")
    assert Counter(fates.values())["added", "questions", "not-loaded"] == 3
    name = f"{question(made, 1)}/000"
    [back] = [r for r in diff(made, "HEAD", "HEAD~1")["datasets"][0]["records"] if r["id"] == name]
    detail = data(made.root, "correct", ".dropped")[name]["detail"]
    assert back == {"id": name, "state": "added", "stage": "correct", "reason": "wrong-answer", "detail": detail}
    assert found["gone"] == [
        {"stage": "questions", "reason": "not-loaded", "records": 1}, {"stage": "correct", "reason": "wrong-answer", "records": 1}
    ]  # fmt: skip


def test_what_made_it_so_is_named_and_metrics_stand_beside(made: Project_) -> None:
    found = diff(made, "HEAD~1", "HEAD")
    causes = {c["stage"]: c["reasons"] for c in found["causes"]}
    assert causes.keys() == {"questions", "edits"}
    assert [(r["kind"], r["path"]) for r in causes["questions"]] == [("input", "sums.jsonl")]
    params = [(r["key"], r["old"], r["new"]) for r in causes["edits"] if r["kind"] == "param"]
    assert params == [("stages.edits.actions", ["keep", "delete", "rewrite", "merge"], ["keep"])]
    [prompt] = [r for r in causes["edits"] if r["kind"] == "prompt"]
    assert {"-You prune", "+You short"} == {line[:10] for line in prompt["lines"] if line[0] in "+-"}
    sizes = [len(old(made, "targets")), len(data(made.root, "targets"))]
    assert found["metrics"] == [
        {"stage": "table", "metric": "count.targets", "old": sizes[0], "new": sizes[1], "difference": sizes[1] - sizes[0]}
    ]


def test_a_person_sees_counts_first_then_causes_metrics_and_some_records(made: Project_) -> None:
    text = made.run("drp", "diff", "HEAD~1", "HEAD", "-n", "1")
    assert "\nchanged " in text
    assert ": stage " in text.split("\nchanged ")[1].splitlines()[0]
    places = [text.index(words) for words in ("records: ", "gone at", "made otherwise", "metrics", "\nchanged ", "\ngone ")]
    assert places == sorted(places)
    assert "-You prune a student's" in text
    assert text.count("\nchanged ") == 1
    assert "\x1b" not in text, "no terminal, no colours"
    name = f"{question(made, 2)}/000"
    one = made.run("drp", "diff", "HEAD~1", "HEAD", "--record", name)
    assert one.count("\nchanged ") == 1
    assert "+ Well, here we go." in one
    whole = made.run("drp", "diff", "HEAD~1", "HEAD", "--record", name.partition("/")[0])
    assert made.run("drp", "diff", "HEAD~1", "HEAD", "--record", name[:9]) == whole, "the beginning of an id is enough"
    assert f"no record {name[:3]!r}" in made.run("drp", "diff", "HEAD~1", "HEAD", "--record", name[:3], code=1), "not too little"
    assert "no record 'nothing'" in made.run("drp", "diff", "HEAD~1", "HEAD", "--record", "nothing", code=1)


def test_equal_states_say_so_though_their_data_are_nowhere(made: Project_, tmp_path: Path) -> None:
    assert "nothing differs between HEAD and the workspace: one/targets" in made.run("drp", "diff")
    shutil.move(made.root / ".dvc/cache/files", tmp_path / "files")
    shutil.move(made.root / "data", tmp_path / "data")
    try:
        assert diff(made, "HEAD", "HEAD")["datasets"] == [
            {"old": "one/targets", "new": "one/targets", "same": True, "records": []}
        ]
        assert "`git checkout HEAD" in made.run("drp", "diff", "HEAD~1", "HEAD", code=1), "no remote could bring them"
        made.run("dvc", "remote", "add", "--local", "-d", "there", str(tmp_path / "remote"))
        assert "dvc fetch --all-commits" in made.run("drp", "diff", "HEAD~1", "HEAD", code=1)
        made.run("dvc", "remote", "remove", "--local", "there")
    finally:
        shutil.move(tmp_path / "files", made.root / ".dvc/cache/files")
        shutil.move(tmp_path / "data", made.root / "data")


def test_a_name_that_is_nothing_is_refused_with_the_choices(made: Project_) -> None:
    known = "is no revision, experiment, or recipe or stage that has run (HEAD, main, one); did you mean "
    assert f"'mian' {known}'main'?" in made.run("drp", "diff", "mian", code=2)
    assert f"'HAED' {known}'HEAD'?" in made.run("drp", "diff", "HAED", code=2)
    assert f"one is a recipe or stage, not a revision, and 'onne' {known}'one'?" in made.run("drp", "diff", "one", "onne", code=2)
    assert f"'onne' {known}'one'?" in made.run("drp", "diff", "HEAD", "onne", code=2)
    assert "did you mean 'one/edits'?" in made.run("drp", "diff", "one/edit", "one/steps", code=1)
    assert "did you mean 'steps'?" in made.run("drp", "diff", "HEAD~1", "--stage", "stepz", code=1)
    assert "one is a recipe or stage, not a revision" in made.run("drp", "diff", "one", code=2)
    assert "'two' is no recipe that both have run (one)" in made.run("drp", "diff", "HEAD", "--recipe", "two", code=1)


def test_a_data_file_changed_by_hand_is_compared_as_it_lies_here(made: Project_, tmp_path: Path) -> None:
    path = made.root / "data/one/targets.parquet"
    shutil.copy(path, tmp_path / "whole")
    whole, named = data(made.root, "targets"), {"path": "data/one/targets.parquet", "fate": "changed by hand"}
    try:
        pq.write_table(pq.read_table(path).slice(0, 3), path)
        found = diff(made)
        [dataset] = found["datasets"]
        assert found["files"] == [named]
        lost = whole.keys() - data(made.root, "targets").keys()
        assert len(lost) == len(whole) - 3 > 0
        assert {r["id"]: (r["state"], r["reason"]) for r in dataset["records"]} == dict.fromkeys(lost, ("gone", "by-hand"))
        text = made.run("drp", "diff", "-n", "0")
        assert text.startswith("data/one/targets.parquet is not what its lock names (`dvc status`)")
        assert "nothing differs" not in text
        assert diff(made, "HEAD", "HEAD")["datasets"][0]["same"]
        path.write_text("junk")
        assert "data/one/targets.parquet: cannot be read as Parquet" in made.run("drp", "diff", code=1)
        shutil.move(made.root / ".dvc/cache", tmp_path / "cache")
        assert "DVC's cache has it not as HEAD has it" in made.run("drp", "diff", code=1)
        path.unlink()
        assert diff(made)["files"] == [{**named, "fate": "missing"}]
        assert "neither here nor in DVC's cache" in made.run("drp", "diff", "--record", min(whole), code=1)
        text = made.run("drp", "diff")
        assert text == "nothing differs between HEAD and the workspace: one/targets, by their locks (it is not here)\n"
    finally:
        shutil.copy(tmp_path / "whole", path)
        if (tmp_path / "cache").exists():
            shutil.move(tmp_path / "cache", made.root / ".dvc/cache")
    assert diff(made)["files"] == []


def test_a_report_changed_by_hand_differs_in_its_metrics(made: Project_) -> None:
    path = made.root / "recipes/one/reports/table.json"
    text, size = path.read_text(), len(data(made.root, "targets"))
    try:
        path.write_text(text.replace(f": {size}", ": 99"))
        found = diff(made)
        assert found["files"] == [{"path": "recipes/one/reports/table.json", "fate": "changed by hand"}]
        [metric] = found["metrics"]
        assert (metric["old"], metric["new"]) == (size, 99)
        assert "nothing differs" not in made.run("drp", "diff")
    finally:
        path.write_text(text)


def test_columns_are_told_with_the_stage_that_changed_them(made: Project_) -> None:
    changed = next(r for r in diff(made, "HEAD~1", "HEAD")["datasets"][0]["records"] if r["stage"] == "edits")
    text = made.run("drp", "diff", "HEAD~1", "HEAD", "--record", changed["id"])
    assert f"changed {changed['id']}: stage edits changed column actions; stage pruned changed columns pruned, " in text


def test_metrics_that_are_the_same_are_told_where_all_is_asked_for(made: Project_) -> None:
    assert diff(made, "HEAD", "HEAD")["metrics"] == []
    [metric] = diff(made, "HEAD", "HEAD", "--full")["metrics"]
    assert metric["difference"] == 0


def test_what_was_edited_and_has_not_run_is_told_and_after_a_part_of_it_ran_what_is_still_old(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = reproduced(tmp_path_factory, "edited")
    assert made.run("drp", "diff").startswith("nothing differs between HEAD and the workspace: one/targets")
    assert diff(made)["unrun"] == {"edited": [], "out of date": [], "never run": [], "unread": ""}
    made.edit("prompts/edit.j2", "You prune a student's chain of thought", "You shorten a student's chain of thought")
    made.edit("recipes/one/recipe.yaml", "actions: [keep, delete, rewrite, merge]", "actions: [keep]")
    text = made.run("drp", "diff")
    assert text.startswith("no outcome differs between HEAD and the workspace: one/targets")
    edited = "edited, not yet run: recipes/one/recipe.yaml: stages.edits.actions → edits, prompts/edit.j2 → edits"
    assert text.splitlines()[-1] == f"{edited}; out of date: pruned, targets, table (`drp plan one`)"
    assert "not yet run" not in made.run("drp", "diff", "HEAD", "HEAD"), "the workspace is no side"
    made.run("drp", "compile")
    made.run("dvc", "repro", "-q", "-s", "recipes/one/dvc.yaml:edits")
    found = diff(made)["unrun"]
    assert (found["edited"], found["out of date"]) == ([], ["one/pruned", "one/targets", "one/table"])
    assert made.run("drp", "diff").splitlines()[-1] == "out of date: pruned, targets, table (`drp plan one`)"


def test_a_project_may_lie_in_a_folder_with_characters_of_patterns(made: Project_, tmp_path: Path) -> None:
    there = patterned(made, tmp_path)
    assert diff(there, "HEAD~1", "HEAD") == diff(made, "HEAD~1", "HEAD")


# -- experiments, recipes, variants --------------------------------------------------------------------------------------------


def test_an_experiment_is_compared_by_its_name(tmp_path_factory: pytest.TempPathFactory) -> None:
    made = reproduced(tmp_path_factory, "experiment")
    set_ = "recipes/one/recipe.yaml:stages.edits.actions=[keep]"
    made.run("dvc", "exp", "run", "-q", "-n", "gentle", "-S", set_, "recipes/one/dvc.yaml:pruned")
    found, here = diff(made, "HEAD", "gentle", "--stage", "pruned"), diff(made, "HEAD", "--stage", "pruned")
    assert (found["new"], here["new"]) == ("gentle", "the workspace")
    assert found["datasets"] == here["datasets"]
    [dataset] = found["datasets"]
    assert {(r["new"], r["what"]) for r in dataset["actions"] if r["what"] == "action"} == {("keep", "action")}
    assert dataset["characters"]["pruned"]["new"] > dataset["characters"]["pruned"]["old"]
    made.run("git", "checkout", "-q", "--", ".")
    lying = diff(made, "HEAD", "--stage", "pruned")
    assert [file["path"] for file in lying["files"]] == ["data/one/pruned.parquet"]
    assert lying["datasets"][0]["counts"] == dataset["counts"], "the locks are HEAD's again, the data are not"
    made.run("dvc", "checkout", "-q")
    assert diff(made, "HEAD", "--stage", "pruned")["datasets"][0]["same"]
    assert diff(made, "HEAD", "gentle", "--stage", "pruned")["datasets"] == found["datasets"], "its data come from DVC's cache"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Project_:
    """Recipe `one` in HEAD~1; in HEAD besides `two`, and `three` with two variants of one stage."""
    made = reproduced(tmp_path_factory, "many")
    made.write("recipes/two/recipe.yaml", "extends: one\nstages: {edits: {actions: [keep]}}\n")
    made.write("recipes/three/recipe.yaml", """\
        extends: one
        axes:
          eager:
            yes: {stages.edits.prompt: edit}
            no: {stages.edits.prompt: edit-two, stages.edits.actions: [keep]}
        """)  # fmt: skip
    made.write("prompts/edit-two.j2", (made.root / "prompts/edit.j2").read_text() + "Be brief.\n")
    made.run("drp", "compile")
    made.run("dvc", "repro", "-q", "recipes/two/dvc.yaml:edits", *(f"recipes/three/dvc.yaml:edits--{v}" for v in ("yes", "no")))
    made.commit("more recipes")
    return made


def forget(made: Project_, recipe: str, stage: str) -> None:
    """Take a stage out of a lock, as if it had never run."""
    path = made.root / f"recipes/{recipe}/dvc.lock"
    kept = mapping(path)
    del kept["stages"][stage]
    dump(path, kept)


def test_two_recipes_and_two_variants_are_compared(many: Project_) -> None:
    recipes = diff(many, "one/edits", "two/edits")
    [dataset] = recipes["datasets"]
    assert (dataset["old"], dataset["new"]) == ("one/edits", "two/edits")
    assert dataset == diff(many, "one", "two", "--stage", "edits")["datasets"][0]
    assert [row["stage"] for row in dataset["changed"]] == ["edits"]
    assert [(r["key"], r["new"]) for c in recipes["causes"] for r in c["reasons"]] == [("stages.*.actions", ["keep"])]
    [other] = diff(many, "three/edits--yes", "three/edits--no")["datasets"]
    assert other["counts"] == dataset["counts"]
    assert other["records"][0]["actions"] == dataset["records"][0]["actions"]
    assert "`drp diff one/targets three/edits--" in many.run("drp", "diff", "one", "three", code=1)


def test_what_an_axis_sets_is_one_cause_whatever_its_levels_are_called(many: Project_) -> None:
    for old in ("three/edits--yes", "one/edits"):
        [cause] = diff(many, old, "three/edits--no")["causes"]
        params = {r["key"]: (r["old"], r["new"]) for r in cause["reasons"] if r["kind"] == "param"}
        assert params == {
            "stages.*.prompt": ("edit", "edit-two"), "stages.*.actions": (["keep", "delete", "rewrite", "merge"], ["keep"])
        }  # fmt: skip
        assert [r["path"] for r in cause["reasons"] if r["kind"] == "prompt"] == ["prompts/edit.j2 → prompts/edit-two.j2"]


def test_what_only_one_state_has_is_told(many: Project_) -> None:
    size = len(data(many.root, "edits"))
    forward, back = many.run("drp", "diff", "HEAD~1"), many.run("drp", "diff", "HEAD", "HEAD~1")
    assert f"only in the workspace: recipe two: two/edits ({size} records)\n" in forward
    assert f"only in HEAD: recipe two: two/edits ({size} records)\n" in back
    assert "the same in HEAD~1 and the workspace: one/targets, the same bytes" in forward
    assert "nothing differs" not in forward + back
    assert [(a["kind"], a["name"]) for a in diff(many, "HEAD~1", "--stage", "edits--no")["alone"]] == [("recipe", "three")]
    name = next(iter(data(many.root, "edits")))
    [found] = [a for a in diff(many, "HEAD~1", "--stage", "edits", "--record", name)["alone"] if a["name"] == "two"]
    assert [dataset["name"] for dataset in found["datasets"]] == ["two/edits"]
    assert diff(many, "HEAD~1", "--recipe", "one")["alone"] == []
    try:
        many.write("recipes/four/recipe.yaml", "extends: one\n")
        (many.root / "recipes/two/dvc.lock").unlink()
        forget(many, "three", "edits--no")
        forget(many, "one", "table")
        assert [(a["state"], a["kind"], a["name"]) for a in diff(many, "HEAD")["alone"]] == [
            ("HEAD", "recipe", "two"), ("HEAD", "dataset", "three/edits--no"), ("the workspace", "recipe", "four"),
            ("HEAD", "report", "one/table"),
        ]  # fmt: skip
        text = many.run("drp", "diff", "HEAD")
        assert "only in the workspace: recipe four (it has made no records)" in text
        assert "nothing differs" not in text
    finally:
        shutil.rmtree(many.root / "recipes/four", ignore_errors=True)
        many.run("git", "checkout", "-q", "--", ".")


def test_a_renamed_recipe_is_gone_and_come_with_the_same_bytes(many: Project_) -> None:
    shutil.move(many.root / "recipes/one", many.root / "recipes/uno")
    size = len(data(many.root, "targets"))
    try:
        text = many.run("drp", "diff", "HEAD")
        assert f"only in HEAD: recipe one: one/targets ({size} records; the same bytes as uno/targets)" in text
        assert f"only in the workspace: recipe uno: uno/targets ({size} records; the same bytes as one/targets)" in text
        assert "nothing differs" not in text
    finally:
        shutil.move(many.root / "recipes/uno", many.root / "recipes/one")


def test_texts_are_contrasted_by_sentence() -> None:
    marked = list(contrast("I add. 1 + 1 = 2. Wait. So it is 2.", "I add. 1 + 1 = 2.\n\nSo it is 3."))
    assert marked == [("=", "I add."), ("=", "1 + 1 = 2."), ("-", "Wait."), ("-", "So it is 2."), ("+", "So it is 3.")]
