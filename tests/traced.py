"""A small project that has run from questions to scores: a student behind a real server, the rules teacher, a ledger."""

import re
import shutil
from pathlib import Path
from typing import Any

from tests.own_ops import LEARN
from tests.projects import Project_, project
from tests.servers import ChatServer, Reply, said

RECIPE = """\
description: from questions to scores
models: {student: pupil, teacher: rules}
stages:
  apples: {op: load, source: questions/apples.jsonl}
  pears: {op: load, source: questions/pears.jsonl}
  exam: {op: load, source: questions/exam.jsonl}
  questions: {op: mix, from: [apples, pears], without: [exam]}
  traces: {op: generate, from: questions, model: student, prompt: solve, samples: 2, seed: 3}
  correct: {op: verify, from: traces, keep: correct}
  steps: {op: segment, from: correct, by: skill, model: teacher, prompt: segment}
  edits: {op: edit, from: steps, model: teacher, prompt: edit}
  pruned: {op: reassemble, from: edits, model: teacher, prompt: reassemble}
  targets: {op: verify, from: pruned, keep: correct}
  adapter: {op: learn, from: targets, batch: 2}
  scores: {op: evaluate, models: {base: student}, on: [exam], prompt: solve, cutoff: 500}
  table: {op: compare, from: scores, base: base}
"""
PARAMS = """\
models:
  pupil: {{name: pupil-7b, revision: "2024-10", sampling: {{temperature: 0.6, max_tokens: 500}}}}
  rules: {{name: rules, sampling: {{temperature: 0.0, max_tokens: 32768}}}}
run:
  pupil: {{backend: openai, base_url: "{url}"}}
  rules: {{backend: rules}}
prices:
  pupil: {{prompt: 2, completion: 10, date: '2026-01-01', source: 'a test'}}
"""
ROOT = Path(__file__).parents[1]


def question(fruit: str, bags: int, each: int) -> dict[str, Any]:
    """A row of a source file."""
    return {"question": f"Tom has {bags} bags with {each} {fruit} in each. How many {fruit} has he?", "answer": str(bags * each)}


def think(number: int, body: dict[str, Any]) -> Reply:
    """The student: a verbose thought whose equation and its naming can be merged; every third trace of 7 bags is wrong."""
    text = body["messages"][-1]["content"]
    found = re.search(r"has (\d+) bags with (\d+) (\w+)", text)
    assert found, text
    bags, each, fruit = int(found[1]), int(found[2]), found[3]
    total = bags * each + (1 if bags == 7 and body.get("seed", 0) % 2 else 0)
    thought = (
        f"Okay, so Tom has {bags} bags with {each} {fruit} in each. Hmm, let me think. "
        f"So, {bags} * {each} = {total}. The total number of {fruit} is {total}. "
        f"Wait, let me double-check that. {bags} times {each} is {total}. Yes, that is right."
    )
    return said(f"<think>\n{thought}\n</think>\n\nThe answer is \\boxed{{{total}}}.", model="pupil-7b-2024-10-served")


def traced(root: Path, recipe: str = RECIPE, params: str = PARAMS) -> Project_:
    """The project, run and committed; its server is gone, its answers are in the store."""
    made = project(root, recipe, name="fruit")
    made.write("ops/learn.py", LEARN)
    for name, rows in SOURCES.items():
        made.write_rows(f"questions/{name}.jsonl", rows)
    shutil.copytree(ROOT / "prompts", made.root / "prompts", dirs_exist_ok=True)
    with ChatServer(think) as server:
        made.write("params.yaml", params.format(url=server.url))
        made.repro()
    made.commit("run")
    return made


SOURCES = {
    "apples": [question("apples", bags, each) for bags, each in ((3, 12), (7, 11), (4, 25), (5, 14))],
    "pears": [question("pears", bags, each) for bags, each in ((6, 13), (3, 17))] + [question("apples", 3, 12)],
    "exam": [question("plums", bags, each) for bags, each in ((2, 19), (8, 15), (9, 21))] + [question("pears", 3, 17)],
}
"""One question stands in two sources, one in a source and the exam."""
