"""Memory: the largest resident set of a stage with two calls a row, at 100 thousand rows and at a million.

    python -m benchmarks.memory [--rows 100000 1000000] [--http]

By default the model is a backend in the process that answers at once (the rules teacher), so that a million rows take
minutes; with `--http` it is the loopback server. The store, the dialogues, the trail and the Parquet writer are the same.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from benchmarks.loopback import serving
from benchmarks.scratch import scratch, timed
from benchmarks.table import Row, show

RECIPE = """\
stages:
  questions: {{op: rows, size: {size}}}
  answers: {{op: chain, from: questions, model: m, first: first, second: second}}
"""
RULES = """\
models:
  m: {name: rules, sampling: {max_tokens: 256}}
run:
  m: {backend: rules}
"""
SENTENCES = "Cut this:\n<sentences>\n[1] {{ text }}\n</sentences>\n"
MOST, GROWTH = 150.0, 1.2


def measure(size: int, http: bool) -> tuple[float, float]:
    """(MiB at the most, seconds) of the asking stage at that size."""
    with serving(0.0) if http else nullcontext() as server, scratch(RECIPE.format(size=size)) as made:
        if server is None:
            made.write("params.yaml", RULES)
            made.write("prompts/first.j2", SENTENCES)
            made.write("prompts/second.j2", "Cut that:\n<sentences>\n[1] {{ text }}\n</sentences>\n")
        else:
            path = made.root / "params.yaml"
            path.write_text(path.read_text().replace("http://127.0.0.1:9/v1", server.url))
        made.run("drp", "compile")
        timed(made, "drp", "stage", "one", "questions")
        took = timed(made, "drp", "stage", "one", "answers")
        return took.peak, took.seconds


def rows(sizes: Sequence[int] = (100_000, 1_000_000), http: bool = False) -> Iterator[Row]:
    """A row for each size."""
    peaks: list[float] = []
    for size in sizes:
        peak, seconds = measure(size, http)
        peaks.append(peak)
        limit = MOST if len(peaks) == 1 else GROWTH * peaks[0]
        yield Row(
            f"{size} rows × 2 calls, {'loopback server' if http else 'in process'}",
            f"{peak:.0f} MiB at the most",
            f"{seconds:.0f} s, {2 * size / seconds:.0f} completions/s",
            f"≤ {limit:.0f} MiB" + ("" if len(peaks) == 1 else f" ({GROWTH}×)"),
            peak <= limit,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--http", action="store_true")
    given = parser.parse_args()
    show(rows(given.rows, given.http))
