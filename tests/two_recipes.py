"""A project of recipes that extend each other, with everything that lineage is asked about: loads that share questions, exams, a mix, a teacher, an
adapter, models trained from scratch and further, an evaluation; small, but every stage really runs."""

import json
import shutil
from pathlib import Path

from tests.projects import Project_

ROOT = Path(__file__).parents[1]

BASE = """\
description: Sums, pruned  # by the rules teacher
models: {student: mini-student, teacher: rules}
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
  adapter: {op: sft, from: targets, model: student, prompt: ask, epochs: 2, batch_size: 4, max_length: 1024}
  scores: {op: evaluate, models: {base: student, drp: adapter}, on: [exam], prompt: ask, runs: 2, cutoff: 640}
  table: {op: compare, from: scores, base: base, bootstrap: 20}
"""
MORE = """\
extends: base
stages:
  extra: {op: load, source: extra.jsonl, family: family}
  pool: {op: mix, from: [questions, extra]}
  talks: {op: narrate, from: pool, samples: 2}
  first: {op: pretrain, from: talks, prompt: ask, vocabulary: 300, width: 16, layers: 1, heads: 2, inner: 32}
"""
LAST = """\
extends: more
stages:
  again: {op: narrate, from: extra, seed: 1}
  second: {op: pretrain, from: again, start: first, prompt: ask}
publish: {second: models/last}
"""


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


_BUILT: list[Path] = []


def two_recipes(folder: Path) -> Project_:
    """A copy of the project, compiled, run and committed; it is built once a process, which takes a minute or two."""
    if not _BUILT:
        _BUILT.append(_build(folder / "original").root)
    shutil.copytree(_BUILT[0], folder / "copy", symlinks=True)
    return Project_(folder / "copy")


def _build(root: Path) -> Project_:
    made = Project_(root)
    root.mkdir(parents=True)
    for name in ("params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    for name in ("prompts", "models/mini-student"):
        shutil.copytree(ROOT / name, root / name)
    made.write(".gitignore", "/data/\n/models/base\n/models/more\n__pycache__/\n")
    made.write("recipes/base/recipe.yaml", BASE)
    made.write("recipes/more/recipe.yaml", MORE)
    made.write("recipes/last/recipe.yaml", LAST)
    for name, rows in SOURCES.items():
        made.write(f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    made.run("git", "init", "-q", "-b", "main")
    made.run("dvc", "init", "-q")
    anew(made, "--thaw", "last")
    made.run("drp", "compile")
    made.commit("run")
    return made


def anew(made: Project_, *compiled: str) -> list[str]:
    """Reproduce all of it, by one thread a stage; the stages that ran."""
    made.run("drp", "compile", *compiled)
    return made.ran(made.run("env", "OMP_NUM_THREADS=1", "dvc", "repro", "-R", "recipes"))
