"""What an audit finds: faults with their place and cure, what is out of date, and what could not be looked at and why."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["fault", "out of date", "skipped", "note"]
"""fault: something is not what it says it is. out of date: made from what has changed since; `dvc repro` makes it anew.
skipped: could not be looked at. note: worth knowing, and no harm."""
State = Literal["failed", "out of date", "ok", "skipped"]
MANY = 5
"""Faults of one file that are named; what more there are is counted."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found, at a file, a lock entry, a record or a completion (`place`)."""

    kind: Kind
    place: str
    words: str

    def __str__(self) -> str:
        return f"{self.place}: {self.words}"


@dataclass
class Check:
    """One check: how many things it looked at (`unit` says which), how many it left (by why), and what it found."""

    name: str
    unit: str
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

    def stale(self, place: str, words: str) -> None:
        """Something was made from what has changed since."""
        self.findings.append(Finding("out of date", place, words))

    def skip(self, place: str, words: str) -> None:
        """Something could not be looked at."""
        self.findings.append(Finding("skipped", place, words))

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
        found = [{"kind": f.kind, "place": f.place, "words": f.words} for f in self.findings]
        told = {"check": self.name, "state": self.state, "looked": self.looked, "unit": self.unit, "left": dict(self.left)}
        return {**told, "findings": found}


def summary(checks: Sequence[Check]) -> str:
    """All checks in a line: what is no fault is not all well, where something is out of date or could not be looked at."""
    found = [one for check in checks for one in check.findings]
    faults = sum(one.kind == "fault" for one in found)
    stale = list(dict.fromkeys(one.place for one in found if one.kind == "out of date"))
    words = [f"failed: {faults} fault{'s' if faults > 1 else ''}"] if faults else []
    if stale:
        more = f" and {len(stale) - MANY} more" if len(stale) > MANY else ""
        words.append(f"{'' if faults else 'no fault, but '}out of date: {', '.join(stale[:MANY])}{more}")
    for check in checks:
        if many := check.left.total():
            words.append(f"{check.name} left out {many} of {check.looked + many}: {_counted(check.left)}")
    if not faults and not stale:
        words.insert(0, "no fault")
    return "; ".join(words)


def _counted(left: Counter[str]) -> str:
    return ", ".join(f"{number} {why}" for why, number in sorted(left.items()))
