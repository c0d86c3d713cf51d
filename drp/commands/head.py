"""Print records of a stage's output."""

import argparse
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

from drp.errors import DataError

if TYPE_CHECKING:
    from drp.records import Record


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("file", type=Path, metavar="PARQUET")
    parser.add_argument("-n", type=int, default=1, help="how many (default: 1)")
    parser.add_argument("--id", help="only the record with this id, or those whose ids begin so")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.records import read

    rows = _like(given.file, given.id) if given.id else read(given.file)
    found = list(itertools.islice(rows, max(0, given.n)))
    if given.id and not found and given.n > 0:
        raise DataError(f"{given.file}: no record {given.id!r}; perhaps {given.file.stem}.dropped.parquet has it")
    for record in found:
        print(json.dumps(record, indent=1, ensure_ascii=False))


def _like(file: Path, name: str) -> "list[Record]":
    """The record of that id; else those whose ids begin so, made of one question; DataError where they are of several."""
    from drp.records import read

    found = [record for record in read(file) if record["id"].startswith(name)]
    if exact := [record for record in found if record["id"] == name]:
        return exact
    if len(roots := sorted({record["id"].partition("/")[0] for record in found})) > 1:
        raise DataError(f"{name!r} is the beginning of several ids: say which: {', '.join(roots[:5])}")
    return found
