"""What an audit finds: faults with their place and cure, what is out of date, and what could not be looked at and why."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Kind = Literal["fault", "out of date", "skipped", "note"]
"""fault: something is not what it says it is. out of date: made from what has changed since; `dvc repro` makes it anew.
skipped: could not be looked at. note: worth knowing, and no harm."""
State = Literal["failed", "out of date", "ok", "skipped"]
MANY = 5
"""Faults of one file that are named; what more there are is counted."""


class Why(NamedTuple):
    """What is said of one place; `cause` is what is said of all places where the same is the matter ("": these words are)."""

    words: str
    cause: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing that was found, at a file, a lock entry, a record or a completion (`place`)."""

    kind: Kind
    place: str
    words: str
    cause: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.words}"


@dataclass
class Check:
    """One check: how many things it looked at (`unit` says which), how many it left (by why), and what it found. `wrong` is the
    unit of those with a fault, where each place of a fault is one of the things that are counted."""

    name: str
    unit: str
    wrong: str = ""
    looked: int = 0
    findings: list[Finding] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)

    @property
    def state(self) -> State:
        """failed, where there is a fault; skipped, where there was nothing that could be looked at, and should have been."""
        kinds = {found.kind for found in self.findings}
        if "fault" in kinds:
            return "failed"
        if "out of date" in kinds:
            return "out of date"
        return "skipped" if not self.looked and "skipped" in kinds else "ok"

    def fault(self, place: str, words: str) -> None:
        """Something is not what it says it is."""
        self.findings.append(Finding("fault", place, words))

    def stale(self, place: str, words: str, cause: str = "") -> None:
        """Something was made from what has changed since."""
        self.findings.append(Finding("out of date", place, words, cause))

    def skip(self, place: str, words: str, cause: str = "") -> None:
        """Something could not be looked at."""
        self.findings.append(Finding("skipped", place, words, cause))

    def note(self, place: str, words: str) -> None:
        """Something worth knowing."""
        self.findings.append(Finding("note", place, words))

    def faults(self, place: str, words: Iterable[str], cure: str = "", kind: Kind = "fault") -> None:
        """Faults of one file, of which the first are named; no more are looked for than it takes to say that there are more."""
        for number, found in enumerate(words):
            if number == MANY:
                self.findings.append(Finding(kind, place, "and more of the kind"))
                return
            self.findings.append(Finding(kind, place, f"{found}{cure}"))

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        found = [
            {"kind": f.kind, "place": f.place, "words": f.words, **({"cause": f.cause} if f.cause else {})} for f in self.findings
        ]
        told = {"check": self.name, "state": self.state, "looked": self.looked, "unit": self.unit, "left": dict(self.left)}
        return {**told, "findings": found}
