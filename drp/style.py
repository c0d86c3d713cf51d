"""Style: how much of the student's own voice a pruned thought keeps, as numbers."""

import re
from collections.abc import Iterable
from typing import TypedDict

from drp.assembly import Sentence

_MARKERS = re.compile(
    r"\b(?:so|okay|ok|alright|hmm|wait|well|actually|now|then|therefore|thus|hence|because|since|first|second|next|finally|"
    r"but|however|alternatively|also|maybe|perhaps|let me|let's|i think|i guess|i mean|hold on|that means|in other words)\b",
    re.IGNORECASE,
)


class Style(TypedDict):
    """`verbatim`: the share of the pruned thought's characters that stand in verbatim sentences; `markers`: discourse
    markers per 100 words of the pruned thought, `markers_before`: of the thought; `words` and `words_before` likewise."""

    verbatim: float
    markers: float
    markers_before: float
    words: int
    words_before: int


def measure(thought: str, pruned: str, sentences: Iterable[Sentence]) -> Style:
    """The style measures of one pruned thought."""
    copied = sum(s["end"] - s["start"] for s in sentences if s["kind"] == "verbatim")
    return Style(
        verbatim=round(copied / max(1, len(pruned)), 4),
        markers=marker_rate(pruned),
        markers_before=marker_rate(thought),
        words=len(pruned.split()),
        words_before=len(thought.split()),
    )


def marker_rate(text: str) -> float:
    """Discourse markers ("so", "wait", "let me", …) per 100 words."""
    return round(100 * sum(1 for _ in _MARKERS.finditer(text)) / max(1, len(text.split())), 2)
