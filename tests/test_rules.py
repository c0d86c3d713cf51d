"""The rules teacher: what it cuts and decides, on narrated and on real traces."""

import json
import re
from pathlib import Path

import pytest

from drp.backends import connect
from drp.backends.rules import RulesBackend, reply
from drp.narration import narrate
from drp.op import Kept, Outcome, Prompt, Record
from drp.ops.edit import edit
from drp.ops.reassemble import reassemble
from drp.ops.segment import segment
from drp.rules.equations import equations
from drp.teaching import SEGMENT
from drp.text import final_answer, split_thought
from tests.scripted import TEACHER, Scripted, ScriptedWork, dropped, kept, prompt, record

TRACES = Path(__file__).parents[2] / "shared/data/r1_traces/r1_distill_qwen_1_5b.jsonl"
WORK = ScriptedWork(RulesBackend())


def pruned(given: Record, *, one_call: bool = False) -> Outcome:
    """The record through segment, edit and reassemble."""
    [steps] = segment([given], WORK, model=TEACHER, prompt=prompt("segment"))
    asked = prompt("edit-reassemble" if one_call else "edit")
    [edits] = edit([kept(steps)], WORK, model=TEACHER, prompt=asked, one_call=one_call)
    if not isinstance(edits, Kept):
        return edits
    [outcome] = reassemble([edits.record], WORK, model=TEACHER, prompt=prompt("reassemble"))
    return outcome


def left(thought: str, **more: str) -> str:
    text: str = kept(pruned(record(thought, **more)))["pruned"]
    return text


def test_hesitation_goes() -> None:
    assert left("Hmm, let me think. 12 + 7 = 19. Hmm.\n\n19 - 5 = 14. That makes sense.") == "12 + 7 = 19.\n\n19 - 5 = 14."


def test_a_check_that_confirms_goes() -> None:
    thought = "12 + 7 = 19. Wait, let me double-check that. 12 + 7 = 19. Yes, that's right. So 19 - 5 = 14."
    assert left(thought) == "12 + 7 = 19. So 19 - 5 = 14."


def test_of_a_mistake_and_its_correction_only_the_correction_stays() -> None:
    assert left("12 + 7 = 18. Wait, that's not right. 12 + 7 = 19. So 19 - 5 = 14.") == "12 + 7 = 19. So 19 - 5 = 14."


def test_a_doubt_goes_and_what_settles_it_stays() -> None:
    assert left("So, 12 + 7 = 19? Hmm. Yes, 12 + 7 = 19.\n\nSo 19 - 5 = 14.") == "Yes, 12 + 7 = 19.\n\nSo 19 - 5 = 14."


def test_a_list_that_names_the_same_things_in_another_order_is_no_repetition() -> None:
    items = "- The red marble comes before the blue marble.\n- The blue marble comes before the red marble.\n\n12 + 2 = 14."
    assert left(items) == items


def test_a_mistake_on_the_way_is_corrected_as_a_whole() -> None:
    thought = "12 + 17 = 22 + 7 = 39. Hmm, no, that's wrong. 12 + 17 = 29. So 29 - 5 = 24."
    assert left(thought) == "12 + 17 = 29. So 29 - 5 = 24."


def test_going_through_it_all_again_goes() -> None:
    first = "12 + 7 = 19. So 19 - 5 = 14.\n\nSo the answer is 14."
    again = "Wait, let me go through it again from the start. 12 + 7 = 19. 19 - 5 = 14. Yes, that's 14 again.\n\nSo it is 14."
    assert left(f"{first}\n\n{again}") == first


def test_what_introduces_a_number_used_later_stays() -> None:
    thought = "First, the 7 dogs. Each dog has 4 legs. Then 7 * 4 = 28. So the answer is 28."
    assert "Each dog has 4 legs." in left(thought, question="How many legs have 7 dogs?", reply="\\boxed{28}")


def test_a_second_method_that_finds_something_else_is_not_a_repetition() -> None:
    thought = "12 + 7 = 19. Alternatively, 7 - 5 = 2. Then 12 + 2 = 14. So the answer is 14."
    assert "7 - 5 = 2" in left(thought)


def test_a_bare_equation_merges_with_the_sentence_that_names_its_result() -> None:
    assert left("So, 1,000 + 287 = 1,287.\n\nSo, C(13,5) is 1,287.") == "So, C(13,5) is 1,000 + 287 = 1,287."


@pytest.mark.parametrize("allowed", [["keep", "delete"], ["keep"], ["keep", "delete", "rewrite"]])
def test_only_allowed_actions_are_used(allowed: list[str]) -> None:
    [steps] = segment([record("Hmm. 12 + 7 = 19. 19 - 5 = 14. Hmm, okay. The answer is 14.")], WORK, by="paragraph")
    [outcome] = edit([kept(steps)], WORK, model=TEACHER, prompt=prompt("edit"), actions=allowed)
    assert {action["action"] for action in kept(outcome)["actions"]} <= set(allowed)


def narrated(number: int) -> Record:
    question = f"State the final answer to the following arithmetic problem: {number + 20} + 37 - 11 + 52 ="
    trace = narrate(question, "chain_sum", number)
    thought = trace.thought if trace.finished else None
    return {"id": f"q{number:03}", "question": question, "thought": thought, "reply": trace.answer}


def test_half_of_a_narrated_trace_goes_and_its_derivation_stays_whole() -> None:
    records = [r for r in map(narrated, range(60)) if r["thought"]]
    found = [kept(pruned(r)) for r in records]
    assert sum(len(f["pruned"]) for f in found) < 0.5 * sum(len(f["thought"]) for f in found)
    for result in found:
        first = int(result["id"][1:]) + 20
        running = [(first, "+", 37), (first + 37, "-", 11), (first + 26, "+", 52)]
        results = [(f"{a} {sign} {b} =", a + b if sign == "+" else a - b) for a, sign, b in running]
        for left_side, right in results:
            [said] = re.findall(rf"{re.escape(left_side)}[^.]*?(\d+)\.", result["pruned"])
            assert int(said) == right, result["pruned"]
        assert str(first + 78) in (final_answer(result["pruned"]) or "")


def test_one_call_leaves_the_same_thought_as_two() -> None:
    for given in filter(lambda r: r["thought"], map(narrated, range(8))):
        assert kept(pruned(given, one_call=True))["pruned"] == kept(pruned(given))["pruned"]


def test_equations_are_recognised_however_they_are_written() -> None:
    assert equations("So, 1,000 × 3 = 3,000.") == equations("$1000 \\times 3 = 3000$") == equations("1000*3 is 3000")
    assert [tuple(e) for e in equations("x = 2 + 3 = 5")] == [("x", "2+3"), ("2+3", "5"), ("x", "5")]


def test_a_prompt_without_material_gets_no_reply_and_the_reason_names_the_block(tmp_path: Path) -> None:
    (tmp_path / "mine.j2").write_text("Prune this: {{ question }}")
    given = record("x") | {"steps": [{"start": 0, "end": 1, "skill": "reading"}]}
    [outcome] = edit([given], ScriptedWork(connect(TEACHER)), model=TEACHER, prompt=Prompt(tmp_path, "mine"))
    assert dropped(outcome).reason == "no-reply"
    assert "<steps>" in dropped(outcome).detail


def test_the_task_is_seen_in_the_prompt_where_no_schema_is_sent() -> None:
    teacher = Scripted(lambda request: reply(request.messages, None))
    [outcome] = segment([record("12 + 7 = 19. Hmm.")], ScriptedWork(teacher), model=TEACHER, prompt=prompt("segment"))
    assert len(kept(outcome)["steps"]) == 2
    assert reply(teacher.requests[0].messages, SEGMENT) == reply(teacher.requests[0].messages, None)


@pytest.mark.skipif(not TRACES.exists(), reason=f"{TRACES} is not here")
def test_every_real_trace_is_covered_exactly_and_is_kept_or_dropped_with_a_reason() -> None:
    for line in TRACES.read_text().splitlines()[:60:4]:
        row = json.loads(line)
        cut = split_thought(row["response"])
        outcome = pruned({"id": f"{row['id']:03}", "question": "", "thought": cut.thought, "reply": cut.reply})
        if isinstance(outcome, Kept):
            found = outcome.record
            assert "".join(found["thought"][s["start"] : s["end"]] for s in found["steps"]) == found["thought"]
            assert len(found["pruned"]) <= len(found["thought"])
            assert found["invented"] == []
        else:
            assert outcome.reason == "no-answer"
