"""The table that every benchmark adds its rows to: what, how much, beside what, and whether the goal is met."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One line: what was measured, the measurement, its reference, and the goal with what became of it."""

    what: str
    measured: str
    beside: str = ""
    goal: str = ""
    met: bool | None = None


def spread(values: Sequence[float], unit: str = "s", digits: int = 2) -> str:
    """The median with the least and the greatest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} {unit} ({low:.{digits}f}–{high:.{digits}f})"


def machine() -> str:
    """The machine, as far as it matters to a timing."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}, load {load}"


MARKS = {True: "yes", False: "**no**", None: ""}


def show(rows: Iterable[Row]) -> None:
    """Print the machine, and the rows as a Markdown table, each as it comes."""
    print(machine(), "", "| what | measured | beside | goal | met |", "|---|---|---|---|---|", sep="\n", flush=True)
    for row in rows:
        print(f"| {row.what} | {row.measured} | {row.beside} | {row.goal} | {MARKS[row.met]} |", flush=True)
