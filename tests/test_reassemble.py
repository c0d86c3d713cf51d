"""reassemble: one thought in the student's voice, every sentence traced to its steps."""

import json
from typing import Any

import pytest

from drp.answering import in_format, short
from drp.op import Outcome, Record
from drp.ops.reassemble import check, reassemble
from drp.pieces import Action, Step
from drp.text import sentences, split_thought
from tests.scripted import TEACHER, Scripted, ScriptedWork, dropped, kept, prompt, record, replies

THOUGHT = "I need 12 + 7 - 5.\n\nFirst I add. 12 + 7 = 19. Wait, is that right? Yes.\n\nSo 19 - 5 = 14. The answer is 14."
KEEP, DELETE = ("keep", None, None), ("delete", None, None)
MERGED = (KEEP, ("merge", "First, 12 + 7 = 19.", 1), ("merge", None, 1), DELETE, DELETE, ("rewrite", "19 - 5 = 14.", None), KEEP)
PLAIN = (KEEP, DELETE, KEEP, DELETE, DELETE, KEEP, KEEP)


def edited(actions: tuple[tuple[str, str | None, int | None], ...] = MERGED, **more: Any) -> Record:
    steps = [Step(start=a, end=b, skill="arithmetic") for a, b in sentences(THOUGHT)]
    made = [
        Action(step=step, action=name, text=text, reason="because", into=into, flags=[])
        for step, (name, text, into) in enumerate(actions)
    ]
    return record(THOUGHT, steps=steps, actions=made, draft=None, **more)


def joined(given: Record, **options: Any) -> Outcome:
    [outcome] = reassemble([given], ScriptedWork(replies()), **options)
    return outcome


def asked(teacher: Scripted, given: Record | None = None, **options: Any) -> Outcome:
    given = given or edited()
    [outcome] = reassemble([given], ScriptedWork(teacher), model=TEACHER, prompt=prompt("reassemble"), **options)
    return outcome


def reply(*passages: tuple[list[int], str | None], answer: str = "14") -> str:
    return json.dumps({"passages": [{"steps": steps, "text": text} for steps, text in passages], "answer": answer})


def told(found: Record) -> list[tuple[str, str, list[int]]]:
    return [(found["pruned"][s["start"] : s["end"]].strip(), s["kind"], s["steps"]) for s in found["sentences"]]


GOOD = reply(([1], None), ([2, 3], None), ([], "Okay, now."), ([6], "So 19 - 5 = 14."), ([7], None))


def test_without_a_model_what_remains_is_joined_word_for_word() -> None:
    found = kept(joined(edited(PLAIN)))
    assert found["pruned"] == "I need 12 + 7 - 5.\n\n12 + 7 = 19.\n\nSo 19 - 5 = 14. The answer is 14."
    assert {kind for _, kind, _ in told(found)} == {"verbatim"}
    assert [steps for *_, steps in told(found)] == [[0], [2], [5], [6]]
    assert found["style"]["verbatim"] == 1.0


def test_rewrites_and_merges_stand_where_their_steps_stood() -> None:
    found = kept(joined(edited()))
    assert told(found) == [
        ("I need 12 + 7 - 5.", "verbatim", [0]),
        ("First, 12 + 7 = 19.", "merged", [1, 2]),
        ("19 - 5 = 14.", "verbatim", [5]),
        ("The answer is 14.", "verbatim", [6]),
    ]


def test_the_target_is_exactly_the_thought_in_tags_and_the_reply() -> None:
    found = kept(joined(edited(PLAIN)))
    assert found["target"] == f"<think>\n{found['pruned']}\n</think>\n\nThe answer is \\boxed{{14}}."
    cut = split_thought(found["target"])
    assert (cut.thought, cut.reply) == (found["pruned"], found["target_reply"])


def test_sentences_cover_the_pruned_thought_exactly() -> None:
    for found in (kept(joined(edited())), kept(asked(replies(GOOD)))):
        assert "".join(found["pruned"][s["start"] : s["end"]] for s in found["sentences"]) == found["pruned"]


def test_verbatim_is_found_by_looking_not_by_believing() -> None:
    found = kept(asked(replies(GOOD)))
    assert [(text, kind) for text, kind, _ in told(found)] == [
        ("I need 12 + 7 - 5.", "verbatim"),
        ("First, 12 + 7 = 19.", "merged"),
        ("Okay, now.", "connective"),
        ("So 19 - 5 = 14.", "verbatim"),
        ("The answer is 14.", "verbatim"),
    ]
    changed = kept(asked(replies(GOOD.replace("So 19 - 5", "Then 19 - 5"))))
    assert told(changed)[3] == ("Then 19 - 5 = 14.", "rewritten", [5])


def test_the_trail_leads_from_each_sentence_to_its_source() -> None:
    outcome = asked(replies(GOOD))
    rows = [(row.step, row.action, row.completion) for row in outcome.trail]
    kinds = ((0, "verbatim"), (1, "merged"), (2, "merged"), (-1, "connective"), (5, "verbatim"), (6, "verbatim"))
    assert rows == [(step, kind, "key1") for step, kind in kinds]
    last = outcome.trail[-1]
    assert THOUGHT[last.src_start : last.src_end] == "The answer is 14."
    assert kept(outcome)["pruned"][last.out_start : last.out_end] == "The answer is 14."


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (reply(([1], None), ([4], None)), "step 4 is deleted or does not exist"),
        (reply(([1], None), ([9], "x")), "step 9 is deleted or does not exist"),
        (reply(([1], None), ([2], None), ([6], None)), "step 7 remains, but no passage comes from it"),
        (reply(([], None)), "neither steps nor text"),
        (json.dumps({"passages": [], "answer": "14"}), '"passages"'),
        (GOOD.replace("Okay, now.", "so " * 500), "neither solve anew nor cut further"),
        (GOOD.replace("Okay, now.", "## Step evaluations"), "which the thought never says"),
        (GOOD.replace("Okay, now.", "Step 4: DELETE"), "which the thought never says"),
        (GOOD.replace("Okay, now.", "</think> Okay."), "which the thought never says"),
        ("I kept all of it.", "not a JSON object"),
    ],
)
def test_a_malformed_reply_drops_the_record_with_the_fault_and_the_reply(said: str, fault: str) -> None:
    outcome = dropped(asked(Scripted(lambda request: said)))
    assert (outcome.reason, outcome.reply) == ("malformed-reply", said)
    assert fault in outcome.detail


def test_a_reply_without_an_answer_is_dropped_as_such() -> None:
    assert dropped(asked(Scripted(lambda request: GOOD.replace('"14"}', '""}')))).reason == "no-answer"


def test_a_faulty_reply_is_repaired_on_the_second_try() -> None:
    outcome = asked(replies(reply(([1], None)), GOOD))
    assert outcome.trail[0].completion == "key2"


@pytest.mark.parametrize(
    "log", ["### Step evaluations\nStep 1: KEEP\n## Result\n{}", "#### 14\n```json\n{}\n```\n## DELETE step 4"]
)
def test_an_edit_log_around_the_json_never_reaches_the_target(log: str) -> None:
    said = log.replace("{}", f"<json>{GOOD}</json>" if "```" not in log else GOOD)
    found = kept(asked(replies(said)))
    assert not any(word in found["target"] for word in ("#", "KEEP", "DELETE", "Step 1"))


def test_an_invented_number_is_named_and_with_strict_numbers_drops_the_record() -> None:
    said = GOOD.replace("So 19 - 5 = 14.", "So 20 - 6 = 14.")
    assert kept(asked(replies(said)))["invented"] == ["20", "6"]
    assert dropped(asked(replies(said), strict_numbers=True)).reason == "invented-number"


def test_a_draft_of_edit_is_used_without_asking() -> None:
    draft = {"passages": [{"steps": [n], "text": None} for n in (0, 1, 5, 6)], "answer": "14", "completion": "key9"}
    teacher = replies()
    outcome = asked(teacher, edited() | {"draft": draft})
    assert teacher.requests == []
    assert kept(outcome)["pruned"] == kept(joined(edited()))["pruned"]
    assert outcome.trail[0].completion == "key9"


def test_style_counts_discourse_markers_before_and_after() -> None:
    style = kept(joined(edited(PLAIN)))["style"]
    assert (style["words_before"], style["words"]) == (30, 22)
    assert style["markers_before"] > style["markers"] > 0


@pytest.mark.parametrize(
    ("reply", "answer", "target"),
    [
        ("So **x**.\n\n\\boxed{14}", "14.0", "So **x**.\n\n\\boxed{14}"),
        ("Thus \\boxed{1,400}.", "1400", "Thus \\boxed{1,400}."),
        ("Thus \\boxed{15}.", "14", "Thus \\boxed{14}."),
        ("The answer is **15**. Good.", "14", "The answer is **14**. Good."),
        ("It is a riddle.", "a riddle", "It is a riddle."),
        ("", "14", "The answer is \\boxed{14}."),
        ("Thus \\boxed{\\dfrac{1}{2}}.", "\\frac{1}{2}", "Thus \\boxed{\\dfrac{1}{2}}."),
    ],
)
def test_the_final_answer_is_said_in_the_students_own_format(reply: str, answer: str, target: str) -> None:
    assert in_format(answer, reply) == target


def test_a_corrected_answer_reaches_the_target() -> None:
    found = kept(asked(replies(GOOD), edited(reply="Thus \\boxed{15}.")))
    assert found["target"].endswith("</think>\n\nThus \\boxed{14}.")


def test_a_short_reply_is_the_part_that_gives_the_answer() -> None:
    assert short("Let us see.\n\n12 + 7 = 19\n\n**Answer:**\n\\boxed{14}") == "**Answer:**\n\\boxed{14}"
    assert kept(joined(edited(PLAIN, reply="Hm.\n\n\\boxed{14}"), reply="short"))["target_reply"] == "\\boxed{14}"


def test_model_and_prompt_belong_together() -> None:
    assert [key for key, _ in check({"model": "teacher"})] == ["prompt"]
    assert list(check({})) == []
