"""kill -9 at a random moment, many times: what is asked again, and whether the file comes out the same.

    python -m benchmarks.kills [--times 100] [--rows 600]

Each time: a fresh store, `drp stage` with default settings, its whole process group killed when the server has seen a random
number of its requests, then the same command to its end. Asked again = requests that the server saw, less the rows.
"""

import argparse
import hashlib
import os
import random
import signal
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.loopback import Served, serving
from benchmarks.scratch import scratch, timed
from benchmarks.table import Row, show
from tests.projects import Project_

RECIPE = """\
stages:
  questions: {{op: rows, size: {size}}}
  answers: {{op: ask, from: questions, model: m, prompt: ask}}
"""
STAGE = ("drp", "stage", "one", "answers")
IN_FLIGHT = 64


def rows(times: int = 100, size: int = 600, seed: int = 0) -> Iterator[Row]:
    """One row: the most that was asked again, and whether every file was the uninterrupted run's."""
    draw = random.Random(seed)
    with serving(0.02) as server, scratch(RECIPE.format(size=size), server.url) as made:
        timed(made, "drp", "stage", "one", "questions")
        timed(made, *STAGE, DRP_CACHE=str(made.root / "whole"))
        wanted = digest(made)
        again: list[int] = []
        killed = different = 0
        for time_ in range(times):
            reset(server.url)
            (made.root / "data/one/answers.parquet").unlink(missing_ok=True)
            cache = str(made.root / f"cache-{time_}")
            killed += kill(made, server, cache, draw.randrange(1, size))
            timed(made, *STAGE, DRP_CACHE=cache)
            again.append(server.stats().requests - size)
            different += digest(made) != wanted
    yield Row(
        f"kill -9 at a random moment, {times} times ({killed} hit a running stage), {size} requests",
        f"asked again: {statistics.median(again):.0f} (median), {max(again)} (most); different files: {different}",
        "",
        f"≤ {IN_FLIGHT} in flight; 0 different",
        max(again) <= IN_FLIGHT and not different,
    )


def kill(made: Project_, server: Served, cache: str, after: int) -> bool:
    """Start the stage, kill its group when it has sent so many requests; whether it was still running."""
    process = subprocess.Popen(
        STAGE, cwd=made.root, env={**made.env(), "DRP_CACHE": cache}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while server.stats().requests < after and process.poll() is None:
        time.sleep(0.001)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return running


def digest(made: Project_) -> str:
    """The hash of the stage's output."""
    return hashlib.sha256(Path(made.root / "data/one/answers.parquet").read_bytes()).hexdigest()


def reset(url: str) -> None:
    """Make the server count from zero."""
    with urllib.request.urlopen(urllib.request.Request(url.removesuffix("/v1") + "/reset", method="POST"), timeout=5):
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--rows", type=int, default=600)
    given = parser.parse_args()
    show(rows(given.times, given.rows))
