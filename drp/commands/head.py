"""Print records of a stage's output."""

import argparse
import itertools
import json
from pathlib import Path

from drp.errors import DataError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("file", type=Path, metavar="PARQUET")
    parser.add_argument("-n", type=int, default=1, help="how many (default: 1)")
    parser.add_argument("--id", help="only the record with this id")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.records import read

    wanted = (r for r in read(given.file) if given.id in (None, r["id"]))
    found = list(itertools.islice(wanted, max(0, given.n)))
    if given.id and not found:
        raise DataError(f"{given.file}: no record {given.id!r}; perhaps {given.file.stem}.dropped.parquet has it")
    for record in found:
        print(json.dumps(record, indent=1, ensure_ascii=False))
