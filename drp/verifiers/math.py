"""The verifier `math`: Math-Verify on what follows the thought. Without time-outs of its own: the pool has them."""

import logging
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from drp.errors import MissingPackage
from drp.text import END_THINK

_PERCENT = re.compile(r"\s*\\?%\s*\}")
"""A percent sign at the end of a box, which the LaTeX grammar that DVC's antlr (4.9) leaves us cannot read."""

_DELIMITED = re.compile(r"(?<!\\)\$|\\boxed|\\\(|\\\[")


def math_verifier() -> Callable[[str, str], tuple[str | None, bool]]:
    """The verifier, with Math-Verify imported and its patterns compiled."""
    try:
        from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
    except ImportError as error:
        raise MissingPackage(f"verifier 'math' needs Math-Verify ({error}): pip install 'drp[math]'") from error
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that we switch its time-outs off
    boxed_first = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]

    @lru_cache(maxsize=64)
    def gold(answer: str) -> list[Any]:
        found: list[Any] = parse(delimited(answer), parsing_timeout=None)
        return found

    def judge(reply: str, answer: str) -> tuple[str | None, bool]:
        found = parse(last_answer(reply), boxed_first, parsing_timeout=None)
        if not found:
            return None, False
        said = [f for f in found if isinstance(f, str)]
        return said[-1] if said else str(found[0]), bool(verify(gold(answer), found, timeout_seconds=None))

    judge("\\boxed{1}", "1")
    return judge


def delimited(answer: str) -> str:
    """A gold answer as Math-Verify reads it: raw LaTeX such as `40,\\!000` or `\\text{Evelyn}` is found only inside `$…$`."""
    return answer if _DELIMITED.search(answer) else f"${answer}$"


def last_answer(reply: str) -> str:
    """What follows the last `</think>`, from the last line that boxes something on.

    Math-Verify joins all boxes into one set, so that an answer that was taken back on an earlier line would spoil it;
    boxes on one line stay together: `\\boxed{1} and \\boxed{2}` is a set. `\\boxed{10\\%}` is 10, as `$10\\%$` is.
    """
    text = _PERCENT.sub("}", reply.rpartition(END_THINK)[2])
    box = text.rfind("\\boxed")
    return text if box < 0 else text[text.rfind("\n", 0, box) + 1 :]
