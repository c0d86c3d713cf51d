"""What the trail costs a stage that writes it: making its rows and writing them, done once more alone, as a share of the stage.

    python -m benchmarks.recording [--records 4000]

Real stages (segment, edit, reassemble) with the rules teacher over narrated traces, in this process, without the interpreter's
start: once with every answer new, then with every answer stored. While one runs, nothing is patched or timed but the whole; its
outcomes are kept, and afterwards their trail rows are made and written again. Each run has a process of its own, for a process
that has run a stage is held to that stage's files. Seconds are of processor time, the teacher's included: less than wall clock.
"""

import argparse
import gc
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.scratch import ROOT
from benchmarks.table import Row, show
from drp.insisting import Understood
from drp.ops import edit, reassemble, segment
from drp.pipeline.progress import Progress
from drp.pipeline.stage import Run, find
from drp.project import Project
from drp.records import Kept, Outcome, Record, TrailRow, TrailWriter
from tests.projects import Project_, project

RECIPE = """\
stages:
  sums: {{op: load, source: "gym://chain_sum", size: {half}, seed: 50, settings: {{min_terms: 3, max_terms: 4}}}}
  legs: {{op: load, source: "gym://leg_counting", size: {half}, seed: 50, settings: {{min_animals: 2, max_animals: 3}}}}
  questions: {{op: mix, from: [sums, legs]}}
  traces: {{op: narrate, from: questions}}
  steps: {{op: segment, from: traces, by: skill, model: teacher, prompt: segment}}
  edits: {{op: edit, from: steps, model: teacher, prompt: edit}}
  pruned: {{op: reassemble, from: edits, model: teacher, prompt: reassemble}}
"""
PARAMS = "models:\n  teacher: {name: rules, sampling: {temperature: 0.0, max_tokens: 32768}}\nrun:\n  teacher: {backend: rules}\n"
STAGES = ("steps", "edits", "pruned")
REPLAYS, AGAIN = 3, 5
"""Runs with stored answers; times that the rows are made and written."""
MOST = 0.03

Trail = tuple[TrailRow, ...]


class Cost(NamedTuple):
    """Seconds of a run, of making its trail's rows, and of writing them; how many records and rows."""

    run: float
    making: float
    writing: float
    records: int
    rows: int


class Noted(Run):
    """A run that keeps its outcomes."""

    kept: list[Kept]

    def _write(self, outcomes: Iterable[Outcome], step: Callable[[Outcome], None]) -> None:
        self.kept = []
        super()._write(self._noting(outcomes), step)

    def _noting(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        for outcome in outcomes:
            if isinstance(outcome, Kept):
                self.kept.append(outcome)
            yield outcome


def _segmented(record: Record, trail: Trail) -> Trail:
    return segment._kept(record, record["steps"], [row.completion for row in trail]).trail


def _edited(record: Record, trail: Trail) -> Trail:
    return edit._kept(record, Understood((record["actions"], None), str(trail[0].completion))).trail


def _reassembled(record: Record, trail: Trail) -> Trail:
    return tuple(reassemble._trail(record, record["pruned"], record["sentences"], trail[0].completion))


MAKERS: dict[str, Callable[[Record, Trail], Trail]] = {"steps": _segmented, "edits": _edited, "pruned": _reassembled}
"""What of each op makes the rows (of the first two, with the record that it keeps: the cost is a little less than measured)."""


def ran(root: Path, out: Path, stage: str) -> Cost:
    """Run the stage, then make and write its rows again; once for each process."""
    gc.set_threshold(20_000, 20, 50)  # as `drp stage` does
    gc.freeze()
    with chdir(root):
        here = Project(root)
        run = Noted(here, find(here, "one", stage)[1])
        began = time.process_time()
        with Progress(here.scratch / "progress", "one", stage) as progress:
            run.run(progress)
        seconds = time.process_time() - began
    gc.freeze()  # what is kept here would not be there in a stage, nor be looked through again and again
    costs = [cost(out, stage, run.kept) for _ in range(AGAIN)]
    making, writing = (statistics.median(part) for part in zip(*costs, strict=True))
    return Cost(seconds, making, writing, len(run.kept), sum(len(outcome.trail) for outcome in run.kept))


def cost(out: Path, stage: str, kept: Sequence[Kept]) -> tuple[float, float]:
    """Seconds of making the rows, and of writing them, once more, a record after the other as a stage does; they are the same."""
    making, writing, clock = 0.0, 0.0, time.process_time
    with TrailWriter(out) as trail:
        for outcome in kept:
            MAKERS[stage](outcome.record, outcome.trail)  # by then, an op has just handled what they are made of
            began = clock()
            made = MAKERS[stage](outcome.record, outcome.trail)
            between = clock()
            trail.extend(made)
            writing += clock() - between
            making += between - began
            assert made == outcome.trail, f"{stage}: other rows than it wrote"
        began = clock()
    return making, writing + clock() - began


def alone(root: Path, out: Path, stage: str) -> Cost:
    """`ran`, in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(ran, root, out, stage).result()


def prepared(folder: Path, size: int) -> Project_:
    """A project with narrated traces."""
    made = project(folder, RECIPE.format(half=size // 2), dvc=False)
    made.write("params.yaml", PARAMS)
    for file in (ROOT / "prompts").glob("*.j2"):
        made.write(f"prompts/{file.name}", file.read_text(encoding="utf-8"))
    made.run("drp", "compile")
    for stage in ("sums", "legs", "questions", "traces"):
        made.run("drp", "stage", "one", stage)
    return made


def rows(size: int = 4000) -> Iterator[Row]:
    """A row for each stage."""
    with TemporaryDirectory(prefix="drp-bench-") as folder:
        made, out = prepared(Path(folder) / "p", size), Path(folder) / "again.parquet"
        os.environ.pop("DRP_CACHE", None)
        for stage in STAGES:
            new = alone(made.root, out, stage)
            stored = [alone(made.root, out, stage) for _ in range(REPLAYS)]
            again = statistics.median(c.run for c in stored)
            spent = statistics.median(c.making + c.writing for c in (new, *stored))
            yield Row(
                f"recording the trail: `{stage}`, {new.records} records, {new.rows} rows, rules teacher",
                f"{100 * spent / new.run:.1f} % of {new.run:.1f} s",
                f"all answers stored: {100 * spent / again:.1f} % of {again:.1f} s; rows made in {new.making:.2f} s, written in "
                f"{new.writing:.2f} s",
                f"≤ {100 * MOST:.0f} %",
                spent <= MOST * new.run,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=4000)
    show(rows(parser.parse_args().records))
