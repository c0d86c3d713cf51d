"""An audit as a person reads it: the verdict, the faults, the rest by its causes, and what was looked at."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from drp.auditing.finding import MANY, Check, Finding


def lines(checks: Sequence[Check], full: bool = False) -> Iterator[str]:
    """The whole text; with `full` what is no fault one by one."""
    found = [one for check in checks for one in check.findings]
    yield summary(checks)
    yield from (f"  fault: {one}" for one in found if one.kind == "fault")
    others = [one for one in found if one.kind != "fault"]
    yield from (f"  {one.kind}: {one}" for one in others) if full else _grouped(others)
    yield from (f"{check.name:<12} {check.state:<11} {_looked(check)}" for check in checks)


def summary(checks: Sequence[Check]) -> str:
    """All checks in a line: what is no fault is not all well, where something is out of date or could not be looked at."""
    found = [one for check in checks for one in check.findings]
    faults, stale = ([one.place for one in found if one.kind == kind] for kind in ("fault", "out of date"))
    words = [f"{_many(len(faults), 'fault')}: {_some(faults)}"] if faults else []
    if stale:
        words.append(f"{'' if faults else 'no fault, but '}out of date: {_some(stale)}")
    for check in checks:
        if many := check.left.total():
            words.append(f"{check.name} left out {many} of {check.looked + many}: {_counted(check.left)}")
    if not faults and not stale:
        words.insert(0, "no fault")
    return "; ".join(words)


def _grouped(found: Iterable[Finding]) -> Iterator[str]:
    """A line a cause, whichever checks met it; where it was met in several places, these and the cure stand below."""
    causes: dict[str, list[Finding]] = {}
    for one in found:
        causes.setdefault(one.cause or one.words, []).append(one)
    for cause, those in causes.items():
        places = list(dict.fromkeys(one.place for one in those))
        if len(places) == 1:
            yield from (f"  {one.kind}: {one}" for one in those[:1])
            continue
        headline, _, cure = cause.partition("; ")
        yield f"  {those[0].kind}: {len(places)} times: {headline}"
        yield f"    {_some(places)}{' (--full)' if len(places) > MANY else ''}"
        yield from [f"    {cure}"] * bool(cure)


def _looked(check: Check) -> str:
    faults = [one.place for one in check.findings if one.kind == "fault"]
    if not faults:
        return f"{check.looked:,} {check.unit}"
    if check.wrong:
        return f"{len(set(faults))} of {max(check.looked, len(set(faults))):,} {check.wrong}"
    return f"{_many(len(faults), 'fault')}; looked at were {check.looked:,} {check.unit}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def _some(places: Iterable[str]) -> str:
    """The first places by name, the others by their number."""
    known = list(dict.fromkeys(places))
    return ", ".join(known[:MANY]) + (f" and {len(known) - MANY} more" if len(known) > MANY else "")


def _counted(left: Counter[str]) -> str:
    return ", ".join(f"{number} {why}" for why, number in sorted(left.items()))
