"""The verifier `exact`: equal as numbers, or as strings apart from case and blank space."""

import re
from collections.abc import Callable

from drp.text import END_THINK, final_answer, numbers

_ALONE = re.compile(r"[-−]?\s?\\?\$?\s?[-−]?[\d.,{}\\!]+")


def exact_verifier() -> Callable[[str, str], tuple[str | None, bool]]:
    """The verifier; it needs no package."""
    return judge


def judge(reply: str, answer: str) -> tuple[str | None, bool]:
    """The last `\\boxed{…}`, else what follows the last "answer is", else a reply of one line as a whole."""
    text = reply.rpartition(END_THINK)[2].strip()
    prediction = final_answer(text) or (text if text and "\n" not in text else None)
    return prediction, prediction is not None and _normal(prediction) == _normal(answer)


def _normal(text: str) -> str:
    """`1,000`, `$1000` and `1000.0` are 1000; other text is compared in one case, with single blanks, without its full stop."""
    bare = text.strip().strip("*").rstrip(".")
    found = numbers(bare.replace("\\$", "").replace("$", ""))
    if len(found) == 1 and _ALONE.fullmatch(bare.strip("$")):
        return found[0]
    return " ".join(bare.strip("$\"'").casefold().split())
