"""Two texts side by side, sentence by sentence: what both have, what only the old one has, what only the new one."""

import difflib
from collections.abc import Iterator
from typing import Literal

from drp.text import sentences

Mark = Literal["=", "-", "+"]
"""In both, in the old text alone, in the new text alone."""

COLOURS: dict[Mark, str] = {"=": "", "-": "\x1b[31m", "+": "\x1b[32m"}
PLAIN = "\x1b[0m"


def contrast(old: str, new: str) -> Iterator[tuple[Mark, str]]:
    """The sentences of both in order, without the blank space around them; what goes stands before what comes."""
    before, after = _cut(old), _cut(new)
    for what, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if what == "equal":
            yield from (("=", text) for text in before[a:b])
        else:
            yield from (("-", text) for text in before[a:b])
            yield from (("+", text) for text in after[c:d])


def told(old: str, new: str, colour: bool = False, around: int = 1) -> Iterator[str]:
    """The contrast in lines; of what is the same, `around` sentences on each side of a change."""
    marked = list(contrast(old, new))
    changed = [place for place, (mark, _) in enumerate(marked) if mark != "="]
    near = {n for place in changed for n in range(place - around, place + around + 1)}
    skipped = 0
    for place, (mark, text) in enumerate(marked):
        if place not in near:
            skipped += 1
            continue
        if skipped:
            yield _skipped(skipped)
            skipped = 0
        yield painted(mark, f"{' ' if mark == '=' else mark} {' '.join(text.split())}", colour)
    if skipped:
        yield _skipped(skipped)


def painted(mark: Mark, text: str, colour: bool) -> str:
    """A text in the colour of its mark, on a terminal."""
    return f"{COLOURS[mark]}{text}{PLAIN}" if colour and COLOURS[mark] else text


def _skipped(count: int) -> str:
    return f"  … {count} sentence{'s' * (count > 1)} the same"


def _cut(text: str) -> list[str]:
    return [text[start:end].strip() for start, end in sentences(text)]
