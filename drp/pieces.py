"""Pieces: what the actions leave of a thought, in its order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict


class Step(TypedDict):
    """A span of the thought that uses one skill; [start, end) in characters."""

    start: int
    end: int
    skill: str


class Action(TypedDict):
    """What the teacher does to one step (0-based).

    `text` stands for a rewritten step, or, at the first step of a merge, for the whole group; `into` is that first step.
    `flags`: `number:<n>` for each number of `text` that is in neither the steps nor the question.
    """

    step: int
    action: str
    text: str | None
    reason: str
    into: int | None
    flags: list[str]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part that survives: of one step, or of several merged ones. `gap` is the blank space that followed it."""

    steps: tuple[int, ...]
    action: str
    text: str
    gap: str


def pieces(thought: str, steps: Sequence[Step], actions: Sequence[Action]) -> list[Piece]:
    """The surviving parts in order; a kept one word for word. Where steps behind it fall away, the widest gap stays."""
    found: list[Piece] = []
    for action in actions:
        step = steps[action["step"]]
        source = thought[step["start"] : step["end"]]
        gap = source[len(source.rstrip()) :]
        if action["action"] == "delete" or (action["action"] == "merge" and action["into"] != action["step"]):
            found = found and [*found[:-1], _followed(found[-1], action, gap)]
        else:
            found.append(Piece((action["step"],), action["action"], (action["text"] or source).strip(), gap))
    return [piece for piece in found if piece.text]


def _followed(piece: Piece, action: Action, gap: str) -> Piece:
    """`piece` with the step that `action` takes away behind it, or merges into it."""
    steps = (*piece.steps, action["step"]) if action["action"] == "merge" else piece.steps
    return Piece(steps, piece.action, piece.text, max(piece.gap, gap, key=lambda g: (g.count("\n"), len(g))))
