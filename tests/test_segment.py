"""segment: steps that cover the thought exactly, whatever the teacher replies."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp.backends.rules import RulesBackend
from drp.models import Completion, Request
from drp.op import Outcome, Record
from drp.ops.segment import check, segment
from drp.text import sentences
from tests.scripted import TEACHER, Scripted, ScriptedWork, dropped, kept, prompt, record, replies

THOUGHT = "I need 12 + 7 - 5. Then 12 + 7 = 19. So 19 - 5 = 14.\n\nWait, let me check. Yes, 14."


def by_skill(teacher: Scripted, given: Record, **options: int) -> Outcome:
    [outcome] = segment([given], ScriptedWork(teacher), model=TEACHER, prompt=prompt("segment"), **options)
    return outcome


def boundaries(*steps: tuple[int, str]) -> str:
    return json.dumps({"steps": [{"last": last, "skill": skill} for last, skill in steps]})


def texts(found: Record) -> list[str]:
    return [found["thought"][step["start"] : step["end"]].strip() for step in found["steps"]]


GOOD = boundaries((1, "reading"), (3, "arithmetic"), (5, "verification"))


def test_boundaries_become_spans_with_skills_and_a_trail() -> None:
    [outcome] = segment([record(THOUGHT)], ScriptedWork(replies(GOOD)), model=TEACHER, prompt=prompt("segment"))
    found = kept(outcome)
    assert texts(found) == ["I need 12 + 7 - 5.", "Then 12 + 7 = 19. So 19 - 5 = 14.", "Wait, let me check. Yes, 14."]
    assert [row.skill for row in outcome.trail] == ["reading", "arithmetic", "verification"]
    assert {row.completion for row in outcome.trail} == {"key1"}
    assert (outcome.trail[1].src_start, outcome.trail[1].src_end) == (19, 54)


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (boundaries((1, "reading"), (3, "arithmetic")), "end at sentence 3, but the last sentence is 5"),
        (boundaries((3, "reading"), (2, "arithmetic"), (5, "answer")), '"last" 2'),
        (boundaries((3, "reading"), (3, "arithmetic"), (5, "answer")), '"last" 3'),
        (boundaries((3, "reading"), (6, "answer")), '"last" 6'),
        (boundaries((5, " ")), 'no "skill"'),
        ('{"steps": []}', '"steps"'),
        ('{"steps": [{"last": "5", "skill": "x"}]}', "whole number"),
        ("Step 1: I need …", "not a JSON object"),
    ],
)
def test_a_malformed_reply_drops_the_record_with_the_fault_and_the_reply(reply: str, fault: str) -> None:
    refused = dropped(by_skill(replies(reply, reply, reply), record(THOUGHT)))
    assert refused.reason == "malformed-reply"
    assert fault in refused.detail
    assert refused.reply == reply


@pytest.mark.parametrize("wrap", ["```json\n{}\n```", "Here you are:\n<json>{}</json>", "I think.\n\n```\n{}\n```\nDone."])
def test_json_is_found_in_a_fence_or_a_tag(wrap: str) -> None:
    assert len(kept(by_skill(replies(wrap.replace("{}", GOOD)), record(THOUGHT)))["steps"]) == 3


def test_a_fault_is_named_to_the_teacher_who_then_does_better() -> None:
    teacher = replies(boundaries((1, "reading")), GOOD)
    assert len(kept(by_skill(teacher, record(THOUGHT)))["steps"]) == 3
    first, second = (request.messages for request in teacher.requests)
    assert [m.role for m in second] == [*(m.role for m in first), "assistant", "user"]
    assert "the last sentence is 5" in second[-1].content


def test_repairs_bounds_the_number_of_asks() -> None:
    teacher = Scripted(lambda request: "no")
    dropped(by_skill(teacher, record(THOUGHT), repairs=1))
    assert len(teacher.requests) == 2


def test_a_truncated_reply_and_a_failed_request_have_their_own_reasons() -> None:
    cut = dropped(by_skill(Scripted(lambda request: Completion(GOOD[:20], "length")), record(THOUGHT)))
    assert (cut.reason, cut.reply) == ("truncated-reply", GOOD[:20])
    failed = Scripted(lambda request: Completion("", "error", error="HTTP 500"))
    refused = dropped(by_skill(failed, record(THOUGHT)))
    assert (refused.reason, refused.detail, len(failed.requests)) == ("no-reply", "HTTP 500", 1)


def test_a_record_without_a_thought_is_dropped_unasked() -> None:
    teacher = replies()
    assert dropped(by_skill(teacher, record(None))).reason == "no-thought"
    assert teacher.requests == []


@pytest.mark.parametrize(("by", "count"), [("sentence", 5), ("paragraph", 2), ("none", 1)])
def test_other_ways_to_cut_need_no_teacher(by: str, count: int) -> None:
    [outcome] = segment([record(THOUGHT)], ScriptedWork(replies()), by=by)  # type: ignore[arg-type]
    assert [step["skill"] for step in kept(outcome)["steps"]] == [by] * count
    assert "".join(THOUGHT[s["start"] : s["end"]] for s in kept(outcome)["steps"]) == THOUGHT


def one_step_a_sentence(request: Request) -> str:
    """Every sentence a step, named after the first sentence of the window that it was shown in."""
    shown = [int(n) for n in re.findall(r"^\[(\d+)\]", request.messages[1].content, re.MULTILINE)]
    return boundaries(*((n, f"window {shown[0]}") for n in shown))


def test_of_two_windows_each_decides_its_half_of_the_overlap() -> None:
    thought = " ".join(f"Sentence {n}." for n in range(1, 21))
    teacher = Scripted(one_step_a_sentence)
    found = kept(by_skill(teacher, record(thought), window=10, overlap=4))
    assert [step["skill"] for step in found["steps"]] == ["window 1"] * 8 + ["window 7"] * 6 + ["window 13"] * 6
    assert len(teacher.requests) == 3


def test_only_the_window_at_fault_is_asked_again() -> None:
    thought = " ".join(f"Sentence {n}." for n in range(1, 21))
    bad = iter([True])
    teacher = Scripted(lambda r: "no" if "[7] " in r.messages[1].content and next(bad, False) else one_step_a_sentence(r))
    assert len(kept(by_skill(teacher, record(thought), window=10, overlap=2))["steps"]) == 20
    assert len(teacher.requests) == 4


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet="aB1= .?\n\\[]`<>/think", min_size=1, max_size=300).filter(str.strip), st.integers(2, 9), st.integers(0, 8)
)
def test_steps_cover_any_thought_exactly_in_any_windows(thought: str, window: int, overlap: int) -> None:
    options = {"window": window, "overlap": min(overlap, window - 1)}
    work = ScriptedWork(RulesBackend())
    [outcome] = segment([record(thought)], work, model=TEACHER, prompt=prompt("segment"), **options)
    found = kept(outcome)
    assert "".join(thought[s["start"] : s["end"]] for s in found["steps"]) == thought
    assert {s["end"] for s in found["steps"]} <= {end for _, end in sentences(thought)}


def test_a_think_tag_in_a_thought_is_ordinary_text() -> None:
    thought = "I write </think> here. Then <think> there."
    found = kept(by_skill(replies(boundaries((1, "reading"), (2, "answer"))), record(thought)))
    assert texts(found) == ["I write </think> here.", "Then <think> there."]


def test_own_skills_replace_those_of_the_prompt() -> None:
    teacher = replies(GOOD)
    list(segment([record(THOUGHT)], ScriptedWork(teacher), model=TEACHER, prompt=prompt("segment"), skills=["parse", "emit"]))
    assert "- parse\n- emit" in teacher.requests[0].messages[0].content
    assert "arithmetic: computes" not in teacher.requests[0].messages[0].content


def test_rules_between_the_keys_are_checked() -> None:
    assert [key for key, _ in check({"by": "skill"})] == ["model", "prompt"]
    assert [key for key, _ in check({"by": "sentence", "window": 10, "overlap": 10})] == ["overlap"]
    assert list(check({"by": "none"})) == []
