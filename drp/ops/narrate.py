"""Tell generated questions as verbose, R1-like traces, for a student that learns from scratch."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypedDict

from drp.fingerprint import seed_of
from drp.narration import TERSE_SHARE, NarrationError
from drp.narration import narrate as tell
from drp.op import Dropped, Kept, Outcome, Record, Work
from drp.targets import target_text

VERSION = 1
NEEDS = ("question", "family")
MAKES_RECORDS = True

MOST = 1000
"""Samples of a question; their ids have three digits, so that they sort."""


class Adds(TypedDict):
    """One trace. Of one that never stops (`finished` is false) there is a thought, but neither a reply nor a target."""

    sample: int
    thought: str
    reply: str | None
    target: str | None
    finished: bool


def narrate(
    records: Iterable[Record], work: Work, *, samples: int = 1, terse: float = TERSE_SHARE, seed: int = 0
) -> Iterator[Outcome]:
    """`samples` traces of each question, as records `<id>/<sample>`; `family` says which generator made the question.

    A trace depends on its question, its id, its number and `seed` alone. `terse` is the share of traces without doubts,
    checks and repetitions. Dropped: `no-narration` (a family that cannot be narrated, or a question that is not of it).
    """
    for record in records:
        for sample in range(samples):
            here = {**record, "id": f"{record['id']}/{sample:03d}", "sample": sample}
            yield _told(here, seed_of(seed, record["id"], sample), terse)


def check(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """`samples` is from 1 to 1000."""
    samples = options.get("samples")
    if isinstance(samples, int) and not 1 <= samples <= MOST:
        yield "samples", f"{samples} is not from 1 to {MOST}"
    terse = options.get("terse")
    if isinstance(terse, int | float) and not 0 <= terse <= 1:
        yield "terse", f"{terse} is not a share from 0 to 1"


def _told(record: Record, seed: int, terse: float) -> Outcome:
    try:
        told = tell(record["question"], str(record["family"]), seed, terse_share=terse)
    except NarrationError as error:
        return Dropped(record, "no-narration", str(error))
    reply = told.answer if told.finished else None
    target = target_text(told.thought, told.answer) if told.finished else None
    return Kept({**record, "thought": told.thought, "reply": reply, "target": target, "finished": told.finished})
