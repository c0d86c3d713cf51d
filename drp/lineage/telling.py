"""An answer for people: a tree in the terminal, short by default."""

import textwrap
from collections.abc import Iterator

from drp.lineage.branch import Branch

WIDTH = 128
"""Characters of a line; what is longer goes on under itself."""


def tell(branch: Branch, full: bool = False) -> str:
    """The tree, a line or a few for each branch; with `full` also branches that stand aside, and whole texts."""
    return "\n".join(_lines(branch, "", "", full)) + "\n"


def _lines(branch: Branch, first: str, rest: str, full: bool) -> Iterator[str]:
    shown = [inner for inner in branch.below if full or not inner.aside]
    head = f"{branch.kind} {branch.name}".strip()
    yield from _wrapped(f"{head}: {branch.words}" if branch.words else head, first, rest + ("│ " if shown else "  "))
    if full:
        for title, text in branch.texts:
            yield f"{rest}{'│ ' if shown else '  '}· {title}"
            yield from (f"{rest}{'│ ' if shown else '  '}    {line}" for line in text.splitlines())
    for number, inner in enumerate(shown):
        last = number == len(shown) - 1
        yield from _lines(inner, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "), full)


def _wrapped(text: str, first: str, rest: str) -> Iterator[str]:
    room = max(40, WIDTH - len(first))
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    yield first + lines[0]
    yield from (f"{rest}  {line}" for line in lines[1:])
