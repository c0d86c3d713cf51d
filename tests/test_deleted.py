"""drp deleted: what was cut, recounted from the Parquet files with plain Python."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from drp.records import read
from tests.projects import Project_
from tests.taught import answered, data, patterned, reproduced

MORE = """\
extends: one
stages:
  gathered: {op: gather, from: edits}
  joined: {op: reassemble, from: gathered}
  worn: {op: forget, from: pruned}
"""
ACTIONS = ("keep", "delete", "rewrite", "merge")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project_:
    """A project where steps are deleted (`one/targets`), merged (`more/joined`), and lost without a word (`more/worn`)."""
    made = reproduced(tmp_path_factory, "deleted")
    made.write("recipes/more/recipe.yaml", MORE)
    made.run("drp", "compile")
    made.run("dvc", "repro", "-q", "recipes/more/dvc.yaml:joined", "recipes/more/dvc.yaml:worn")
    made.commit("more")
    return made


def told(made: Project_, *arguments: str) -> Any:
    return answered(made, "deleted", *arguments)


def records(made: Project_, address: str) -> dict[str, dict[str, Any]]:
    recipe, _, stage = address.partition("/")
    return data(made.root, stage, recipe=recipe)


def steps(made: Project_, address: str) -> list[dict[str, Any]]:
    """A row a step of a stage's records, by plain Python."""
    found = []
    for record in records(made, address).values():
        cited = {step for sentence in record.get("sentences") or [] for step in sentence["steps"]}
        for step, action in zip(record["steps"], record["actions"], strict=True):
            vanished = "sentences" in record and action["action"] != "delete" and action["step"] not in cited
            text = record["thought"][step["start"] : step["end"]]
            found.append({"id": record["id"], "skill": step["skill"], **action, "source": text, "vanished": vanished})
    return found


@pytest.mark.parametrize("stage", ["one/edits", "one/targets", "more/joined", "more/worn"])
def test_the_characters_of_the_thoughts_are_the_sum_of_what_became_of_their_steps(made: Project_, stage: str) -> None:
    [found] = told(made, stage)
    size, rows = found["characters"], records(made, stage).values()
    assert size["thought"] == sum(len(record["thought"]) for record in rows) == sum(size[action] for action in ACTIONS)
    expected = Counter[str]()
    for step in steps(made, stage):
        expected[step["action"]] += len(step["source"])
    assert {action: size[action] for action in ACTIONS} == {action: expected[action] for action in ACTIONS}
    assert size["delete"] > 0
    assert (size["merge"] > 0) == (stage == "more/joined")
    assert size["pruned"] == (sum(len(r["pruned"]) for r in rows) if stage != "one/edits" else None)


@pytest.mark.parametrize("stage", ["one/targets", "more/joined", "more/worn"])
def test_steps_are_counted_by_skill_and_action_and_by_reason_as_a_recount_counts_them(made: Project_, stage: str) -> None:
    [found] = told(made, stage)
    here = steps(made, stage)
    whole = sum(len(step["source"]) for step in here)
    for row in found["steps"]:
        same = [step for step in here if (step["skill"], step["action"]) == (row["skill"], row["action"])]
        assert (row["steps"], row["characters"]) == (len(same), sum(len(step["source"]) for step in same))
        assert row["vanished"] == sum(step["vanished"] for step in same)
        assert row["share"] == pytest.approx(row["characters"] / whole)
    assert sum(row["steps"] for row in found["steps"]) == len(here)
    reasons = Counter(
        ("vanished" if s["vanished"] else s["action"], s["reason"]) for s in here if s["action"] != "keep" or s["vanished"]
    )  # fmt: skip
    assert {(row["action"], row["reason"]): row["steps"] for row in found["reasons"]} == reasons
    for row in found["reasons"]:
        assert row["example"]["text"] in [
            s["source"].strip() for s in here if s["id"] == row["example"]["id"] and s["reason"] == row["reason"]
        ]


def test_what_no_sentence_comes_from_has_vanished_though_nobody_decided_it(made: Project_) -> None:
    assert told(made, "one/targets")[0]["characters"]["vanished"] == 0
    expected = [(s["id"], s["step"]) for s in steps(made, "more/worn") if s["vanished"]]
    assert expected
    [found] = told(made, "more/worn", "--action", "vanished")
    assert [(s["id"], s["step"]) for s in found["steps"]] == expected
    assert {s["decided"] for s in found["steps"]} == {"keep"}
    name = expected[0][0]
    text = made.run("drp", "deleted", "more/worn", "--action", "vanished", "-n", "1")
    whole = len(steps(made, "more/worn"))
    assert text.startswith(f"more/worn: {len(expected)} of {whole} steps (action 'vanished')\n{name}\n! ")
    assert "kept, but no sentence comes from it" in text


def test_steps_are_listed_with_text_reason_and_the_completion_that_decided(made: Project_) -> None:
    trail = {(row["record"], row["step"]): row["completion"] for row in _trail(made)}
    skill = Counter(s["skill"] for s in steps(made, "one/targets") if s["action"] == "delete").most_common(1)[0][0]
    [found] = told(made, "one/targets", "--skill", skill)
    expected = [s for s in steps(made, "one/targets") if s["skill"] == skill and s["action"] != "keep"]
    assert [(s["id"], s["step"], s["action"], s["text"], s["reason"], s["completion"]) for s in found["steps"]] == [
        (s["id"], s["step"], s["action"], s["source"].strip(), s["reason"], trail[s["id"], s["step"]]) for s in expected
    ]
    assert all(s["completion"] for s in found["steps"])
    reason = expected[0]["reason"]
    [other] = told(made, "one/targets", "--reason", reason)
    assert len(other["steps"]) == sum(s["reason"] == reason and s["action"] != "keep" for s in steps(made, "one/targets"))


def _trail(made: Project_) -> list[dict[str, Any]]:
    return list(read(made.root / "data/one/edits.trail.parquet"))


def test_a_record_is_shown_in_order_with_marks(made: Project_) -> None:
    name, record = next(iter(records(made, "more/worn").items()))
    text = made.run("drp", "deleted", name, "--in", "more/worn")
    assert f"{len(record['thought']):,} characters of thought = " in text
    found = told(made, name, "--in", "more/worn")["thoughts"][0]
    assert "".join(step["text"] for step in found["steps"]) == record["thought"]
    assert sum(found["characters"][action] for action in ACTIONS) == len(record["thought"])
    assert all(step["completion"] for step in found["steps"])
    marks = {"keep": "  ", "delete": "- ", "vanished": "! "}
    lines = text.splitlines()
    places = [
        next(place for place, line in enumerate(lines) if line.startswith(marks[s["action"]] + " ".join(s["text"].split())[:60]))
        for s in found["steps"]
    ]
    assert len(places) == len(record["steps"])
    [here] = told(made, name)["thoughts"]
    assert (here["id"], here["stage"]) == (name, told(made)[0]["stage"]), "in the first recipe's data set"
    assert told(made, name.partition("/")[0])["thoughts"] == [here], "a question's id means what was made of it"


def test_of_a_record_only_the_steps_are_shown_that_are_asked_for(made: Project_) -> None:
    name = next(name for name, r in records(made, "one/targets").items() if any(a["action"] == "delete" for a in r["actions"]))
    [whole] = told(made, name)["thoughts"]
    gone = [step for step in whole["steps"] if step["action"] == "delete"]
    wish = gone[0]
    assert told(made, name, "--action", "delete")["thoughts"] == [{**whole, "steps": gone}]
    skilled = [step for step in gone if step["skill"] == wish["skill"]]
    assert told(made, name, "--skill", wish["skill"])["thoughts"][0]["steps"] == skilled
    assert told(made, name, "--action", "delete", "-n", "1")["thoughts"][0]["steps"] == gone[:1]
    assert "no step of it is so" in made.run("drp", "deleted", name, "--action", "rewrite", "--skill", wish["skill"])
    assert "has the skill 'verifcation'" in made.run("drp", "deleted", name, "--skill", "verifcation", code=2)
    assert "a table is of a data set" in made.run("drp", "deleted", name, "--by", "skill", code=2)


@pytest.mark.parametrize("number", ["0", "-3"])
def test_fewer_than_one_is_refused(made: Project_, number: str) -> None:
    for command in (("deleted", "one"), ("why", "So,")):
        assert f"-n {number}: at least 1" in made.run("drp", *command, "-n", number, code=2)


def test_a_rewritten_or_merged_step_is_shown_before_and_after(made: Project_) -> None:
    text = made.run("drp", "deleted", "more/joined", "--action", "merge", "-n", "2")
    lines = text.splitlines()
    assert [line[:1] for line in lines if line[:1] in "~+"] == ["~", "+", "~"]
    assert [line[:12] for line in lines if line[:1] == "+"] == ["+ In short: "]
    assert ", merge into step" in text


def test_dropped_records_are_counted_by_stage_and_reason(made: Project_) -> None:
    [found] = told(made, "one/targets")
    wrong = data(made.root, "correct", ".dropped")
    assert found["dropped"] == [{"stage": "one/correct", "reason": "wrong-answer", "records": len(wrong), "example": min(wrong)}]
    name = min(wrong)
    assert told(made, name) == {
        "record": name, "thoughts": [], "altered": [], "unchecked": [],
        "dropped": [{"stage": "one/correct", "id": name, "reason": "wrong-answer", "detail": wrong[name]["detail"]}],
    }  # fmt: skip
    assert f"{name} was dropped by one/correct: wrong-answer" in made.run("drp", "deleted", name)


def test_a_table_is_made_by_skill_reason_or_action_for_a_file_a_revision_and_all_recipes(made: Project_) -> None:
    here = steps(made, "one/targets")
    for by in ("skill", "reason", "action"):
        [found] = told(made, "data/one/targets.parquet", "--by", by, "--at", "HEAD")
        assert {row[by]: row["steps"] for row in found["steps"]} == Counter(step[by] for step in here)
    assert told(made) == [*told(made, "more"), *told(made, "one")]
    assert {found["stage"] for found in told(made)} == {"more/joined", "one/targets", "more/worn"}
    text = made.run("drp", "deleted", "one/targets")
    assert "most frequent reasons" in text
    assert "records that were dropped on the way" in text
    assert "nothing was decided about its steps" in made.run("drp", "deleted", "one/steps")


def test_data_sets_that_are_not_here_are_named_beside_those_that_are(made: Project_, tmp_path: Path) -> None:
    whole = told(made)
    moved = {made.root / ".dvc/cache": tmp_path / "cache", made.root / "data/more": tmp_path / "more"}
    for here, there in moved.items():
        shutil.move(here, there)
    try:
        assert [found for found in told(made) if found["records"] is not None] == [
            f for f in whole if f["stage"] == "one/targets"
        ]
        assert [found["stage"] for found in told(made) if found["records"] is None] == ["more/joined", "more/worn"]
        text = made.run("drp", "deleted", "--action", "delete", "-n", "1")
        cure = "no DVC remote is configured; `drp run more` makes them"
        assert text.endswith(f"\nnot here ({cure}): more/joined, more/worn\n")
        assert "data/more/joined.parquet: neither here nor in DVC's cache" in made.run("drp", "deleted", "more", code=1)
    finally:
        for here, there in moved.items():
            shutil.move(there, here)


def test_a_project_may_lie_in_a_folder_with_characters_of_patterns(made: Project_, tmp_path: Path) -> None:
    there = patterned(made, tmp_path)
    assert told(there) == told(made)
    assert told(there, "--action", "delete") == told(made, "--action", "delete")


def test_what_is_no_data_set_is_refused(made: Project_) -> None:
    assert "name a record, a recipe, a stage that makes records, or a data file" in made.run(
        "drp", "deleted", "one/table", code=1
    )
    assert "did you mean 'one/targets'" in made.run("drp", "deleted", "one/targtes", code=1)


def test_a_skill_or_reason_that_no_step_has_is_refused_with_the_choices(made: Project_) -> None:
    skills = {step["skill"] for step in steps(made, "one/targets")}
    told_ = made.run("drp", "deleted", "one/targets", "--skill", f"{min(skills)}s", code=2)
    assert f"({', '.join(sorted(skills))}); did you mean '{min(skills)}'?" in told_
    assert "has the reason 'no such'" in made.run("drp", "deleted", "one/targets", "--reason", "no such", "--json", code=2)


def test_the_table_of_skills_says_of_what_its_shares_are(made: Project_) -> None:
    here = steps(made, "one/targets")
    skill, action = Counter((s["skill"], s["action"]) for s in here if s["action"] in ACTIONS).most_common(1)[0][0]
    whole = sum(s["skill"] == skill for s in here)
    count = sum((s["skill"], s["action"]) == (skill, action) for s in here)
    lines = made.run("drp", "deleted", "one/targets").splitlines()
    head = lines.index("  steps by skill and action, with their share of the skill's steps")
    assert lines[head + 1].split() == ["skill", "steps", *ACTIONS, "vanished"]
    row = next(line for line in lines[head:] if line.split()[:1] == [skill])
    assert row.split()[1] == str(whole)
    assert f"{count} {count / whole:>4.0%}" in row
    cut = sum(s["skill"] == skill and s["action"] != "keep" for s in here)
    told_ = made.run("drp", "deleted", "one/targets", "--skill", skill, "-n", "1")
    assert told_.startswith(f"one/targets: {cut} of {whole} {skill} steps (skill '{skill}')")
