"""An answer for people: a tree in the terminal, short by default."""

import json
import textwrap
from collections.abc import Iterator

from drp.lineage.altered import Beside
from drp.lineage.branch import Branch

WIDTH = 128
"""Characters of a line; what is longer goes on under itself."""


def answer(found: Branch, beside: Beside, full: bool, as_json: bool) -> str:
    """An answer as it is printed: which of the files that it was read from are altered, then the tree; or both as JSON."""
    if as_json:
        return json.dumps({**found.plain(), **beside.plain()}, indent=1, ensure_ascii=False) + "\n"
    return f"{beside}{tell(found, full)}"


def tell(branch: Branch, full: bool = False) -> str:
    """The tree, a line or a few for each branch; with `full` also branches that stand aside, and whole texts. What is said of a
    completion is said once."""
    return "\n".join(_lines(branch, "", "", full, set())) + "\n"


def _lines(branch: Branch, first: str, rest: str, full: bool, told: set[str]) -> Iterator[str]:
    if branch.kind == "completion" and branch.facts.get("key", branch.name) in told:
        branch = Branch(branch.kind, branch.name, "told above")
    elif branch.kind == "completion":
        told.add(branch.facts.get("key", branch.name))
    shown = [inner for inner in branch.below if full or not inner.aside]
    head = f"{branch.kind} {branch.name}".strip()
    yield from _wrapped(f"{head}: {branch.words}" if branch.words else head, first, rest + ("│ " if shown else "  "))
    if full:
        for title, text in branch.texts:
            yield f"{rest}{'│ ' if shown else '  '}· {title}"
            yield from (f"{rest}{'│ ' if shown else '  '}    {line}" for line in text.splitlines())
    for number, inner in enumerate(shown):
        last = number == len(shown) - 1
        yield from _lines(inner, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "), full, told)


def _wrapped(text: str, first: str, rest: str) -> Iterator[str]:
    room = max(40, WIDTH - len(first))
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    yield first + lines[0]
    yield from (f"{rest}  {line}" for line in lines[1:])
