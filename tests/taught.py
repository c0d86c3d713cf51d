"""A small real project for lineage: narrated sums from a JSONL file, pruned by the rules teacher, with ops of its own for what
the rules teacher never does (merge steps, lose a sentence)."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from drp.cli import main
from drp.narration import narrate
from drp.records import read
from tests.once import once
from tests.projects import Project_, begin, project

ROOT = Path(__file__).parents[1]

RECIPE = """\
models: {teacher: rules}
stages:
  questions: {op: load, source: sums.jsonl, question: q, answer: a, solution: s, key: k}
  traces: {op: think, from: questions}
  correct: {op: verify, from: traces, keep: correct}
  steps: {op: segment, from: correct, by: skill, model: teacher, prompt: segment}
  edits: {op: edit, from: steps, model: teacher, prompt: edit, actions: [keep, delete, rewrite, merge]}
  pruned: {op: reassemble, from: edits, model: teacher, prompt: reassemble}
  targets: {op: verify, from: pruned, keep: correct}
  table: {op: tally, from: [targets]}
"""

PARAMS = """\
models:
  rules: {name: rules, sampling: {temperature: 0.0, max_tokens: 32768}}
run:
  rules: {backend: rules}
"""

OPS = {
    "think": '''
        """Take the solution for a response: its thought, and after the last line its reply."""
        from collections.abc import Iterable, Iterator
        from typing import TypedDict
        from drp.op import Kept, Outcome, Record, Work

        VERSION = 1
        MAKES_RECORDS = True

        class Adds(TypedDict):
            thought: str
            reply: str

        def think(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
            for record in records:
                thought, _, reply = record["solution"].rpartition("\\n\\n")
                yield Kept({**record, "id": f"{record['id']}/000", "thought": thought, "reply": reply})
        ''',
    "gather": '''
        """Merge the first two steps that are kept side by side."""
        from collections.abc import Iterable, Iterator
        from drp.op import Kept, Outcome, Record, Work

        VERSION = 1

        def gather(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
            for record in records:
                actions = [dict(action) for action in record["actions"]]
                for one, two in zip(actions, actions[1:]):
                    if one["action"] == two["action"] == "keep":
                        words = " ".join(record["thought"][record["steps"][one["step"]]["start"]:record["steps"][two["step"]]["end"]].split())
                        one.update(action="merge", text="In short: " + words, into=one["step"])
                        two.update(action="merge", into=one["step"])
                        break
                yield Kept({**record, "actions": actions})
        ''',
    "forget": '''
        """Lose the first sentence of each pruned thought, and say so to nobody."""
        from collections.abc import Iterable, Iterator
        from drp.op import Kept, Outcome, Record, Work

        VERSION = 1

        def forget(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
            for record in records:
                first, *rest = record["sentences"]
                away = first["end"]
                moved = [{**s, "start": s["start"] - away, "end": s["end"] - away} for s in rest]
                yield Kept({**record, "pruned": record["pruned"][away:], "sentences": moved})
        ''',
}


def rows(count: int, first: int = 0) -> list[dict[str, str]]:
    """Questions with narrated solutions; every fifth is answered wrong, and the first thinks of a family."""
    found = []
    for k in range(first, first + count):
        a, b, c = 11 + k, 7 + 2 * k, 5 + k
        question = f"State the final answer to the following arithmetic problem: {a} + {b} - {c} ="
        told = narrate(question, "chain_sum", k, terse_share=0.2)
        family = "Hmm, 👨‍👩‍👧 é, where was I? " if k == 0 else ""
        answer = str(a + b - c + (k % 5 == 4))
        reply = told.answer if told.finished else f"\\boxed{{{answer}}}"
        found.append({"k": str(k), "q": question, "a": answer, "s": f"{family}{told.thought}\n\n{reply}"})
    return found


def write_rows(made: Project_, found: list[dict[str, str]]) -> None:
    """The source file."""
    made.write_rows("sums.jsonl", found)


def taught(root: Path, recipe: str = RECIPE, count: int = 12) -> Project_:
    """The project, in git, with nothing run."""
    made = project(root, recipe, dvc=False)
    made.write("params.yaml", PARAMS)
    shutil.copytree(ROOT / "prompts", made.root / "prompts", dirs_exist_ok=True)
    for name, text in OPS.items():
        made.write(f"ops/{name}.py", text)
    write_rows(made, rows(count))
    begin(made)
    made.commit("begin")
    return made


def reproduced(factory: pytest.TempPathFactory, name: str) -> Project_:
    """A project of that name where recipe `one` has run, in git: copied, since it is run once for all tests of a session."""
    root = factory.mktemp(name) / "p"
    shutil.copytree(once(factory, "taught", _reproduced), root, symlinks=True)
    return Project_(root)


def _reproduced(root: Path) -> None:
    made = taught(root)
    made.repro()
    made.commit("reproduced")


def patterned(made: Project_, folder: Path) -> Project_:
    """A copy of a project in a folder whose name is a pattern too: of another folder's, where the same data files are empty."""
    there, other = Project_(folder / "p [ab]* 'q'?"), folder / "p a 'q'!"
    shutil.copytree(made.root, there.root, symlinks=True)
    for place in ("data", ".dvc/cache/files"):
        shutil.copytree(made.root / place, other / place, copy_function=lambda _, path: Path(path).touch())
    return there


def answered(made: Project_, *command: str) -> Any:
    """The JSON that drp prints in a project; asked in this process, since an interpreter takes longer to start than the answer."""
    out = io.StringIO()
    with contextlib.chdir(made.root), contextlib.redirect_stdout(out):
        assert main([*command, "--json"]) == 0
    return json.loads(out.getvalue())


def data(root: Path, stage: str, part: str = "", recipe: str = "one") -> dict[str, dict[str, Any]]:
    """The records of a stage by their ids, read with plain Python."""
    return {record["id"]: record for record in read(root / f"data/{recipe}/{stage}{part}.parquet")}
