"""What reruns and what does not, with real DVC in a temporary repository."""

from pathlib import Path

import pytest

from drp.records import read
from tests.projects import RECIPE, project

AXES = """\
stages:
  a: {op: make, size: 3}
  b: {op: shout, from: a, times: 1}
  c: {op: shout, from: b, times: 1}
  n: {op: tally, from: "c@*"}
axes:
  loud:
    one: {stages.b.times: 1}
    two: {stages.b.times: 2}
"""


def test_only_what_an_edit_touches_reruns(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    assert made.repro() == ["one:a", "one:b", "one:c", "one:n", "one:counts"]
    made.edit("recipes/one/recipe.yaml", "# a comment", "# another comment")
    assert made.repro() == [], "a comment in a recipe"
    made.edit("ops/make.py", "# a comment", "# another comment")
    assert made.repro() == [], "a comment in an op's source"
    made.edit("params.yaml", "run: {}", "run: {}  # where models are reached")
    assert made.repro() == []
    made.edit("recipes/one/recipe.yaml", "b: {op: shout, from: a, times: 1}", "b: {op: shout, from: a, times: 2}")
    assert set(made.repro()) == {"one:b", "one:c", "one:n", "one:counts"}, "a changed value: its stage and what follows"
    made.edit("ops/shout.py", 'record["text"].upper()', 'record["text"].title()')
    assert set(made.repro()) == {"one:b", "one:c", "one:counts"}, "changed code, equal bytes: what follows is skipped"
    made.edit("ops/shout.py", "VERSION = 1", "VERSION = 2")
    assert set(made.repro()) == {"one:b", "one:c", "one:counts"}, "a new version reruns; equal bytes stop the rebuild"


def test_a_refactor_declared_the_same_reruns_nothing_and_an_undeclared_one_is_not_run_stale(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    made.repro()
    made.edit("ops/shout.py", "for record in records:", "for record in iter(records):")
    assert "drp same shout" in made.run("drp", "stage", "one", "b", code=64)
    made.run("drp", "same", "shout")
    assert made.repro() == []


def test_a_leaf_and_a_path_set_by_dvc_exp_run_are_followed(tmp_path: Path) -> None:
    recipe = "stages:\n  a: {op: load, source: data.jsonl, question: q, answer: a}\n  b: {op: mix, from: [a]}\n"
    made = project(tmp_path / "p", recipe)
    made.write("data.jsonl", '{"q": "1 + 1?", "a": "2"}\n')
    made.write("other.jsonl", '{"q": "1 + 2?", "a": "3"}\n')
    made.repro()
    made.commit()
    out = made.run("dvc", "exp", "run", "-S", "recipes/one/recipe.yaml:stages.a.source=other.jsonl", "-R", "recipes")
    assert "one:a" in made.ran(out)
    lock = (made.root / "recipes/one/dvc.lock").read_text()
    assert "other.jsonl" in lock
    assert "data.jsonl" not in lock
    made.edit("other.jsonl", "1 + 2", "2 + 1")
    assert "one:a" in made.ran(made.run("dvc", "repro", "-R", "recipes"))


def test_a_change_of_shape_is_refused_until_it_is_compiled(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    made.repro()
    made.commit()
    out = made.run("dvc", "exp", "run", "-S", "recipes/one/recipe.yaml:+stages.a.word=x", "recipes/one/dvc.yaml:a", code=None)
    assert "drp compile" in made.run("drp", "stage", "one", "a", code=64), out
    assert made.run("drp", "compile", "--check", code=64).startswith("stale: recipes/one/dvc.yaml")
    assert {"one:a", "one:b", "one:c"} <= set(made.repro())


def test_a_new_level_of_an_axis_reruns_no_old_variant_wherever_it_is_put(tmp_path: Path) -> None:
    made = project(tmp_path / "p", AXES)
    assert set(made.repro()) == {"one:a", "one:b--one", "one:b--two", "one:c--one", "one:c--two", "one:n", "one:counts"}
    made.edit("recipes/one/recipe.yaml", "    one:", "    nil: {stages.b.times: 0}\n    one:")
    assert set(made.repro()) == {"one:b--nil", "one:c--nil", "one:n", "one:counts"}
    made.edit("recipes/one/recipe.yaml", "    nil: {stages.b.times: 0}\n", "")
    made.repro()
    assert "nil" not in (made.root / "recipes/one/reports/n.md").read_text(), "the join has lost the level"
    assert "nil" not in (made.root / "recipes/one/dvc.lock").read_text(), "vanished stages leave the lock"


def test_a_lost_option_reruns_its_stage_though_dvc_would_not_notice(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    made.repro()
    made.edit("recipes/one/recipe.yaml", "c: {op: shout, from: b, times: 2}", "c: {op: shout, from: b}")
    assert "one:c" in made.repro()
    assert [r["text"] for r in read(made.root / "data/one/c.parquet")] == ["W0", "W1", "W2"]


def test_an_axis_edited_without_a_compile_is_not_run(tmp_path: Path) -> None:
    made = project(tmp_path / "p", AXES)
    made.repro()
    made.edit("recipes/one/recipe.yaml", "two: {stages.b.times: 2}", "two: {stages.b.times: 4}")
    assert "drp compile" in made.run("drp", "stage", "one", "b--two", code=64)
    assert {"one:b--two", "one:c--two"} <= set(made.repro())


def test_a_verifier_of_ones_own_is_meaning_too(tmp_path: Path) -> None:
    recipe = """
        stages:
          a: {op: load, source: data.jsonl, question: q, answer: a, solution: s}
          b: {op: reply, from: a}
          c: {op: verify, from: b, keep: all, verifier: "judges:strict"}
        """
    made = project(tmp_path / "p")
    made.write("recipes/one/recipe.yaml", recipe)
    made.write("data.jsonl", '{"q": "1 + 1?", "a": "2", "s": "It is 2."}\n')
    made.write("judges.py", "def strict(reply: str, answer: str) -> tuple[str, bool]:\n    return reply, True\n")
    made.write("ops/reply.py", made_reply())
    made.repro()
    assert [r["correct"] for r in read(made.root / "data/one/c.parquet")] == [True]
    made.edit("judges.py", "reply, True", "reply, False")
    assert "one:c" in made.repro()
    assert [r["correct"] for r in read(made.root / "data/one/c.parquet")] == [False]


def made_reply() -> str:
    """An op that takes the solution for the reply."""
    return '''
        """Reply with the solution."""
        from collections.abc import Iterable, Iterator
        from typing import TypedDict
        from drp.op import Kept, Outcome, Record, Work

        VERSION = 1

        class Adds(TypedDict):
            reply: str

        def reply(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
            for record in records:
                yield Kept({**record, "reply": record["solution"]})
        '''


def test_variants_of_two_stages_are_told_apart_in_a_join(tmp_path: Path) -> None:
    made = project(tmp_path / "p", AXES.replace('from: "c@*"', 'from: ["b@*", "c@*"]'))
    made.repro()
    rows = (made.root / "recipes/one/reports/n.md").read_text().splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["b--one", "b--two", "c--one", "c--two"]


def test_a_child_recipe_shares_what_it_does_not_touch(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    made.write("recipes/two/recipe.yaml", "extends: one\nstages:\n  c: {times: 3}\n  d: {op: shout, from: a}\n")
    made.repro()
    two = (made.root / "recipes/two/dvc.yaml").read_text()
    assert "data/one/b.parquet" in two
    assert "data/two/b.parquet" not in two
    made.edit("recipes/one/recipe.yaml", "b: {op: shout, from: a, times: 1}", "b: {op: shout, from: a, times: 2}")
    ran = made.repro()
    assert {"one:b", "one:c", "two:c"} <= set(ran)
    assert "two:d" not in ran


def test_two_people_add_a_recipe_each_and_git_merges_cleanly(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    made.repro()
    made.commit()
    for person in ("ann", "bob"):
        made.run("git", "checkout", "-q", "-b", person, "main")
        made.write(f"recipes/{person}/recipe.yaml", f"extends: one\nstages:\n  c: {{times: {len(person) + ord(person[0])}}}\n")
        made.repro()
        made.commit(person)
    made.run("git", "checkout", "-q", "main")
    made.run("git", "merge", "-q", "ann")
    made.run("git", "merge", "-q", "bob")
    assert made.repro() == []


def test_hand_written_stages_are_kept_and_output_is_byte_stable(tmp_path: Path) -> None:
    made = project(tmp_path / "p", RECIPE)
    made.run("drp", "compile")
    file = made.root / "recipes/one/dvc.yaml"
    file.write_text(file.read_text() + "  mine:\n    cmd: echo mine  # by hand\n")
    made.run("drp", "compile")
    text = file.read_text()
    assert "mine:\n    cmd: echo mine  # by hand\n" in text
    before = file.stat().st_mtime_ns
    made.run("drp", "compile")
    assert (file.read_text(), file.stat().st_mtime_ns) == (text, before), "written only when changed"
    assert made.run("drp", "compile", "--check") == ""


@pytest.mark.parametrize("text", ["", "stages: {}\n"])
def test_an_empty_recipe_compiles_to_no_stage(tmp_path: Path, text: str) -> None:
    made = project(tmp_path / "p", text, dvc=False)
    made.run("drp", "compile")
    assert "cmd" not in (made.root / "recipes/one/dvc.yaml").read_text()
