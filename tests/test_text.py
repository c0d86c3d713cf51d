"""Sentences, paragraphs, thoughts, numbers and answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp.text import final_answer, numbers, paragraphs, sentences, split_thought

TRACE_LIKE = st.text(alphabet="aB1 .!?\n\\[]()$`<>/think,", max_size=200)


def cut(text: str) -> list[str]:
    return [text[a:b].rstrip() for a, b in sentences(text)]


@given(st.one_of(st.text(), TRACE_LIKE))
def test_sentences_and_paragraphs_cover_any_text_exactly(text: str) -> None:
    for spans in (sentences(text), paragraphs(text)):
        assert "".join(text[a:b] for a, b in spans) == text
        assert all(a < b for a, b in spans)


@given(st.text(alphabet="ab. \n!", min_size=1).filter(str.strip))
def test_no_sentence_is_blank(text: str) -> None:
    assert all(text[a:b].strip() for a, b in sentences(text))


def test_blank_space_belongs_to_the_sentence_before_it() -> None:
    text = "One.  Two.\n\nThree."
    assert [text[a:b] for a, b in sentences(text)] == ["One.  ", "Two.\n\n", "Three."]


@pytest.mark.parametrize(
    "whole",
    [
        "It costs 3.50 dollars, e.g. for Dr. Smith.",
        "So C(5,2) = 5! / (2! * 3!) = 10.",
        "That is\nstill one sentence.",
        "\\[\nx = 5. Then\n\ny = 6\n\\]",
        "$$a. B$$",
        "Use `print. Me` now.",
        "```\na = 1. \n\nB = 2\n```",
        "1. First add them.",
        "Hmm... maybe so.",
    ],
)
def test_what_is_one_sentence_stays_one(whole: str) -> None:
    assert cut(whole) == [whole]


def test_prose_lists_and_money_are_cut_where_sentences_end() -> None:
    assert cut("It costs $5. Then $7. Is it? Yes! Next.") == ["It costs $5.", "Then $7.", "Is it?", "Yes!", "Next."]
    assert cut("1. One. More.\n2. Two.") == ["1. One.", "More.", "2. Two."]
    assert cut("12 + 7 = 19\n\n19 - 5 = 14") == ["12 + 7 = 19", "19 - 5 = 14"]


def test_a_response_is_cut_at_its_last_closing_tag() -> None:
    cut = split_thought("<think>\nI write </think> here.\n</think>\n\nThe answer is 5.")
    assert (cut.thought, cut.reply) == ("I write </think> here.", "The answer is 5.")


def test_a_prefilled_thought_needs_no_opening_tag() -> None:
    cut = split_thought("So 2 + 3 = 5.\n</think>\n\nThe answer is 5.")
    assert (cut.thought, cut.reply) == ("So 2 + 3 = 5.", "The answer is 5.")


def test_an_unclosed_thought_is_none() -> None:
    assert split_thought("<think>\nSo 2 + 3").thought is None
    assert split_thought("<think>\nSo 2 + 3").reply == ""
    assert split_thought("The answer is 5.") == split_thought(" The answer is 5. ")
    assert split_thought("The answer is 5.").reply == "The answer is 5."


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,000 and 1{,}000 and 1\\,000 and 40,\\!000", ["1000", "1000", "1000", "40000"]),
        ("72. 72.0 3.50 .5 007", ["72", "72", "3.5", "0.5", "7"]),
        ("-5, = -5, 7 - 5, 7-5, (-3)", ["-5", "-5", "7", "5", "7", "5", "-3"]),
        ("x1 H2O 2x 10% (3,4,5)", ["2", "10", "3", "4", "5"]),
    ],
)
def test_numbers_are_normalised(text: str, found: list[str]) -> None:
    assert numbers(text) == found


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("first \\boxed{32}, no, \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("The answer is **3.14**. So there.", "3.14"),
        ("Answer: 5", "5"),
        ("\\boxed{never closed", None),
        ("Nothing here.", None),
    ],
)
def test_the_final_answer_is_the_last_box_or_what_is_called_the_answer(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer
