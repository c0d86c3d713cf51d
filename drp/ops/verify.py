"""Judge each record's answer against the gold one."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, TypedDict

from drp.errors import DataError
from drp.op import Dropped, Kept, Outcome, Record, Work
from drp.verifiers import Case, Judgement, Verdict, problem_with
from drp.verifiers.pool import judged

VERSION = 1
NEEDS = ("answer", "reply")

REASON = {"wrong": "wrong-answer"}
"""Reasons that are not the verdict itself."""


class Adds(TypedDict):
    """The verdict; `prediction` is the answer that was found, null where there is none."""

    prediction: str | None
    correct: bool
    verdict: Judgement


def verify(
    records: Iterable[Record],
    work: Work,
    *,
    keep: Literal["correct", "all", "shortest-correct"] = "correct",
    verifier: str = "math",
    timeout: float = 5.0,
) -> Iterator[Outcome]:
    """Judge `target_reply` where a record has one, else `reply`, by a verifier: `math`, `exact`, or `module:function`.

    `shortest-correct` keeps, of each question's correct samples, the one with the fewest tokens. `timeout` is seconds
    for one record. Dropped, unless `all` are kept: `wrong-answer`, `no-answer`, `truncated`, `timeout`,
    `longer-than-shortest`.
    """
    cases = ((record, case_of(record)) for record in records)
    outcomes = (_outcome(r, v, keep) for r, v in judged(cases, verifier=verifier, timeout=timeout))
    return _shortest(outcomes) if keep == "shortest-correct" else outcomes


def check(options: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The verifier has a name that can be one; the time-out is more than nothing."""
    if problem := problem_with(str(options["verifier"])):
        yield "verifier", problem
    timeout = options["timeout"]
    if isinstance(timeout, int | float) and timeout <= 0:
        yield "timeout", f"{timeout} is not more than 0 (seconds for one record)"


def case_of(record: Record) -> Case:
    """What is judged of a record; DataError where it has no reply or no gold answer at all."""
    column = "target_reply" if "target_reply" in record else "reply"
    for name in (column, "answer"):
        if name not in record:
            raise DataError(f"record {record['id']} has no column {name!r}: verify comes after generate or reassemble")
    cut = column == "reply" and record.get("finish") == "length"
    return Case(record[column], record["answer"], truncated=cut)


def _outcome(record: Record, verdict: Verdict, keep: str) -> Outcome:
    seen = {**record, "prediction": verdict.prediction, "correct": verdict.correct, "verdict": verdict.verdict}
    if verdict.correct or keep == "all":
        return Kept(seen)
    detail = f"answered {verdict.prediction!r}, gold {record['answer']!r}"
    return Dropped(seen, REASON.get(verdict.verdict, verdict.verdict), detail)


def _shortest(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    for _, samples in itertools.groupby(outcomes, key=lambda o: str(o.record["id"]).partition("/")[0]):
        group = list(samples)
        best = min((_length(o.record) for o in group if isinstance(o, Kept)), default=None)
        for outcome in group:
            if isinstance(outcome, Kept) and best and _length(outcome.record) != best:
                yield Dropped(outcome.record, "longer-than-shortest", f"{best[1]} is correct in {best[0]} tokens")
            else:
                yield outcome


def _length(record: Record) -> tuple[int, str]:
    if record.get("tokens") is None:
        raise DataError(f"record {record['id']} has no `tokens`: keep: shortest-correct judges what `generate` made")
    return record["tokens"], record["id"]
