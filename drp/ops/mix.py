"""Join several inputs into one, sorted by id."""

import heapq
import itertools
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TypedDict

from drp.errors import DataError, choices
from drp.fingerprint import seed_of
from drp.op import Dropped, Inputs, Kept, Outcome, Record, Work
from drp.records import trail_row

VERSION = 1

NOTHING: Inputs = MappingProxyType({})

Named = tuple[str, Record]
"""The input that a record comes from, and the record."""


class Adds(TypedDict):
    """Nothing: a record has the columns of its input, and nulls for the others'."""


def mix(
    inputs: Inputs,
    work: Work,
    *,
    without: Inputs = NOTHING,
    weights: dict[str, float] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Iterator[Outcome]:
    """Every record once; of records with one id the first input's stays. The trail says which inputs had it.

    `weights` is the share of an input's records to draw (0 to 1; 1 where it is not named), by a hash of `seed` and id:
    what is drawn stays drawn when records are added. `limit` keeps the first records by id; ids are hashes, so that is
    a sample too. Records whose question stands in a stage of `without` are left out, so that an exam stays an exam.
    Dropped: `held-out`, `not-drawn`, `duplicate`, `over-limit`.
    """
    shares = weights or {}
    exams = {record["question"]: name for name, records in without.items() for record in records}
    for name in shares:
        if name not in inputs:
            raise DataError(f"weights: {name!r} is not an input{choices(name, inputs)}")
    kept = 0
    for _, group in itertools.groupby(_merged(inputs), key=lambda named: named[1]["id"]):
        members = list(group)
        held = [(record, exams[q]) for _, record in members if (q := record.get("question")) in exams]
        yield from (Dropped(record, "held-out", f"its question stands in {name}") for record, name in held)
        if held:
            continue
        for outcome in _joined(members, shares, seed, full=limit is not None and kept >= limit):
            kept += isinstance(outcome, Kept)
            yield outcome


def check(options: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Shares lie between 0 and 1; a limit is not negative."""
    weights, limit = options["weights"], options["limit"]
    for name, share in weights.items() if isinstance(weights, dict) else ():
        if isinstance(share, int | float) and not 0 <= share <= 1:
            yield "weights", f"{name}: {share} is not from 0 to 1 (the share of its records to draw)"
    if isinstance(limit, int) and limit < 0:
        yield "limit", f"{limit} is less than 0"


def _merged(inputs: Inputs) -> Iterator[Named]:
    """Sorted by id; where ids are equal, in the order of the inputs."""

    def labelled(name: str) -> Iterator[Named]:
        return ((name, record) for record in inputs[name])

    return heapq.merge(*(labelled(name) for name in inputs), key=lambda named: named[1]["id"])


def _joined(group: list[Named], shares: Mapping[str, float], seed: int, full: bool) -> Iterator[Outcome]:
    """The outcomes of the records of one id."""
    drawn = [named for named in group if _drawn(named, shares, seed)]
    for name, record in group:
        if (name, record) not in drawn:
            yield Dropped(record, "not-drawn", f"of {name}, {shares[name]:g} is drawn")
    for (name, record), first in zip(drawn, [True] + [False] * len(drawn), strict=False):
        if not first:
            yield Dropped(record, "duplicate", f"of {name}; {drawn[0][0]} has it too")
        elif full:
            yield Dropped(record, "over-limit", f"of {name}")
        else:
            parents = [f"{other}:{record['id']}" for other, _ in drawn]
            yield Kept(record, (trail_row(record["id"], 0, action="mix", parents=parents),))


def _drawn(named: Named, shares: Mapping[str, float], seed: int) -> bool:
    name, record = named
    return seed_of(seed, record["id"]) < shares.get(name, 1.0) * 2**63
