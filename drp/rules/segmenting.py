"""Segmenting by rules: a skill for each sentence by its cues, and steps of neighbours that do the same."""

from collections.abc import Sequence
from typing import Any

from drp.rules.cues import (
    AGREEMENT,
    CASES,
    CHECK,
    COMPARISON,
    CORRECTION,
    READING,
    RECALL,
    SETUP,
    is_filler,
)
from drp.rules.equations import Equation, equations
from drp.rules.material import Numbered

LONGEST = 4
"""Sentences of one skill that make one step at most."""


def segment(sentences: Sequence[Numbered]) -> list[dict[str, Any]]:
    """The `steps` of a reply to the segment prompt."""
    skills = _skills(sentences)
    steps: list[dict[str, Any]] = []
    length = 0
    for place, sentence in enumerate(sentences):
        length += 1
        changes = place + 1 == len(sentences) or skills[place + 1] != skills[place]
        if changes or sentence.ends_paragraph or length == LONGEST or skills[place] == "arithmetic":
            steps.append({"last": sentence.number, "skill": skills[place]})
            length = 0
    return steps


def _skills(sentences: Sequence[Numbered]) -> list[str]:
    stated: set[Equation] = set()
    skills: list[str] = []
    for place, sentence in enumerate(sentences):
        found = equations(sentence.text)
        repeats = bool(found) and all(e in stated for e in found)
        checking = bool(skills) and skills[-1] == "verification"
        skills.append(_skill(sentence.text, found, repeats, checking, sentence.number <= 2 and place <= 1))
        stated |= set(found)
    return skills


def _skill(text: str, stated: Sequence[Equation], repeats: bool, checking: bool, opening: bool) -> str:
    """The skill of one sentence; `checking` where the one before it checks something."""
    if repeats or CHECK.search(text) or (checking and AGREEMENT.match(text)):
        return "verification"
    if CORRECTION.search(text):
        return "correction"
    if is_filler(text):
        return "hedging"
    if "answer is" in text.lower() or "\\boxed" in text:
        return "answer"
    if any(e.computed for e in stated):
        return "arithmetic"
    if stated:
        return "equation"
    if opening or READING.search(text):
        return "reading"
    cues = ((SETUP, "set-up"), (CASES, "cases"), (RECALL, "recall"), (COMPARISON, "comparison"))
    return next((skill for cue, skill in cues if cue.search(text)), "inference")
