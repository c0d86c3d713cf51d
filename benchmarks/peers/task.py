"""The task that every peer is given: chat requests whose answers can be checked; how a run is reported."""

import json
import resource
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.loopback import answer

IN_FLIGHT = 64
MODEL = "loopback"
KEY = "unused"
REVIEW = "Check this answer: "
"""The second call of a chain asks this, followed by the answer of the first; the first asks the question as it is."""


@dataclass(frozen=True)
class Task:
    """What the command line asks for: URL (ending in `/v1`), number of requests, a folder of the run's own."""

    url: str
    requests: int
    out: Path

    def questions(self, calls: int) -> list[str]:
        """The questions to ask, where each is worth so many calls."""
        return [f"How many legs do {number} spiders have?" for number in range(self.requests // calls)]


def given() -> Task:
    """The task, as the driver put it on the command line."""
    url, requests, out = sys.argv[1:]
    return Task(url, int(requests), Path(out))


def report(framework: str, distribution: str, seconds: float, calls: int, answers: Iterable[tuple[str, str]]) -> None:
    """Check the (question, last answer) pairs of a run and print its line; a wrong answer ends the program."""
    rows = 0
    for question, said in answers:
        rows += 1
        due = answer(question) if calls == 1 else answer(REVIEW + answer(question))
        if said != due:
            sys.exit(f"{framework}: to {question!r} the last answer is {said!r}, not {due!r}")
    line = {
        "framework": framework,
        "version": version(distribution),
        "requests": rows * calls,
        "seconds": seconds,
        "rss_mb": _peak(resource.RUSAGE_SELF),
        "worker_rss_mb": _peak(resource.RUSAGE_CHILDREN),
    }
    print(json.dumps(line), flush=True)


def _peak(who: int) -> int:
    """The most memory that this process, or the largest child that it waited for, had in use, in MB."""
    return resource.getrusage(who).ru_maxrss // 1024
