"""What is paid when there is nothing to do: a warm no-op, the replay of stored completions, starting up.

python -m benchmarks.idle [--runs 7]
"""

import argparse
import statistics
from collections.abc import Iterator

from benchmarks.kills import reset
from benchmarks.loopback import serving
from benchmarks.scratch import scratch, timed
from benchmarks.table import Row, show, spread

GSM8K_TRAIN = 7473
RECIPE = """\
stages:
  questions: {{op: rows, size: {size}}}
  answers: {{op: ask, from: questions, model: m, prompt: ask}}
  loud: {{op: shout, from: answers}}
"""


def no_op(runs: int) -> Iterator[Row]:
    """`drp run` beside `dvc repro`, interleaved, when everything is up to date."""
    took: dict[str, list[float]] = {"drp": [], "dvc": []}
    with serving() as server, scratch(RECIPE.format(size=100), server.url, dvc=True) as made:
        timed(made, "drp", "run", "one")
        for _ in range(runs):
            took["dvc"].append(timed(made, "dvc", "repro", "recipes/one/dvc.yaml").seconds)
            took["drp"].append(timed(made, "drp", "run", "one").seconds)
    ratio = statistics.median(took["drp"]) / statistics.median(took["dvc"])
    beside = f"dvc repro {spread(took['dvc'])}"
    yield Row("warm no-op, `drp run`", spread(took["drp"]), beside, f"≤ 1.05: {ratio:.3f}", ratio <= 1.05)


def replay(runs: int) -> Iterator[Row]:
    """A stage whose answers are all stored, as a whole process; then one of a single record."""
    replayed = (GSM8K_TRAIN, f"replay of {GSM8K_TRAIN} stored completions", 3.0)
    for size, what, most in (replayed, (1, "start-up: a stage of one stored record", 0.3)):
        with serving() as server, scratch(RECIPE.format(size=size), server.url) as made:
            for stage in ("questions", "answers"):
                timed(made, "drp", "stage", "one", stage)
            reset(server.url)
            took = [timed(made, "drp", "stage", "one", "answers").seconds for _ in range(runs)]
            assert server.stats().requests == 0
        yield Row(what, spread(took), "", f"≤ {most} s", statistics.median(took) <= most)


def start(runs: int) -> Iterator[Row]:
    """The command line alone."""
    with scratch(RECIPE.format(size=1)) as made:
        for command in (("drp", "--help"), ("drp", "check"), ("drp", "status")):
            took = [timed(made, *command).seconds for _ in range(runs)]
            yield Row(f"start-up: `{' '.join(command)}`", spread(took), "", "≤ 0.3 s", statistics.median(took) <= 0.3)


def rows(runs: int = 7) -> Iterator[Row]:
    """All of them."""
    yield from no_op(runs)
    yield from replay(runs)
    yield from start(runs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    show(rows(parser.parse_args().runs))
