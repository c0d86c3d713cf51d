"""Text: sentences, paragraphs, the thought of a response, numbers and the final answer, found without a model."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

Span = tuple[int, int]
"""[start, end) in characters."""

THINK, END_THINK = "<think>", "</think>"

_WHOLE = re.compile(  # never cut inside: code, display math, inline math
    r"```.*?(?:```|\Z)"
    r"|\\\[(?:(?!\\\[).)*?\\\]"
    r"|\$\$.*?\$\$"
    r"|\\\((?:(?!\\\().)*?\\\)"
    r"|(?<![\\$\w])\$(?=\S)[^$\n]{1,300}?(?<=\S)\$(?!\w)"
    r"|`[^`\n]+`",
    re.DOTALL,
)
_STOP = re.compile(r"(?<=\S)(?:(?P<mark>[.!?…]+[\"'”’»)\]}*_]*)(?P<gap>\s+)|(?P<line>\s*\n\s*))(?=\S)")
_BLANK_LINE = re.compile(r"(?<=\S)[^\S\n]*\n\s*\n\s*(?=\S)")
_NUMBERING = re.compile(r"[\s>*#_-]*(?:step\s+)?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})\Z", re.IGNORECASE)
_GOES_ON = re.compile(r"[a-z]{2}")
_OPERATOR = re.compile(r"[-=+/×÷·<>()]|\*(?!\*)")  # then the mark was a factorial
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'“‘])(?:e\.g|i\.e|vs|cf|approx|resp|mr|mrs|ms|dr|prof|st|fig|eq|eqs|sec|ch|vol|al|w\.l\.o\.g|"
    r"(?:[a-z]\.)+[a-z])\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Thought:
    """A response cut in two: `thought` is None where it was never closed; both sides without surrounding blank space."""

    thought: str | None
    reply: str


def split_thought(text: str) -> Thought:
    """Cut a response at its last `</think>`; an opening `<think>` at the start belongs to neither side.

    Never closed: the thought is None; the reply is then empty where the text opens a thought, else the whole text (whether
    that is an answer without a thought or a thought without an end, only who knows the chat template can say).
    """
    body = text.strip()
    opened = body.startswith(THINK)
    body = body.removeprefix(THINK)
    before, closed, after = body.rpartition(END_THINK)
    if not closed:
        return Thought(None, "" if opened else body)
    return Thought(before.strip(), after.strip())


def split_untagged(text: str) -> Thought:
    """Cut the response of a model that does not mark its thought: the last paragraph (of a single one, the last sentence)
    is the reply, what comes before it the thought; None where nothing comes before."""
    body = text.strip()
    spans = paragraphs(body)
    start = (spans if len(spans) > 1 else sentences(body) or [(0, 0)])[-1][0]
    return Thought(body[:start].strip() or None, body[start:].strip())


def sentences(text: str) -> list[Span]:
    """The sentences of a text as spans that cover it exactly; blank space belongs to the sentence before it.

    A line's end ends a sentence too, unless the next line goes on in lower case. Formulas (`$…$`, `\\[…\\]`), code,
    decimals, abbreviations and the numbers of a list are never cut.
    """
    return _cut(text, _stops(text))


def paragraphs(text: str) -> list[Span]:
    """The paragraphs of a text (blocks between blank lines) as spans that cover it exactly."""
    inside = _inside(text)
    return _cut(text, (m.end() for m in _BLANK_LINE.finditer(text) if not inside(m.start())))


def _stops(text: str) -> Iterator[int]:
    inside = _inside(text)
    for match in _STOP.finditer(text):
        if not inside(match.start()) and _ends(text, match):
            yield match.end()


def _ends(text: str, match: re.Match[str]) -> bool:
    """Whether the mark or the line's end that `match` found ends a sentence."""
    gap = match["gap"] or match["line"]
    if gap.count("\n") > 1:
        return True
    if _GOES_ON.match(text, match.end()):
        return False
    if match["mark"] and match["mark"][0] == "!" and "\n" not in gap:
        return not _OPERATOR.match(text, match.end())
    if match["mark"] and match["mark"].startswith("."):
        return not _is_numbering(text, match) and not _ABBREVIATION.search(text, max(0, match.start() - 20), match.start())
    return True


def _is_numbering(text: str, match: re.Match[str]) -> bool:
    """Whether the dot belongs to the number of a list's item: `2. Then`."""
    line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
    return match["mark"] == "." and "\n" not in match["gap"] and _NUMBERING.match(line) is not None


def _inside(text: str) -> Callable[[int], bool]:
    """Says of offsets, asked in rising order, whether they lie inside a formula or code."""
    wholes = _WHOLE.finditer(text)
    state: list[Span] = [(0, 0)]

    def ask(offset: int) -> bool:
        while state[0][1] <= offset:
            found = next(wholes, None)
            state[0] = found.span() if found else (len(text) + 1, len(text) + 1)
            if not found:
                break
        return state[0][0] < offset < state[0][1]

    return ask


def _cut(text: str, ends: Iterable[int]) -> list[Span]:
    places = [0, *ends, len(text)]
    return [(a, b) for a, b in itertools.pairwise(places) if a < b]


_SEPARATOR = r"(?:,\\!|\{,\}|\\,|,)"
_NUMBER = re.compile(
    rf"(?<![\w.])(?:[0-9]{{1,3}}(?:{_SEPARATOR}[0-9]{{3}})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![\w.])\.[0-9]+", re.ASCII
)
_OPERAND = re.compile(r"[\w)\]}%]\s*[-−–]\s?\Z")
_MINUS = re.compile(r"[-−]\s?\Z")


def numbers(text: str) -> list[str]:
    """The numbers of a text in its order, normalised: `1,000`, `1{,}000` and `1\\,000` are 1000; `72.` and `72.0` are 72.

    A minus is a sign only where it cannot be a subtraction: `-5`, `= -5`, but not `7 - 5`. Digits inside words
    (`x1`, `H2O`) are not numbers.
    """
    return [_sign(text, m.start()) + _plain(m[0]) for m in _NUMBER.finditer(text)]


def _plain(number: str) -> str:
    whole, _, part = re.sub(_SEPARATOR, "", number).partition(".")
    part = part.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{part}" if part else "")


def _sign(text: str, start: int) -> str:
    before = text[max(0, start - 6) : start]
    return "-" if _MINUS.search(before) and not _OPERAND.search(before) else ""


_BOX = re.compile(r"\\boxed\s*\{")
_ANSWER = re.compile(r"\banswer(?:\s+is|\s*[:=])\s*:?\s*(.+?)\s*(?:[.!]?\s*\n|[.!](?=\s|\Z)|\Z)", re.IGNORECASE)


def boxes(text: str) -> list[Span]:
    """The spans of the contents of every balanced `\\boxed{…}`, in order."""
    spans = ((m.end(), _closing(text, m.end())) for m in _BOX.finditer(text))
    return [(start, end) for start, end in spans if end is not None]


def _closing(text: str, start: int) -> int | None:
    depth = 1
    for match in re.compile(r"(?<!\\)[{}]").finditer(text, start):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.start()
    return None


def final_answer(text: str) -> str | None:
    """The answer that a text gives: its last balanced `\\boxed{…}`, else what follows its last "answer is"; None without."""
    found = boxes(text)
    if found:
        return text[slice(*found[-1])].strip()
    said = [m[1] for m in _ANSWER.finditer(text)]
    return said[-1].strip(" *$:\"'“”") or None if said else None
