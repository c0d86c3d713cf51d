"""Answering: a final answer said in the format of the student's own reply."""

import re

from drp.teaching import same_answer
from drp.text import boxes, final_answer, paragraphs

_SAID = re.compile(r"(\banswer(?:\s+is|\s*[:=])\s*:?\s*\**\s*)(.+?)(\s*\**\s*(?:[.!]?\s*\n|[.!](?=\s|\Z)|\Z))", re.IGNORECASE)


def in_format(answer: str, reply: str) -> str:
    """`reply` itself where it gives `answer`, or shows no place for one; else with its last answer replaced.

    An empty reply becomes a boxed sentence.
    """
    if not reply:
        return f"The answer is \\boxed{{{answer}}}." if answer else ""
    given = final_answer(reply)
    if not answer or given is None or same_answer(given, answer):
        return reply
    if found := boxes(reply):
        start, end = found[-1]
        return f"{reply[:start]}{answer}{reply[end:]}"
    *_, said = _SAID.finditer(reply)
    return f"{reply[: said.start(2)]}{answer}{reply[said.end(2) :]}"


def short(reply: str) -> str:
    """The part of a reply that gives the answer: its last paragraphs from the one with the last box or "answer is" on."""
    spans = paragraphs(reply)
    giving = [place for place, span in enumerate(spans) if final_answer(reply[slice(*span)]) is not None]
    return reply[spans[giving[-1]][0] :].strip() if giving else reply
