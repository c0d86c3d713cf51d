"""Reassembling by rules: the remaining pieces as they stand, and the student's own answer."""

from collections.abc import Sequence
from typing import Any

from drp.rules.cues import CONCLUSION
from drp.rules.material import Remaining
from drp.text import final_answer, numbers, sentences


def reassemble(pieces: Sequence[Remaining], reply: str) -> dict[str, Any]:
    """A reply to the reassemble prompt."""
    passages = [{"steps": list(piece.steps), "text": None} for piece in pieces]
    return {"passages": passages, "answer": _answer([piece.text for piece in pieces], reply)}


def _answer(texts: Sequence[str], reply: str) -> str:
    """The reply's answer, or its text where it has no short one; else what the thought concludes; empty where it never does."""
    thought = "\n\n".join(texts)
    found = final_answer(reply) or reply.strip() or final_answer(thought)
    if found or not thought:
        return found or ""
    start, end = sentences(thought)[-1]
    concluded = numbers(thought[start:end]) if CONCLUSION.search(thought, start, end) else []
    return concluded[-1] if concluded else ""
