"""Assembly: the pruned thought made of passages, and where each of its sentences comes from."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TypedDict

from drp.pieces import Piece, Step
from drp.teaching import Passage
from drp.text import Span, sentences


class Sentence(TypedDict):
    """A span of the pruned thought, how it relates to the thought, and the steps (0-based) that it comes from.

    `kind` is verbatim (it stands so in one of its steps), rewritten (one step), merged (several) or connective (none).
    """

    start: int
    end: int
    kind: str
    steps: list[int]


def verbatim(survivors: Sequence[Piece]) -> list[Passage]:
    """The passages that take every surviving piece over as it stands."""
    return [Passage(piece.steps, None) for piece in survivors]


def assemble(
    passages: Iterable[Passage], survivors: Sequence[Piece], thought: str, steps: Sequence[Step]
) -> tuple[str, list[Sentence]]:
    """The pruned thought, without blank space around it, and its sentences, which cover it exactly."""
    chunks = [chunk for passage in passages for chunk in _chunks(passage, survivors)]
    gaps = [gap or " " for _, gap, _ in chunks[:-1]] + [""]
    pruned, found = "", list[Sentence]()
    for (text, _, origin), gap in zip(chunks, gaps, strict=True):
        for start, end in sentences(text + gap):
            kind, came_from = _provenance((text + gap)[start:end], origin, thought, steps)
            found.append(Sentence(start=len(pruned) + start, end=len(pruned) + end, kind=kind, steps=came_from))
        pruned += text + gap
    return pruned, found


def _chunks(passage: Passage, survivors: Sequence[Piece]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(text, the gap behind it, its steps) for each part that a passage puts in."""
    used = [piece for piece in survivors if set(piece.steps) & set(passage.steps)]
    if passage.text is not None:
        yield passage.text, used[-1].gap if used else " ", tuple(sorted({s for piece in used for s in piece.steps}))
    else:
        yield from ((piece.text, piece.gap, piece.steps) for piece in used)


def _provenance(sentence: str, origin: Sequence[int], thought: str, steps: Sequence[Step]) -> tuple[str, list[int]]:
    holders = [s for s in origin if find(sentence, thought, steps[s]) is not None]
    if holders:
        return "verbatim", holders[:1]
    return ("connective", "rewritten", "merged")[min(len(origin), 2)], list(origin)


def find(sentence: str, thought: str, step: Step) -> Span | None:
    """Where in the thought a sentence stands, inside one step, blank space and all but its amount apart; None: nowhere."""
    match = _pattern(sentence).search(thought, step["start"], step["end"])
    return match.span() if match else None


@lru_cache(maxsize=1024)
def _pattern(sentence: str) -> re.Pattern[str]:
    """A sentence's words, whatever blank space is between them; it is looked for in one step after the other."""
    return re.compile(r"(?<!\w)" + r"\s+".join(re.escape(word) for word in sentence.split()))
