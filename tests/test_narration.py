"""Traces narrated for procedurally generated questions."""

import random
import re
from typing import Any

import pytest

from drp.narration import NarrationError, narrate

CHAIN = "State the final answer to the following arithmetic problem: 12 + 7 - 25 ="
LEGS = "Now, how many legs are there in total if you have 3 crabs, 1 praying mantis, 2 sea slugs?\n"
EQUATION = re.compile(r"-?\d+ [+*-] \d+(?: = -?\d+(?: [+*-] \d+)?)+")


def questions(family: str, size: int, **settings: int) -> Any:
    gym = pytest.importorskip("reasoning_gym")
    return gym.create_dataset(family, size=size, seed=8_000_000, **settings)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("chain_sum", {"min_terms": 2, "max_terms": 6, "min_digits": 1, "max_digits": 3}),
        ("leg_counting", {"min_animals": 1, "max_animals": 8}),
    ],
)
def test_every_finished_trace_answers_what_the_gym_answers(family: str, settings: dict[str, int]) -> None:
    for index, item in enumerate(questions(family, 500, **settings)):
        told = narrate(item["question"], family, index)
        if told.finished:
            assert f"\\boxed{{{item['answer']}}}" in told.answer
        else:
            assert told.answer == ""


def value(left: str, sign: str, right: str) -> int:
    return {"+": int(left) + int(right), "-": int(left) - int(right), "*": int(left) * int(right)}[sign]


def sides(equation: str) -> list[int]:
    """The values of `54 + 86`, `134 + 6` and `140` in `54 + 86 = 134 + 6 = 140`."""
    return [value(*side.split(" ")) if " " in side else int(side) for side in equation.split(" = ")]


@pytest.mark.parametrize(("family", "question"), [("chain_sum", CHAIN), ("leg_counting", LEGS)])
def test_an_equation_is_right_or_is_taken_back_and_put_right_at_once(family: str, question: str) -> None:
    slips = 0
    for seed in range(400):
        thought = narrate(question, family, seed).thought
        sentences = [sentence for sentence in re.split(r"(?<=[.?!])\s+", thought) if sentence]
        for place, sentence in enumerate(sentences):
            for equation in EQUATION.findall(sentence):
                if len(set(sides(equation))) > 1:
                    slips += 1
                    left = equation.split(" = ")[0]
                    assert re.search("not right|wrong", sentences[place + 1])
                    assert f"{left} = {value(*left.split(' '))}." in sentences[place + 2]
    assert slips


def test_told_once_the_right_equations_are_a_whole_derivation() -> None:
    for seed in range(200):
        told = EQUATION.findall(narrate(CHAIN, "chain_sum", seed).thought)
        right = dict.fromkeys((one.split(" = ")[0], sides(one)[-1]) for one in told if len(set(sides(one))) == 1)
        assert list(right) == [("12 + 7", 19), ("19 - 25", -6)]


def test_a_term_of_tens_and_ones_goes_by_its_tens() -> None:
    told = {one for seed in range(20) for one in EQUATION.findall(narrate(CHAIN, "chain_sum", seed).thought)}
    assert {"12 + 7 = 19", "19 - 25 = -1 - 5 = -6"} <= told


def test_the_same_seed_tells_the_same_and_another_tells_otherwise() -> None:
    assert narrate(CHAIN, "chain_sum", 1) == narrate(CHAIN, "chain_sum", 1)
    assert len({narrate(CHAIN, "chain_sum", seed).thought for seed in range(50)}) > 40


def test_telling_leaves_the_global_random_numbers_alone() -> None:
    random.seed(0)
    before = random.getstate()
    narrate(CHAIN, "chain_sum", 1)
    assert random.getstate() == before


def test_a_few_traces_never_stop_and_some_are_terse() -> None:
    told = [narrate(CHAIN, "chain_sum", seed) for seed in range(2000)]
    assert 0.02 <= sum(not one.finished for one in told) / len(told) <= 0.05
    assert 0.1 <= sum(len(one.thought) < 130 for one in told) / len(told) <= 0.25


def test_much_of_a_verbose_trace_repeats_an_equation_that_stood_before() -> None:
    repeated = total = 0
    for seed in range(300):
        told = EQUATION.findall(narrate(LEGS, "leg_counting", seed).thought)
        total += len(told)
        repeated += len(told) - len(set(told))
    assert repeated / total > 0.4


@pytest.mark.parametrize(
    ("question", "family", "message"),
    [
        (CHAIN, "sudoku", "'sudoku' is not one that can be narrated (chain_sum, leg_counting)"),
        ("What is 2 plus 2?", "chain_sum", "no sum in 'What is 2 plus 2?'"),
        ("Hello", "leg_counting", "no animals in 'Hello'"),
        ("if you have 2 unicorns?", "leg_counting", "'unicorn' is not an animal whose legs are known"),
    ],
)
def test_a_question_that_cannot_be_narrated_is_refused_with_its_text(question: str, family: str, message: str) -> None:
    with pytest.raises(NarrationError, match=re.escape(message)):
        narrate(question, family, 0)
