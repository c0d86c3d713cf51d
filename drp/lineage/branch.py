"""An answer as a value: a tree of facts, for people by `telling`, for programs as JSON."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Branch:
    """One thing in an answer and what it comes from (or what comes of it).

    `kind` is what it is (record, sentence, step, completion, stage, source, adapter, metric …), `name` its id or address,
    `words` a line for people; `facts` all that is known of it, as JSON has it; `texts` whole texts (title, text) that people see
    with `--full`; `aside`: people see this branch only with `--full`.
    """

    kind: str
    name: str
    words: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    below: tuple["Branch", ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    aside: bool = False

    def plain(self) -> dict[str, Any]:
        """As JSON: kind, name, the facts, the texts, and `from` (the branches below)."""
        found: dict[str, Any] = {"kind": self.kind, "name": self.name, **self.facts}
        if self.texts:
            found["texts"] = dict(self.texts)
        if self.below:
            found["below"] = [branch.plain() for branch in self.below]
        return found

    def walk(self) -> "list[Branch]":
        """This branch and all below it, from the top."""
        return [self, *(inner for branch in self.below for inner in branch.walk())]


def short(text: str, most: int = 80) -> str:
    """A text on one line, cut in its middle where it is longer than `most` characters."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    head = (most - 3) * 2 // 3
    return f"{line[:head]} … {line[len(line) - (most - 3 - head) :]}"
