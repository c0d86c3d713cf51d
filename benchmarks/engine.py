"""Throughput: a stage from its input to its Parquet, beside a bare loop that makes each answer durable.

python -m benchmarks.engine [--rows 2000 20000] [--runs 5]
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence

from benchmarks.kills import reset
from benchmarks.loopback import Stats, answer, serving
from benchmarks.scratch import ROOT, scratch, timed
from benchmarks.table import Row, show, spread
from drp.records import read

RECIPE = """\
stages:
  questions: {{op: rows, size: {size}}}
  answers: {{op: ask, from: questions, model: m, prompt: ask}}
"""
DELAY = 0.02
GOAL = 0.8


def measure(size: int, runs: int) -> Iterator[Row]:
    """`size` requests, server 20 ms, 64 in flight; whole processes, one after the other, interleaved."""
    with serving(DELAY) as server, scratch(RECIPE.format(size=size), server.url) as made:
        timed(made, "drp", "stage", "one", "questions")
        took: dict[str, list[float]] = {"drp": [], "journal": [], "sqlite": []}
        for run in range(runs):
            for way in ("journal", "sqlite"):
                bare = (sys.executable, str(ROOT / "benchmarks/bare.py"), server.url, str(size), f"{run}.{way}", way)
                reset(server.url)
                took[way].append(timed(made, *bare).seconds)
                assert server.stats() == Stats(size, 0, size, server.stats().most_in_flight)
            reset(server.url)
            took["drp"].append(timed(made, "drp", "stage", "one", "answers", DRP_CACHE=str(made.root / f"cache-{run}")).seconds)
            assert server.stats() == Stats(size, 0, size, server.stats().most_in_flight)
            assert all(r["reply"] == answer(r["text"].strip()) for r in read(made.root / "data/one/answers.parquet"))
    rate = lambda seconds: f"{size / statistics.median(seconds):.0f}/s"
    quickest = min(("journal", "sqlite"), key=lambda way: statistics.median(took[way]))
    ratio = statistics.median(took[quickest]) / statistics.median(took["drp"])
    yield Row(
        f"{size} requests, 20 ms, 64 in flight: stage in, Parquet out",
        f"{spread(took['drp'])}, {rate(took['drp'])}",
        "bare loop: " + "; ".join(f"{way} {spread(took[way])}, {rate(took[way])}" for way in ("journal", "sqlite")),
        f"≥ {GOAL} of the quicker bare loop: {ratio:.2f}",
        ratio >= GOAL,
    )


def rows(sizes: Sequence[int] = (2000, 20000), runs: int = 5) -> Iterator[Row]:
    """A row for each size."""
    for size in sizes:
        yield from measure(size, runs if size <= 5000 else min(3, runs))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    show(rows(given.rows, given.runs))
