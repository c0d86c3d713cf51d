"""Lineage at a million records: bytes of its trail, seconds of its answers, and whether they are the truth.

    python -m benchmarks.lineage [--records 1000000] [--at FOLDER]

The corpus is invented (`benchmarks.corpus`; minutes and 4 GB for a million), in a folder of its own, or the one that lies in
FOLDER. Answers of a random sample are held against the generator's truth and against a recount of whole files; one that differs
ends the benchmark. Files are in the page cache. What recording costs is `benchmarks.recording`'s.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq

from benchmarks.accounts import Account, answered, answered_sentence, invented, invented_sentences, recounted
from benchmarks.corpus import build
from benchmarks.invented import STAGES, Corpus
from benchmarks.table import Row, show
from drp.lineage.branch import Branch
from drp.lineage.subject import Lineage
from drp.lineage.tables import unglobbed
from drp.lineage.used import used
from drp.lineage.why import why
from drp.project import Project
from tests.projects import Project_

BYTES, COLD, WARM = 25.0, 1.0, 0.05
COLD_IDS, WARM_IDS, SAMPLE, SENTENCES = 9, 100, 200, 10
TRAILS = ("steps", "edits", "pruned")


def bytes_a_step(root: Path) -> Iterator[Row]:
    """The size of each trail by its rows, and of all three by the steps of the thoughts."""
    sizes, counts = [], []
    for stage in TRAILS:
        path = root / f"data/big/{stage}.trail.parquet"
        sizes.append(path.stat().st_size)
        counts.append(pq.read_metadata(path).num_rows)
        each = sizes[-1] / counts[-1]
        yield Row(f"trail of `{stage}`, {counts[-1]} rows", f"{each:.1f} bytes a row", f"{sizes[-1] / 1e6:.0f} MB",
                  f"≤ {BYTES:.0f}", each <= BYTES)  # fmt: skip
    yield Row("all three trails", f"{sum(sizes) / sum(counts):.1f} bytes a row",
              f"{sum(sizes) / counts[0]:.1f} for each of {counts[0]} steps, in the three together")  # fmt: skip


def cold(root: Path, *command: str, code: int = 0) -> tuple[float, float]:
    """Seconds of wall clock, and of processor time, of a fresh process; its answer must be JSON, unless it is to fail."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=root, env=Project_(root).env(), capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != code:
        sys.exit(f"{' '.join(command)} exited {done.returncode}:\n{done.stderr}")
    if not code:
        json.loads(done.stdout)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cold_row(root: Path, what: str, commands: Sequence[Sequence[str]], goal: float | None, code: int = 0) -> Row:
    """The median of some fresh processes."""
    took = [cold(root, "drp", *command, "--json", code=code) for command in commands]
    wall, busy = ([each[part] for each in took] for part in (0, 1))
    middle = statistics.median(wall)
    return Row(
        f"{what}, cold process", f"{middle:.2f} s ({min(wall):.2f}–{max(wall):.2f}, {len(took)} times)",
        f"{statistics.median(busy):.2f} s of processor time", "" if goal is None else f"≤ {goal:g} s",
        None if goal is None else middle <= goal,
    )  # fmt: skip


def warm_row(what: str, ask: Callable[[str], Branch], records: Sequence[str]) -> Row:
    """The median over records, in this process, after some others."""
    for record in records[:3]:
        ask(record)
    took = []
    for record in records[3:]:
        began = time.perf_counter()
        ask(record)
        took.append(time.perf_counter() - began)
    middle = statistics.median(took)
    return Row(
        f"{what}, warm, {len(took)} random records", f"{1000 * middle:.1f} ms", f"worst {1000 * max(took):.1f} ms",
        f"≤ {1000 * WARM:.0f} ms", middle <= WARM,
    )  # fmt: skip


def lookup_row(lineage: Lineage, stage: str, records: Sequence[str]) -> Row:
    """One row of a stage's file by its id: bisected, and as DuckDB finds it; both in this process, in turn."""
    tables, node = lineage.tables, lineage.graph.nodes[f"big/{stage}"]
    file, took = unglobbed(tables.file(node)), ([], [])
    for record in records:
        began = time.perf_counter()
        bisected = tables.row(node, record, "id", "question")
        between = time.perf_counter()
        found = tables.query("select id, question from read_parquet(?) where id = ?", [file, record])
        took[0].append(between - began)
        took[1].append(time.perf_counter() - between)
        if found != ([bisected] if bisected else []):
            sys.exit(f"{record}: bisected {bisected}, DuckDB {found}")
    ours, theirs = (1000 * statistics.median(each[3:]) for each in took)
    return Row(f"one record of `{stage}` by its id, two columns, warm, {len(records) - 3} random records", f"{ours:.1f} ms",
               f"DuckDB's `where id = …`: {theirs:.1f} ms")  # fmt: skip


def true(root: Path, corpus: Corpus, lineage: Lineage, numbers: Sequence[int]) -> Iterator[Row]:
    """Answers beside the generator's truth and a recount; the benchmark ends where one differs."""
    known = invented(corpus, numbers)
    began = time.perf_counter()
    counted = recounted(root, list(known))
    seconds = time.perf_counter() - began
    for record, account in known.items():
        _same(record, answered(lineage, record), account, "why and used")
        _same(record, counted[record], account, "the recount")
    yield Row(f"answers to {len(known)} random records", "all equal", f"the generator's truth, and a recount ({seconds:.0f} s)",
              "equal", True)  # fmt: skip
    asked = 0
    for record, number in zip(known, numbers, strict=True):
        if asked < SENTENCES and known[record]["learned"]:
            text, sentence = random.Random(number).choice(invented_sentences(corpus, number))
            if answered_sentence(lineage, record, text, sentence["start"]) != sentence:
                sys.exit(f"{record}: {text!r}: another answer than the truth {sentence}")
            asked += 1
    yield Row(f"answers to {asked} random sentences", "all equal", "the generator's truth", "equal", True)


def _same(record: str, said: Account, account: Account, who: str) -> None:
    for key, value in account.items():
        if said[key] != value:
            sys.exit(f"{record}: {key}: {who} say {said[key]}, the truth is {value}")


def rows(records: int = 1_000_000, at: Path | None = None) -> Iterator[Row]:
    """A row for each measure."""
    corpus = Corpus(records)
    with nullcontext(str(at)) if at else TemporaryDirectory(prefix="drp-bench-") as folder:
        root = Path(folder) if at else Path(folder) / "p"
        if not root.exists():
            began = time.perf_counter()
            build(root, corpus)
            yield Row(f"a corpus of {records} records, made", f"{time.perf_counter() - began:.0f} s")
        yield from bytes_a_step(root)
        yield from _answers(root, corpus)


def _answers(root: Path, corpus: Corpus) -> Iterator[Row]:
    chance = random.Random(corpus.records)
    numbers = chance.sample(range(corpus.records), min(corpus.records, max(SAMPLE, WARM_IDS + 3, COLD_IDS)))
    ids = [f"{name}/000" for name in corpus.ids(np.array(numbers)).to_pylist()]
    some = ids[:COLD_IDS]
    for command in ("why", "used"):
        yield cold_row(root, f"`drp {command} ID`", [(command, name) for name in some], COLD)
    for command in ("why", "used"):
        yield cold_row(root, f"`drp {command} QUESTION`", [(command, name[:16]) for name in some], None)
    through = [number for number in numbers if corpus.last(np.array([number]))[0] == len(STAGES)]
    sentences = [invented_sentences(corpus, number)[-1][0] for number in through[:3]]
    yield cold_row(root, '`drp why "a sentence"`', [("why", text) for text in sentences], None)
    yield cold_row(root, '`drp why "a text that stands nowhere"`', [("why", "No sentence of this corpus says so.")], None, 1)
    lineage = Lineage(Project(root))
    yield lookup_row(lineage, "traces", ids[: WARM_IDS + 3])
    yield lookup_row(lineage, "edits", ids[: WARM_IDS + 3])
    yield warm_row("`why(record)`", lambda name: why(lineage, lineage.subject(name)), ids[: WARM_IDS + 3])
    yield warm_row("`used(record)`", lambda name: used(lineage, lineage.subject(name)), ids[: WARM_IDS + 3])
    yield from true(root, corpus, lineage, numbers[:SAMPLE])
    lineage.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--at", type=Path, help="a folder that has, or will have, the corpus of so many records")
    given = parser.parse_args()
    show(rows(given.records, given.at.resolve() if given.at else None))
