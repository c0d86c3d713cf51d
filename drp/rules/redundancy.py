"""Redundancy: which sentences of a thought can go without its derivation losing anything, and why."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from drp.rules.cues import (
    AGREEMENT,
    ANNOUNCEMENT,
    CHECK,
    CONCLUSION,
    CORRECTION,
    COUNTING,
    DOUBT,
    OUTCOME,
    RESULT,
    TENTATIVE,
    is_filler,
)
from drp.rules.equations import Equation, bare, equations, inputs
from drp.teaching import states_answer

HESITATES = "hesitates or talks to itself"
WRONG_TURN = "a wrong turn that is put right later"
REPEATED_EQUATION = "repeats an equation"
SETTLED = "asks what is settled right after"
CONFIRMS = "confirms what was already right"
ANNOUNCES = "announces what the next one does"
COUNTS = "counts what the question lists"
REPEATED_RESULT = "says a result again"
REPEATED = "says again what was said"
AFTER_ANSWER = "re-checks after the answer is found"

_PLAIN_WORDS = frozenset(
    re.findall(
        r"\S+",
        "a an the of to in on at for and or so but is are was were be been it its it's this that that's these those i i'm "
        "i've we "
        "you he she they there then than as with by from into have has had do does did can could will would should may might "
        "must not no yes just also now okay ok well wait hmm hold actually maybe perhaps right let me let's think means "
        "mean if "
        "when which what who how because since like about all any some each every one get got going go make makes need here "
        "again both really truly still only even very much more other another same way first next therefore thus hence oh "
        "alright",
    )
)


_OPERATION = re.compile(r"\d\s*[-+*/×÷^]\s*\d")


@dataclass(frozen=True)
class Unit:
    """One sentence, and the step (0-based) that it stands in."""

    text: str
    step: int

    @cached_property
    def equations(self) -> list[Equation]:
        """What it states."""
        return equations(self.text)

    @cached_property
    def numbers(self) -> set[str]:
        """Its numbers, unsigned."""
        return bare(self.text)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Its words that carry content, in order, roughly stemmed."""
        said = re.findall(r"[a-z]+(?:'[a-z]+)?", self.text.lower())
        return tuple(w.removesuffix("s") for w in said if w not in _PLAIN_WORDS)

    @property
    def length(self) -> int:
        """In words."""
        return len(self.text.split())


@dataclass
class _State:
    """What is established when a sentence is reached."""

    known: set[str]
    stated: set[Equation] = field(default_factory=set)
    recent: list[Unit] = field(default_factory=list)
    kept: list[Unit] = field(default_factory=list)

    def keep(self, unit: Unit) -> None:
        self.known |= unit.numbers
        self.stated |= set() if "?" in unit.text else set(unit.equations)
        self.kept.append(unit)
        if unit.equations:
            self.recent = [*self.recent[-2:], unit]


def redundant(units: Sequence[Unit], question: str, answer: str | None) -> dict[int, str]:
    """The places of the sentences that can go, each with its reason.

    A number that a remaining sentence takes from elsewhere still stands in the question or in a remaining sentence before it,
    if it did so at first.
    """
    gone = wrong_turns(units) | settled_doubts(units)
    end = _answered(units, answer, gone)
    state = _State(bare(question))
    for place, unit in enumerate(units):
        if end is not None and place > end:
            gone.setdefault(place, AFTER_ANSWER)
        elif place not in gone and (reason := _reason(units, place, state, place == end)):
            gone[place] = reason
        if place not in gone:
            state.keep(unit)
    _restore(units, gone, bare(question))
    return gone


def _reason(units: Sequence[Unit], place: int, state: _State, answers: bool) -> str | None:
    """Why the sentence at `place` says nothing new; None where it does."""
    unit = units[place]
    if not answers and COUNTING.match(unit.text):
        return COUNTS
    if answers or not unit.numbers <= state.known or any(e not in state.stated for e in unit.equations):
        return None if not _announces(units, place, state) or answers else ANNOUNCES
    if is_filler(unit.text):
        return HESITATES
    if unit.equations:
        return REPEATED_EQUATION if len(unit.words) <= 4 or _said_before(unit, state) else None
    if AGREEMENT.match(unit.text) and unit.length <= 12 and (unit.numbers or len(unit.words) <= 3):
        return CONFIRMS
    if CHECK.search(unit.text) and unit.length <= 14 and not unit.numbers:
        return HESITATES
    if _announces(units, place, state):
        return ANNOUNCES
    if _outcome(unit, state):
        return REPEATED_RESULT
    return REPEATED if _said_before(unit, state) else None


def _announces(units: Sequence[Unit], place: int, state: _State) -> bool:
    """Whether it says what to do next, and the next sentence with an equation shows it being done.

    One that takes up a quantity ("Next, I add 57.") is a step of its own: it keeps the place in what has to be gone through.
    """
    unit = units[place]
    if unit.equations or unit.numbers or unit.length > 9 or not ANNOUNCEMENT.match(unit.text) or place == 0:
        return False
    following = next((u for u in units[place + 1 : place + 4] if u.equations or u.numbers > unit.numbers), None)
    return following is not None and unit.numbers <= following.numbers


def _outcome(unit: Unit, state: _State) -> bool:
    """Whether it only says again what a recent equation gave."""
    results = {n for u in state.recent for e in u.equations for n in bare(e.right)}
    if not unit.numbers or unit.length > 11 or OUTCOME.match(unit.text) is None or _OPERATION.search(unit.text):
        return False
    given = {n for u in state.recent for n in u.numbers}
    return bool(unit.numbers & results) and unit.numbers <= results | given | state.known


def _said_before(unit: Unit, state: _State) -> bool:
    """Whether an earlier sentence that stays has (nearly) all its content words and all its numbers."""
    asked = "?" in unit.text and DOUBT.match(unit.text) is None
    if asked or len(unit.words) < (2 if unit.numbers else 3):
        return False
    return any(
        unit.numbers <= other.numbers and "?" not in other.text and _shared(unit.words, other.words) >= 0.8 * len(unit.words)
        for other in state.kept
    )


def _shared(words: tuple[str, ...], others: tuple[str, ...]) -> int:
    """How many of `words` come in the same order among `others` (0 where too few are there in any order)."""
    if sum(word in others for word in words) < 0.8 * len(words):
        return 0
    return sum(match.size for match in difflib.SequenceMatcher(None, words, others, autojunk=False).get_matching_blocks())


def _answered(units: Sequence[Unit], answer: str | None, gone: dict[int, str]) -> int | None:
    """The first sentence that concludes with the final answer, after something was derived; None where none does."""
    derived = False
    for place, unit in enumerate(units):
        cue = CONCLUSION.search(unit.text) or (len(answer or "") > 2 and RESULT.match(unit.text))
        concludes = cue and not TENTATIVE.search(unit.text)
        if place not in gone and derived and concludes and states_answer(unit.text, answer):
            return place
        derived = derived or bool(unit.equations)
    return None


def wrong_turns(units: Sequence[Unit]) -> dict[int, str]:
    """Sentences whose computation is corrected later: same left side, other result, with a correction or a doubt between."""
    gone: dict[int, str] = {}
    for place, unit in enumerate(units):
        right = {e: later for e in unit.equations if e.computed and (later := _corrected(units, place, e)) is not None}
        if right and all(_same_chain(e, right) for e in unit.equations):
            gone[place] = WRONG_TURN
            wrong = {n for e in right for n in bare(e.right)}
            gone |= {p: WRONG_TURN for p in range(place + 1, max(right.values())) if _belongs(units[p], wrong)}
    return gone


def _same_chain(equation: Equation, corrected: Iterable[Equation]) -> bool:
    """Whether it is a link of a chain `a = b = c` whose a = c is corrected (or is that itself)."""
    return any(equation.left == other.left or equation.right == other.right for other in corrected)


def settled_doubts(units: Sequence[Unit]) -> dict[int, str]:
    """Sentences that only ask whether an equation holds that one of the next six states."""
    gone: dict[int, str] = {}
    for place, unit in enumerate(units):
        soon = {e for later in units[place + 1 : place + 7] if "?" not in later.text for e in later.equations}
        if "?" in unit.text and unit.equations and set(unit.equations) <= soon and len(unit.words) <= 2:
            gone[place] = SETTLED
    return gone


def _corrected(units: Sequence[Unit], place: int, equation: Equation) -> int | None:
    """Where the equation is put right: the next sentence with its left side and another result, after a correction."""
    doubted = "?" in units[place].text
    for later in range(place + 1, min(place + 9, len(units))):
        doubted = doubted or bool(CORRECTION.search(units[later].text))
        results = {e.right for e in units[later].equations if e.left == equation.left and e.computed}
        if results:
            return later if doubted and equation.right not in results else None
    return None


def _belongs(unit: Unit, wrong: set[str]) -> bool:
    """Whether a sentence between a mistake and its correction is about nothing but the mistake."""
    return is_filler(unit.text) or (unit.numbers == wrong and not unit.equations)


def _restore(units: Sequence[Unit], gone: dict[int, str], given: set[str]) -> None:
    """Bring back, first things first, what introduces a number that a remaining sentence takes from elsewhere."""
    place, known = 0, set(given)
    while place < len(units):
        if place not in gone:
            missing = inputs(units[place].text, units[place].equations) - known
            back = _introductions(units, gone, place, missing)
            if back:
                for earlier in back:
                    del gone[earlier]
                place, known = 0, set(given)
                continue
            known |= units[place].numbers
        place += 1


def _introductions(units: Sequence[Unit], gone: dict[int, str], place: int, missing: set[str]) -> set[int]:
    """The first deleted sentence before `place` for each missing number; wrong turns stay away."""
    firsts = (
        next((p for p in range(place) if p in gone and gone[p] != WRONG_TURN and number in units[p].numbers), None)
        for number in missing
    )
    return {p for p in firsts if p is not None}
