"""Equations: the relations that a sentence states, normalised, so that a repeated one is recognised."""

import itertools
import re
from typing import NamedTuple

from drp.text import numbers

_TERM = r"(?>(?:\\[a-zA-Z]+|(?<![A-Za-z])[A-Za-z](?![A-Za-z'’])|\d[\d,]*+(?:\.\d+)?|[-+−*/×÷·^()!{}_%$ ])++)"
_CHAIN = re.compile(rf"({_TERM})((?:[=≈]{_TERM})++)")
_SAID = re.compile(r"(?<=[\d)!])\s*,?\s+(?:is(?: equal to)?|equals|gives|makes|which is|that's)\s+(?=[-$]?\d)")
_SIGNS = str.maketrans("×·÷−", "**/-")
_OPERATOR = re.compile(r"[-+*/^!]|\\frac|\\sqrt|\\binom")


class Equation(NamedTuple):
    """One relation, both sides without blank space and with one sign for each operation."""

    left: str
    right: str

    @property
    def computed(self) -> bool:
        """Whether it computes a value: numbers and an operation at the left, one number at the right, no unknowns."""
        return bool(_OPERATOR.search(self.left[1:])) and not re.search(r"[A-Za-z]", self.left) and _is_number(self.right)


def equations(text: str) -> list[Equation]:
    """The equations of a text; `a = b = c` gives a = b, b = c and a = c; `3 × 4 is 12` counts too."""
    found = []
    for match in _CHAIN.finditer(_SAID.sub(" = ", text)):
        sides = [_plain(side) for side in re.split(r"[=≈]", match[0])]
        pairs = [*itertools.pairwise(sides), *([(sides[0], sides[-1])] if len(sides) > 2 else [])]
        found += [Equation(a, b) for a, b in pairs if a and b]
    return found


def _plain(side: str) -> str:
    side = side.replace("\\times", "*").replace("\\cdot", "*").replace("\\div", "/")
    side = re.sub(r"[\s$]|(?<=\d),(?=\d{3})|[,.]+(?=\s|\Z)", "", side)
    return side.translate(_SIGNS).strip(",")


def _is_number(side: str) -> bool:
    return re.fullmatch(r"-?\d+(?:\.\d+)?%?", side) is not None


def inputs(text: str, stated: list[Equation]) -> set[str]:
    """The numbers that a sentence takes from elsewhere: all but the results of its own equations; no list numbering."""
    results = {n for e in stated if _is_number(e.right) for n in bare(e.right)}
    taken = {n for e in stated for n in bare(e.left)} - {n for e in stated[:-1] for n in bare(e.right)}
    return (bare(text) - results) | (taken - results)


def bare(text: str) -> set[str]:
    """The numbers of a text without their signs and without the number of a list's item."""
    text = re.sub(r"^\s*(?:[-*>]\s*)?(?:\*\*)?\d{1,2}[.)]\s", "", text)
    return {n.removeprefix("-") for n in numbers(text)}
