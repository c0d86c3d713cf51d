"""Verbose, R1-like traces for procedurally generated questions.

The miniature student learns to think from these. A trace reads the problem, sets it up, works through it one equation
at a time, and around that does what R1's distilled students do: doubts, repeats results, checks a step twice, goes
through everything again, sometimes slips and notices, sometimes never stops. A smaller share is terse from the start,
so that a pruned trace is still something the student could have said.

Questions are those of the `reasoning-gym` package. They are read with a regular expression and solved here; the
package's own answers are never looked at.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from drp.errors import DataError

TERSE_SHARE = 0.2
"""The share of traces that come without doubts, checks and repetitions, unless asked otherwise."""

LOOP_CHARACTERS = 1500
"""An endless trace is cut once it is about this long."""

LEGS = {
    **dict.fromkeys(("snake", "sea slug", "jellyfish", "flatworm", "leech"), 0),
    **dict.fromkeys(("chicken", "bird", "human", "duck"), 2),
    **dict.fromkeys(("dog", "cat", "cow", "horse", "lion", "elephant", "giraffe", "tiger", "deer", "sheep"), 4),
    "starfish": 5,
    **dict.fromkeys(("insect", "ant", "butterfly", "beetle", "bee", "wasp", "grasshopper", "cricket"), 6),
    **dict.fromkeys(("cockroach", "praying mantis", "firefly"), 6),
    **dict.fromkeys(("spider", "scorpion"), 8),
    **dict.fromkeys(("crab", "lobster", "shrimp"), 10),
    "woodlouse": 14,
}
"""How many legs each animal of `leg_counting` has."""


class NarrationError(DataError):
    """A question that cannot be narrated: its family is unknown, or its text is not what that family asks."""


@dataclass(frozen=True)
class Narration:
    """A trace: what stands before `</think>`, what stands after it, and whether it ever got that far."""

    thought: str
    answer: str
    finished: bool


@dataclass(frozen=True)
class Equation:
    """One piece of arithmetic, such as `12 + 7 = 19`, or `54 + 86 = 134 + 6 = 140` where there is a way to go."""

    left: str
    right: int
    way: str = ""

    def __str__(self) -> str:
        return f"{self.left} = {self.way} = {self.right}" if self.way else f"{self.left} = {self.right}"


@dataclass(frozen=True)
class Move:
    """One step of a solution: ways to announce it, what must be known for it, its equations, ways to say what came out."""

    leads: tuple[str, ...]
    facts: tuple[str, ...]
    equations: tuple[Equation, ...]
    outcomes: tuple[str, ...]
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Solution:
    """A question, understood and solved: everything a narrator needs to tell it. Tuples are ways to say the same thing."""

    readings: tuple[str, ...]
    setups: tuple[str, ...]
    moves: tuple[Move, ...]
    result: int
    conclusions: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Manner:
    """How a narrator talks: the chance of each habit wherever it could show."""

    reading: float
    setup: float
    hedge: float
    lead: float
    recheck: float
    outcome: float
    slip: float
    restart: float
    another: float
    loop: float
    closing: float
    paragraph: float


def narrate(question: str, family: str, seed: int, *, terse_share: float = TERSE_SHARE) -> Narration:
    """Solve `question`, one of `reasoning-gym`'s `family`, and tell it as a trace; the same arguments, the same trace."""
    if family not in SOLVERS:
        raise NarrationError(f"family: {family!r} is not one that can be narrated ({', '.join(sorted(SOLVERS))})")
    solution = SOLVERS[family](question)
    rng = random.Random(f"{family}/{seed}/{question}")
    return _Narrator(solution, _manner(rng, terse_share), rng).tell()


# Reading and solving the questions of each family.


def solve_chain_sum(question: str) -> Solution:
    """`State the final answer to the following arithmetic problem: 12 + 7 - 5 =`, solved from left to right."""
    found = re.search(r"(-?\d+(?: [+-] -?\d+)+) =\s*$", question)
    if found is None:
        raise NarrationError(f"chain_sum: no sum in {question!r}")
    task = found[1]
    first, *rest = re.findall(r"(?:^|([+-]) )(-?\d+)", task)
    total = int(first[1])
    moves = []
    for position, (sign, term) in enumerate(rest):
        equation = _sum(total, sign, int(term))
        total = equation.right
        moves.append(_sum_move(position, sign, term, equation))
    numbers = [term for _, term in re.findall(r"(?:^|([+-]) )(-?\d+)", task)]
    return Solution(
        readings=(
            f"Okay, so I need to find {task}.",
            f"Okay, so I have to work out {task}.",
            f"Alright, I need to compute {task}.",
            f"So the problem is {task}.",
        ),
        setups=(
            f"There are {len(numbers)} numbers here: {', '.join(numbers)}.",
            "I'll go from left to right.",
            "I need to add and subtract from left to right.",
        ),
        moves=tuple(moves),
        result=total,
        conclusions=(
            f"So the answer is {total}.",
            f"So the final answer is {total}.",
            f"Therefore, the answer is {total}.",
        ),
        answers=(
            f"The answer is \\boxed{{{total}}}.",
            f"The final answer is \\boxed{{{total}}}.",
            f"{task} = \\boxed{{{total}}}",
        ),
    )


def _sum(total: int, sign: str, term: int) -> Equation:
    """`total` plus or minus `term`; where the term has tens and ones, the tens first."""
    ones = term % 10 if term > 10 else 0
    tens, reached = (total + term - ones, total + term) if sign == "+" else (total - term + ones, total - term)
    return Equation(f"{total} {sign} {term}", reached, f"{tens} {sign} {ones}" if ones else "")


def _sum_move(position: int, sign: str, term: str, equation: Equation) -> Move:
    doing = f"add {term}" if sign == "+" else f"subtract {term}"
    return Move(
        leads=(
            f"First, I {doing}." if position == 0 else f"Next, I {doing}.",
            f"First, I need to {doing}." if position == 0 else f"Now I need to {doing}.",
        ),
        facts=(),
        equations=(equation,),
        outcomes=(f"So now I have {equation.right}.", f"So that's {equation.right} so far.", f"Okay, {equation.right}."),
    )


def solve_leg_counting(question: str) -> Solution:
    """`… how many legs are there in total if you have 5 crabs, 1 snake?`, solved animal by animal with a running total."""
    found = re.search(r"if you have ([^?]+)\?", question)
    if found is None:
        raise NarrationError(f"leg_counting: no animals in {question!r}")
    herds = found[1].split(", ")
    total = 0
    moves = []
    for position, herd in enumerate(herds):
        count, animal = _herd(herd)
        legs = count * LEGS[animal]
        equations = [Equation(f"{count} * {LEGS[animal]}", legs)]
        if position:
            equations.append(_sum(total, "+", legs))
        total += legs
        moves.append(_legs_move(position, herd, count, animal, tuple(equations)))
    listed = f"{', '.join(herds[:-1])} and {herds[-1]}" if len(herds) > 1 else herds[0]
    return Solution(
        readings=(
            f"Okay, so I need to count the legs of {listed}.",
            f"Okay, so I have {listed}, and I need the total number of legs.",
            f"Alright, I need to find how many legs {listed} have in total.",
            f"So there are {listed}.",
        ),
        setups=(
            f"There are {len(herds)} kinds of animals here." if len(herds) > 1 else "There is 1 kind of animal here.",
            "I'll go through the animals one by one.",
            "I need to multiply each count by the number of legs and add it all up.",
        ),
        moves=tuple(moves),
        result=total,
        conclusions=(
            f"So the answer is {total}.",
            f"So the total is {total} legs.",
            f"Therefore, there are {total} legs in total.",
        ),
        answers=(
            f"The answer is \\boxed{{{total}}}.",
            f"The total number of legs is \\boxed{{{total}}}.",
            f"There are \\boxed{{{total}}} legs in total.",
        ),
    )


def _herd(herd: str) -> tuple[int, str]:
    """`5 crabs` as (5, "crab"); the package forms every plural with a plain s."""
    number, _, name = herd.partition(" ")
    animal = name.removesuffix("s") if int(number) > 1 else name
    if animal not in LEGS:
        raise NarrationError(f"leg_counting: {animal!r} is not an animal whose legs are known")
    return int(number), animal


def _legs_move(position: int, herd: str, count: int, animal: str, equations: tuple[Equation, ...]) -> Move:
    legs, total = equations[0].right, equations[-1].right
    own = f"That's {legs} legs for the {herd}." if position else f"So that's {legs} legs for the {herd}."
    verb = "is" if count == 1 else "are"
    return Move(
        leads=(
            f"First, the {herd}." if position == 0 else f"Next, the {herd}.",
            f"Let me start with the {herd}." if position == 0 else f"Now the {herd}.",
        ),
        facts=(f"Each {animal} has {LEGS[animal]} legs.", f"There {verb} {herd} with {LEGS[animal]} legs each."),
        equations=equations,
        outcomes=(f"So the total is {total} so far.", f"So now I have {total} legs.", own),
        doubts=(f"Wait, does each {animal} really have {LEGS[animal]} legs? Yes, each {animal} has {LEGS[animal]} legs.",),
    )


SOLVERS: dict[str, Callable[[str], Solution]] = {"chain_sum": solve_chain_sum, "leg_counting": solve_leg_counting}
"""What can be narrated, by its name in `reasoning-gym`."""


# Telling a solution.

HEDGES = (
    "Hmm, let me think about it step by step.",
    "Hmm, let me see.",
    "That doesn't look too hard, but I should be careful.",
    "I think I should take it slowly so that I don't make a mistake.",
    "Let me think about how to do this.",
)
RECHECKS = (
    "Wait, let me double-check that.",
    "Hmm, let me check that again.",
    "Wait, is that right?",
    "Let me make sure.",
)
AGREEMENTS = ("Yes, that's right.", "Okay, that's correct.", "Yes, that's the same.")
SLIPS = ("Wait, that's not right.", "Hmm, no, that's wrong.")
RESTARTS = (
    "Wait, let me go through it again from the start.",
    "Let me double-check by going through it again.",
    "Hmm, but let me make sure that I didn't make a mistake. Let me do it again.",
    "Wait, maybe I should check everything once more.",
)
LOOPS = ("Wait, something feels off. Let me go through it again.", "Hmm, wait, I'm not sure. Let me check it again.")
CLOSINGS = ("I think that's right.", "I'm confident in that.", "It all seems to fit.", "That makes sense.")
EQUATION_OPENINGS = ("", "", "", "So, ", "Then ", "That gives ")


def _manner(rng: random.Random, terse_share: float) -> Manner:
    """A narrator's habits: terse in a small share of traces, else more or less talkative."""
    if rng.random() < terse_share:
        brevity = rng.choice((0.0, 0.3, 0.8))
        return Manner(
            reading=rng.choice((0.0, 1.0)),
            setup=rng.choice((0.0, 0.4)),
            hedge=0.0,
            lead=brevity,
            recheck=0.0,
            outcome=rng.choice((0.0, 0.0, 0.4)),
            slip=0.0,
            restart=0.0,
            another=0.0,
            loop=0.0,
            closing=0.0,
            paragraph=rng.choice((0.0, 0.5, 1.0)),
        )
    talk = rng.uniform(0.5, 1.0)
    return Manner(
        reading=1.0,
        setup=talk,
        hedge=0.75 * talk,
        lead=0.8 * talk,
        recheck=0.5 * talk,
        outcome=0.7 * talk,
        slip=0.015,
        restart=0.75 * talk,
        another=0.35 * talk,
        loop=0.25,
        closing=0.8 * talk,
        paragraph=rng.choice((0.7, 1.0)),
    )


class _Narrator:
    """Tells one solution in one manner."""

    def __init__(self, solution: Solution, manner: Manner, rng: random.Random) -> None:
        self.solution = solution
        self.manner = manner
        self.rng = rng
        self.paragraphs: list[list[str]] = [[]]

    def tell(self) -> Narration:
        self._open()
        for move in self.solution.moves:
            self._work(move)
        self._conclude()
        if self.rng.random() < self.manner.restart:
            self._again(RESTARTS)
            if self.rng.random() < self.manner.another:
                if self.rng.random() < self.manner.loop:
                    return self._never_stop()
                self._again(RESTARTS)
        return Narration(self._text(), self.rng.choice(self.solution.answers), finished=True)

    def _open(self) -> None:
        self._perhaps(self.manner.reading, self.solution.readings)
        self._perhaps(self.manner.hedge, HEDGES)
        self._break(self.manner.paragraph)
        for setup in self.solution.setups:
            self._perhaps(0.6 * self.manner.setup, (setup,))
        self._perhaps(0.5 * self.manner.hedge, HEDGES)
        self._break(self.manner.paragraph)

    def _work(self, move: Move) -> None:
        self._perhaps(self.manner.lead, move.leads)
        if move.facts:
            self._say(self.rng.choice(move.facts))
            if move.doubts:
                self._perhaps(0.4 * self.manner.recheck, move.doubts)
        for equation in move.equations:
            self._compute(equation)
        self._perhaps(self.manner.outcome, move.outcomes)
        self._break(self.manner.paragraph)

    def _compute(self, equation: Equation) -> None:
        if self.rng.random() < self.manner.slip:
            wrong = equation.right + self.rng.choice((-10, -2, -1, 1, 2, 10))
            self._say(f"{Equation(equation.left, wrong)}.")
            self._say(self.rng.choice(SLIPS))
            equation = Equation(equation.left, equation.right)
        self._say(f"{self.rng.choice(EQUATION_OPENINGS)}{equation}.")
        if self.rng.random() < self.manner.recheck:
            self._say(self.rng.choice(RECHECKS))
            self._say(f"{equation}.")
            self._perhaps(0.7, AGREEMENTS)

    def _conclude(self) -> None:
        self._say(self.rng.choice(self.solution.conclusions))
        self._perhaps(self.manner.closing, CLOSINGS)
        self._break(1.0)

    def _again(self, openings: tuple[str, ...]) -> None:
        """Go through every equation once more, and say the result once more."""
        self._say(self.rng.choice(openings))
        for move in self.solution.moves:
            for equation in move.equations:
                self._say(f"{equation}.")
        self._say(f"Yes, that's {self.solution.result} again.")
        self._break(1.0)
        self._say(self.rng.choice(self.solution.conclusions))
        self._break(1.0)

    def _never_stop(self) -> Narration:
        opening = (self.rng.choice(LOOPS),)
        while sum(len(sentence) for paragraph in self.paragraphs for sentence in paragraph) < LOOP_CHARACTERS:
            self._again(opening)
        return Narration(self._text(), "", finished=False)

    def _say(self, sentence: str) -> None:
        self.paragraphs[-1].append(sentence)

    def _perhaps(self, chance: float, sentences: tuple[str, ...]) -> None:
        if self.rng.random() < chance:
            self._say(self.rng.choice(sentences))

    def _break(self, chance: float) -> None:
        if self.paragraphs[-1] and self.rng.random() < chance:
            self.paragraphs.append([])

    def _text(self) -> str:
        return "\n\n".join(" ".join(paragraph) for paragraph in self.paragraphs if paragraph)
