"""Material: what a rendered prompt shows a teacher, read back from its delimited blocks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from drp.models import Message


@dataclass(frozen=True, slots=True)
class Numbered:
    """A numbered sentence or step as the prompt shows it; `ends_paragraph` where an empty line followed it."""

    number: int
    text: str
    ends_paragraph: bool = False


@dataclass(frozen=True, slots=True)
class Remaining:
    """A surviving piece as the prompt shows it: the numbers of its steps, and its text."""

    steps: tuple[int, ...]
    text: str


def block(messages: Sequence[Message], name: str) -> str | None:
    """The content of the last user message's `<name>` block that has one on lines of its own; None without."""
    pattern = re.compile(rf"^<{name}>\n(.*)^</{name}>[ \t]*$", re.DOTALL | re.MULTILINE)
    found = (pattern.search(m.content) for m in reversed(messages) if m.role == "user")
    return next((m[1].removesuffix("\n") for m in found if m), None)


def sentences_of(text: str) -> list[Numbered]:
    """The sentences of a `<sentences>` block: each starts a line with its number, and numbers rise by one."""
    starts: list[re.Match[str]] = []
    for match in re.finditer(r"^\[(\d+)\] ", text, re.MULTILINE):
        if not starts or int(match[1]) == int(starts[-1][1]) + 1:
            starts.append(match)
    ends = [m.start() for m in starts[1:]] + [len(text)]
    shown = [(m, text[m.end() : end]) for m, end in zip(starts, ends, strict=True)]
    return [Numbered(int(m[1]), body.strip(), body.endswith("\n\n")) for m, body in shown]


def steps_of(text: str) -> list[Numbered]:
    """The steps of a `<steps>` block."""
    found = re.finditer(r'^<step n="(\d+)" skill="[^\n]*">\n(.*?)\n</step>$', text, re.DOTALL | re.MULTILINE)
    return [Numbered(int(m[1]), m[2]) for m in found]


def pieces_of(text: str) -> list[Remaining]:
    """The pieces of an `<edited>` block."""
    found = re.finditer(r'^<piece steps="([\d ]+)" action="\w+">\n(.*?)\n</piece>$', text, re.DOTALL | re.MULTILINE)
    return [Remaining(tuple(map(int, m[1].split())), m[2]) for m in found]


def actions_of(messages: Sequence[Message]) -> list[str]:
    """The actions that the instructions offer, all four where they offer none by name."""
    offered = [name for m in messages for name in re.findall(r"^- (keep|delete|rewrite|merge):", m.content, re.MULTILINE)]
    return offered or ["keep", "delete", "rewrite", "merge"]
