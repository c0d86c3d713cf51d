"""Editing by rules: an action for each step, by which of its sentences are redundant."""

import re
from collections.abc import Sequence
from typing import Any

from drp.rules.material import Numbered
from drp.rules.redundancy import Unit, redundant
from drp.teaching import states_answer
from drp.text import sentences

Entry = dict[str, Any]


def edit(steps: Sequence[Numbered], question: str, answer: str | None, allowed: Sequence[str]) -> list[Entry]:
    """The `actions` of a reply to the edit prompt."""
    units = [Unit(text, place) for place, step in enumerate(steps) for text in _sentences(step.text)]
    gone = redundant(units, question, answer)
    entries = [_entry(place, steps[place], units, gone, allowed) for place in range(len(steps))]
    _keep_answer(entries, steps, answer)
    return _merged(entries, steps) if "merge" in allowed else entries


def _sentences(text: str) -> list[str]:
    return [text[a:b] for a, b in sentences(text)]


def _entry(place: int, step: Numbered, units: Sequence[Unit], gone: dict[int, str], allowed: Sequence[str]) -> Entry:
    own = [p for p, unit in enumerate(units) if unit.step == place]
    stays = [p for p in own if p not in gone]
    reasons = list(dict.fromkeys(gone[p] for p in own if p in gone))
    if not stays and "delete" in allowed:
        return _action(step.number, "delete", reason=reasons[0] if reasons else "empty")
    if stays and len(stays) < len(own) and "rewrite" in allowed:
        text = "".join(units[p].text for p in stays).strip()
        return _action(step.number, "rewrite", text, "without a part that " + reasons[0])
    return _action(step.number, "keep", reason="carries the derivation")


def _action(step: int, action: str, text: str | None = None, reason: str = "", into: int | None = None) -> Entry:
    return {"step": step, "action": action, "text": text, "into": into, "reason": reason}


def _keep_answer(entries: list[Entry], steps: Sequence[Numbered], answer: str | None) -> None:
    """Where every step that gives the answer would go, the last of them stays."""
    giving = [p for p, step in enumerate(steps) if states_answer(step.text, answer)] or [len(steps) - 1]
    if all(entries[p]["action"] == "delete" for p in giving):
        entries[giving[-1]] = _action(steps[giving[-1]].number, "keep", reason="gives the answer")


_BARE = re.compile(
    r"(?:(?:so|then|that gives|now),? )?(?P<equation>[^A-Za-z=:]*[-+*/×÷^][^A-Za-z=:]*= ?(?P<result>[\d,.]*\d))\.?", re.IGNORECASE
)
_NAMED = re.compile(r"(?P<name>(?:so,? |therefore,? |thus,? )?[^.=]{3,60}?) (?:is|are|=) (?P<result>[\d,.]*\d)\.?", re.IGNORECASE)
_UNNAMED = re.compile(r"\b(?:answer|that|this|it|which|i)\b|\d\s*[-+*/×÷^]|^[^a-z]*$", re.IGNORECASE)


def _merged(entries: list[Entry], steps: Sequence[Numbered]) -> list[Entry]:
    """Merges a bare equation with the neighbour that only gives its result a name: `So the total is 3 * 4 = 12.`"""
    for place in range(len(entries) - 1):
        texts = [e["text"] or steps[p].text for p, e in enumerate(entries[place : place + 2], start=place)]
        alive = all(e["action"] in ("keep", "rewrite") for e in entries[place : place + 2])
        if alive and (text := _named_equation(*texts)):
            first, second = steps[place].number, steps[place + 1].number
            entries[place] = _action(first, "merge", text, "names the result it computes", first)
            entries[place + 1] = _action(second, "merge", None, "names the result of the one before", first)
    return entries


def _named_equation(equation: str, naming: str) -> str | None:
    bare, named = _BARE.fullmatch(equation.strip()), _NAMED.fullmatch(naming.strip())
    if not bare or not named or bare["result"] != named["result"] or _UNNAMED.search(named["name"]):
        return None
    return f"{named['name']} is {bare['equation'].strip()}."
