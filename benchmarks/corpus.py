"""A project whose lineage is known: invented records in every stage's files as drp writes them, locked by DVC, committed to git.

    python -m benchmarks.corpus FOLDER [--records 1000000] [--seed 0]

What a model or a trainer would have made is written directly (`Written`); `exam`, `extra`, `both` and `table` are real runs.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.invented import STAGES, Chunk, Corpus
from drp.fingerprint import seed_of
from drp.pipeline.stage import Run, find
from drp.project import Project
from drp.records import ROWS, TRAIL_ROWS, DroppedRow, Writer, read, schema_of, trail_schema
from tests.projects import Project_

SOURCE = Path(__file__).parents[1]
TOGETHER = 16384
"""Records made at once."""
ITEMS, EXTRA, SHARED = 1000, 1500, 500
"""Questions of the exam; of `extra`; of those, how many are the exam's."""
MODELS = ("base", "drp")
TOKENS = {"traces": 180, "steps": 60, "edits": 200, "pruned": 150}
"""Completion tokens of a record, in the stages that ask."""
RECIPE = """\
description: Invented records, whose lineage is known
models: {student: student, teacher: teacher}
stages:
  questions: {op: load, source: sources/questions.jsonl, key: row}
  traces: {op: generate, from: questions, model: student, prompt: solve, samples: 1}
  correct: {op: verify, from: traces, keep: correct}
  steps: {op: segment, from: correct, by: skill, model: teacher, prompt: segment}
  edits: {op: edit, from: steps, model: teacher, prompt: edit}
  pruned: {op: reassemble, from: edits, model: teacher, prompt: reassemble}
  targets: {op: verify, from: pruned, keep: correct}
  adapter: {op: sft, from: targets, model: student, prompt: solve, epochs: 3, batch_size: 8}
  exam: {op: load, source: sources/exam.jsonl}
  scores: {op: evaluate, models: {base: student, drp: adapter}, on: [exam], prompt: solve, runs: 1, cutoff: 4096}
  table: {op: compare, from: scores, base: base}
"""
MIXED = """\
description: The exam, mixed with questions of which a third are its own
extends: big
stages:
  extra: {op: load, source: sources/extra.jsonl}
  both: {op: mix, from: [exam, extra]}
"""
PARAMS = """\
models:
  student: {name: invented/student, revision: "1", sampling: {temperature: 0.6, max_tokens: 4096}}
  teacher: {name: invented-teacher, sampling: {temperature: 0.0, max_tokens: 4096}}
run:
  student: {backend: openai, base_url: "http://127.0.0.1:9/v1"}
  teacher: {backend: openai, base_url: "http://127.0.0.1:9/v1"}
"""
PROMPTS = ("solve", "segment", "edit", "reassemble")


class Bulk(Writer):
    """A writer that takes whole tables: the same row groups, the same settings."""

    def __init__(self, path: Path, schema: pa.Schema, key: str, group: int) -> None:
        super().__init__(path, schema, key, group=group)
        self._waiting = schema.empty_table()

    def extend(self, table: pa.Table) -> None:
        """More rows."""
        self.rows += table.num_rows
        table = pa.concat_tables([self._waiting, table.replace_schema_metadata(self.schema.metadata)])
        whole = table.num_rows - table.num_rows % self.group
        for start in range(0, whole, self.group):
            self._file.write_table(table.slice(start, self.group).combine_chunks(), row_group_size=self.group)
        self._waiting = table.slice(whole).combine_chunks()

    def __enter__(self) -> "Bulk":
        return self

    def _flush(self) -> None:
        if self._waiting.num_rows:
            self._file.write_table(self._waiting, row_group_size=self.group)


Tables = Iterator[tuple[str, pa.Table | Callable[[pa.Schema], pa.Table]]]
"""("", records), ("dropped", rows) and ("trail", rows), as they come; records wait for the stage's schema."""


class _Counted:
    """A call of an op that makes nothing, of a stage that read so many records; and work that was asked so much."""

    def __init__(self, read: int, tokens: int) -> None:
        self.read, self.tokens = read, tokens

    def usage(self) -> dict[str, Any]:
        """As `StageWork`."""
        asked = {"completions": self.read, "finish_stop": self.read, "completion_tokens": self.tokens * self.read}
        return {**(asked if self.tokens else {}), "served": []}


class Written(Run):
    """A run of a stage whose rows are given: all but the op's work is drp's own (schemas, manifest, hashes, publishing)."""

    def publish(self, tables: Tables, counted: Any) -> None:
        """Write the rows, and all that stands beside them."""
        self.call = counted
        shutil.rmtree(self.part, ignore_errors=True)
        self.part.mkdir(parents=True)
        self._write_tables(tables)
        if self.stage.op.makes_model:
            folder = self.part / "model"
            folder.mkdir()
            (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8}) + "\n", encoding="utf-8")
            (folder / "adapter_model.safetensors").write_bytes(bytes(1 << 20))
        self._manifest(counted)
        self._publish()
        shutil.rmtree(self.part)

    def _write_tables(self, tables: Tables) -> None:
        schema, base = self._schema(), self.part / self.ref.name
        with (
            Bulk(Path(f"{base}.parquet"), schema, "id", ROWS) as kept,
            Bulk(Path(f"{base}.dropped.parquet"), schema_of(DroppedRow), "id", ROWS) as dropped,
            Bulk(Path(f"{base}.trail.parquet"), trail_schema(self._told()), "record", TRAIL_ROWS) as trail,
        ):
            files = {"": kept, "dropped": dropped, "trail": trail}
            for kind, table in tables:
                rows = table(schema) if callable(table) else table
                files[kind].extend(rows)
                if kind == "dropped":
                    self.counts.update(rows["reason"].to_pylist())
        self.counts["kept"] = kept.rows


def build(folder: Path, corpus: Corpus, say: Callable[[str], None] = lambda text: None) -> Project_:
    """The whole project in an empty folder: sources, stages, locks, two commits."""
    made = Project_(folder)
    _sources(made, corpus)
    for name, text in (("big", RECIPE), ("mixed", MIXED)):
        made.write(f"recipes/{name}/recipe.yaml", text)
    made.write("params.yaml", PARAMS)
    made.write(".gitignore", "/data/\n/models/\n/sources/*.jsonl\n")
    made.write(".dvcignore", "__pycache__\n")
    (folder / "prompts").mkdir()
    for file in _closure():
        shutil.copy(SOURCE / "prompts" / file, folder / "prompts" / file)
    made.run("git", "init", "-q", "-b", "main")
    made.run("dvc", "init", "-q")
    made.run("dvc", "config", "cache.type", "hardlink,symlink,copy")
    made.run("drp", "compile")
    made.commit("The recipes")
    made.run("drp", "stage", "big", "exam")
    for stage in (*STAGES, "scores"):
        began = time.perf_counter()
        _write(made, corpus, stage)
        say(f"{stage}: {time.perf_counter() - began:.0f} s")
    for recipe, stage in (("big", "table"), ("mixed", "extra"), ("mixed", "both")):
        made.run("drp", "stage", recipe, stage)
    for recipe in ("big", "mixed"):
        made.run("drp", "counts", recipe)
    made.run("dvc", "commit", "-q", "-f", "-R", "recipes")
    say("locked")
    made.commit("Reproduced")
    return made


def _closure() -> list[str]:
    found = {path.name for name in PROMPTS for path in Project(SOURCE).prompt(name).closure}
    return sorted(found)


def _sources(made: Project_, corpus: Corpus) -> None:
    """The files that the questions come from; row r of the first holds the question whose `row` is r."""
    folder = made.root / "sources"
    folder.mkdir(parents=True)
    rows = np.arange(corpus.records)
    inverse = pow(1_000_003, -1, corpus.records) if corpus.records > 1 else 0
    numbers = (rows - 7) % corpus.records * inverse % corpus.records
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as file:
        for start in range(0, len(rows), TOGETHER):
            columns = Chunk(corpus, numbers[start : start + TOGETHER]).questions
            table = pa.table({name: columns[name] for name in ("row", "question", "answer")})
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())
    exam, extra = (list(questions(name)) for name in ("exam", "extra"))
    for name, found in (("exam", exam), ("extra", extra)):
        lines = "".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in found)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def questions(name: str) -> Iterator[tuple[str, str]]:
    """(question, answer) of `exam` and of `extra`, whose first ones are the exam's."""
    for k in range(ITEMS if name == "exam" else EXTRA):
        word = "exam" if name == "exam" or k < SHARED else "extra"
        a, b = seed_of(word, k, "a") % 900 + 10, seed_of(word, k, "b") % 900 + 10
        yield f"Question {k} of the {word}: what do {a} and {b} make together?", str(a + b)


def _write(made: Project_, corpus: Corpus, name: str) -> None:
    project = Project(made.root)
    tables = scores(project) if name == "scores" else stage_tables(corpus, name)
    read = 0
    if name in STAGES[1:]:
        read = int((corpus.last(np.arange(corpus.records)) >= STAGES.index(name)).sum())
    with chdir(made.root):
        run = Written(project, find(project, "big", name)[1])
        run.publish(tables, _Counted(read, TOKENS.get(name, 0)))


def stage_tables(corpus: Corpus, stage: str) -> Tables:
    """A stage's rows, some thousand records at a time."""
    place = STAGES.index(stage)
    for start in range(0, corpus.records, TOGETHER):
        numbers = np.arange(start, min(start + TOGETHER, corpus.records))
        last = corpus.last(numbers)
        chunk = Chunk(corpus, numbers[last > place])
        yield "", lambda schema, chunk=chunk: chunk.table(stage, schema)  # type: ignore[misc]
        if (last == place).any():
            yield "dropped", Chunk(corpus, numbers[last == place]).dropped(stage)
        if (trail := chunk.trail(stage)) is not None:
            yield "trail", trail


def scores(project: Project) -> Tables:
    """The answers of both models to the exam: the base knows two in five, the adapter one in two; it needs fewer tokens."""
    rows = [_answer(label, item) for label in MODELS for item in read(project.root / "data/big/exam.parquet")]
    for start in range(0, len(rows), TOGETHER):
        yield "", lambda schema, part=rows[start : start + TOGETHER]: pa.Table.from_pylist(part, schema=schema)  # type: ignore[misc]


def _answer(label: str, item: dict[str, Any]) -> dict[str, Any]:
    drawn = seed_of(label, item["id"]) % 1000
    right, tokens = drawn < (400 if label == "base" else 500), (400 if label == "base" else 250) + drawn % 97
    prediction = item["answer"] if right else str(int(item["answer"]) + 1)
    reply = f"The answer is \\boxed{{{prediction}}}."
    return {
        "id": f"exam/{label}/{item['id']}/000", "suite": "exam", "model": label, "item": item["id"], "run": 0,
        "question": item["question"], "answer": item["answer"], "response": f"So I add.\n</think>\n\n{reply}", "reply": reply,
        "finish": "stop", "generated": tokens, "tokens": tokens, "thought_tokens": None, "truncated": False, "looped": False,
        "counted": True, "prediction": prediction, "correct": right, "verdict": "right" if right else "wrong", "cutoff": 4096,
        "cutoff_mode": "fail", "completion": "".join(f"{seed_of(label, item['id'], k):016x}" for k in range(4)),
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    build(given.folder.resolve(), Corpus(given.records, given.seed), lambda text: print(text, flush=True))
