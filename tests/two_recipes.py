"""A project of recipes that extend each other, with everything that lineage is asked about: loads that share questions, exams, a mix, a student
behind a server, a teacher, an adapter, models trained from scratch and further, an evaluation; every stage really runs, but the trainings only keep
their ledgers."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.once import once
from tests.own_ops import GROW, LEARN
from tests.projects import Project_, begin
from tests.servers import ChatServer, Reply, said

ROOT = Path(__file__).parents[1]

BASE = """\
description: Sums, pruned  # by the rules teacher
models: {student: pupil, teacher: rules}
stages:
  # two sources that share two questions
  left: {op: load, source: "left.jsonl", family: family, key: key}
  right:
    op: load
    source: right.jsonl   # in block style
    family: family

  exam: {op: load, source: exam.jsonl}
  questions: {op: mix, from: [left, right], without: [exam]}
  traces: {op: generate, from: questions, model: student, prompt: ask, samples: 2}
  correct: {op: verify, from: traces, keep: correct}
  steps: {op: segment, from: correct, by: skill, model: teacher, prompt: segment}
  edits: {op: edit, from: steps, model: teacher, prompt: edit}
  pruned: {op: reassemble, from: edits, model: teacher, prompt: reassemble}
  targets: {op: verify, from: pruned, keep: correct}
  adapter: {op: learn, from: targets, model: student}
  scores: {op: evaluate, models: {base: student, drp: adapter}, on: [exam], prompt: ask, runs: 2, cutoff: 640}
  table: {op: compare, from: scores, base: base, bootstrap: 20}
"""
MORE = """\
extends: base
stages:
  extra: {op: load, source: extra.jsonl, family: family}
  pool: {op: mix, from: [questions, extra]}
  talks: {op: narrate, from: pool, samples: 2}
  first: {op: grow, from: talks}
"""
LAST = """\
extends: more
stages:
  again: {op: narrate, from: extra, seed: 1}
  second: {op: grow, from: again, start: first}
publish: {second: models/last}
"""

PARAMS = """\
models:
  pupil: {{name: pupil-7b, sampling: {{temperature: 0.6, max_tokens: 500}}}}
  rules: {{name: rules, sampling: {{temperature: 0.0, max_tokens: 32768}}}}
run:
  pupil: {{backend: openai, base_url: "{url}"}}
  rules: {{backend: rules}}
"""
OPS = {"learn": LEARN, "grow": GROW}


def question(first: int, second: int) -> dict[str, str]:
    """A sum, as the source of that name tells it."""
    text = f"State the final answer to the following arithmetic problem: {first} + {second} + 5 ="
    return {"question": text, "answer": str(first + second + 5), "family": "chain_sum", "key": f"k{first}-{second}"}


SOURCES = {
    "left": [question(n, 7) for n in range(10, 14)] + [{**question(20, 7), "answer": "1"}],  # the last one is never right
    "right": [question(n, 7) for n in range(12, 15)] + [question(32, 8)],  # two of left's, one of the exam
    "exam": [question(n, 8) for n in range(30, 33)],
    "extra": [question(10, 7), question(50, 9), question(51, 9)],  # one of left's
}
ENDS = (("base", "table"), ("more", "first"), ("last", "again"), ("last", "second"))
"""The stages from which all others are reached."""


def think(number: int, body: dict[str, Any]) -> Reply:
    """The student: a thought that checks itself, and the sum; of 31 + 8 it is never sure."""
    found = re.search(r"(\d+) \+ (\d+) \+ 5", body["messages"][-1]["content"])
    assert found, body
    one, two = int(found[1]), int(found[2])
    check = ("Wait, let me double-check that.", "Hmm, is that so?")[body.get("seed", 0) % 2]
    total = one + two + 5 + (one == 31)
    thought = (
        f"Okay, so I have to add {one}, {two} and 5. Hmm, let me think. So, {one} + {two} = {one + two}. "
        f"Then, {one + two} + 5 = {total}. {check} {one + two} + 5 is {total}. Yes, that is right."
    )
    return said(f"<think>\n{thought}\n</think>\n\nThe answer is \\boxed{{{total}}}.")


def two_recipes(factory: pytest.TempPathFactory) -> Project_:
    """A copy of the project, compiled, run and committed; it is built once for all tests of a session."""
    root = factory.mktemp("two") / "copy"
    shutil.copytree(once(factory, "two-recipes", _build), root, symlinks=True)
    return Project_(root)


def _build(root: Path) -> None:
    made = Project_(root)
    root.mkdir(parents=True)
    shutil.copy(ROOT / ".dvcignore", root / ".dvcignore")
    shutil.copytree(ROOT / "prompts", root / "prompts")
    for name, text in OPS.items():
        made.write(f"ops/{name}.py", text)
    made.write(".gitignore", "/data/\n/models/base\n/models/more\n__pycache__/\n")
    made.write("recipes/base/recipe.yaml", BASE)
    made.write("recipes/more/recipe.yaml", MORE)
    made.write("recipes/last/recipe.yaml", LAST)
    for name, rows in SOURCES.items():
        made.write_rows(f"{name}.jsonl", rows)
    begin(made)
    anew(made, "--thaw", "last")
    made.run("drp", "compile")
    made.commit("run")


def anew(made: Project_, *compiled: str) -> list[str]:
    """Reproduce all of it; the stages that ran."""
    with ChatServer(think) as server:
        made.write("params.yaml", PARAMS.format(url=server.url))
        made.run("drp", "compile", *compiled)
        return made.ran(made.run("dvc", "repro", *(f"recipes/{recipe}/dvc.yaml:{stage}" for recipe, stage in ENDS)))
