"""Sorting more than memory holds: sorted runs on disk, merged as they are read."""

import heapq
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")
RUN = 20_000
"""Values in a run: what is held in memory at once."""


def in_order(values: Iterable[T], key: Callable[[T], Any], folder: Path, run: int = RUN) -> Iterator[T]:
    """The values sorted by `key`, equal ones in the order in which they came. Needs room in `folder` beyond one run."""
    source = iter(values)
    first = sorted(islice(source, run), key=key)
    second = sorted(islice(source, run), key=key)
    if not second:
        yield from first
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="sort-") as place:
        runs: list[Path] = []
        while first:
            runs.append(Path(place) / str(len(runs)))
            _write(first, runs[-1])
            first, second = second, sorted(islice(source, run), key=key) if second else []
        yield from heapq.merge(*map(_read, runs), key=key)


def _write(values: list[Any], path: Path) -> None:
    with path.open("wb") as file:
        for value in values:
            pickle.dump(value, file, pickle.HIGHEST_PROTOCOL)


def _read(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        yield from _values(file)


def _values(file: IO[bytes]) -> Iterator[Any]:
    while True:
        try:
            yield pickle.load(file)
        except EOFError:
            return
