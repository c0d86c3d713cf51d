"""edit: one checked action for every step."""

import json
from typing import Any

import pytest

from drp.models import Completion
from drp.op import Outcome, Record
from drp.ops.edit import check, edit
from drp.pieces import Step
from drp.text import sentences
from tests.scripted import TEACHER, Scripted, ScriptedWork, dropped, kept, prompt, record, replies

THOUGHT = "I need 12 + 7 - 5. First I add. 12 + 7 = 19. Wait, is that right? Yes. So 19 - 5 = 14. The answer is 14."
COUNT = 7


def cut(**more: Any) -> Record:
    """A record whose sentences are its steps."""
    steps = [Step(start=a, end=b, skill="arithmetic") for a, b in sentences(THOUGHT)]
    return record(THOUGHT, steps=steps, **more)


def entry(step: int, action: str = "keep", text: str | None = None, into: int | None = None) -> dict[str, Any]:
    return {"step": step, "action": action, "text": text, "into": into, "reason": "because"}


def reply(*changed: dict[str, Any], without: int | None = None) -> str:
    """A reply that keeps every step but the `changed` ones."""
    entries = {n: entry(n) for n in range(1, COUNT + 1)} | {e["step"]: e for e in changed}
    return json.dumps({"actions": [e for n, e in entries.items() if n != without]})


def edited(teacher: Scripted, given: Record | None = None, **options: Any) -> Outcome:
    given = given or cut()
    [outcome] = edit([given], ScriptedWork(teacher), model=TEACHER, prompt=options.pop("prompt", prompt("edit")), **options)
    return outcome


def refused(said: str, **options: Any) -> str:
    """The detail with which a reply is refused as malformed."""
    outcome = dropped(edited(Scripted(lambda request: said), **options))
    assert (outcome.reason, outcome.reply) == ("malformed-reply", said)
    return outcome.detail


GOOD = reply(
    entry(2, "merge", "First, 12 + 7 = 19.", 2), entry(3, "merge", None, 2), entry(4, "delete"), entry(5, "delete"),
    entry(6, "rewrite", "19 - 5 = 14."),
)  # fmt: skip


def test_actions_come_one_a_step_with_their_trail() -> None:
    outcome = edited(replies(GOOD))
    actions = kept(outcome)["actions"]
    assert [a["action"] for a in actions] == ["keep", "merge", "merge", "delete", "delete", "rewrite", "keep"]
    assert [(a["step"], a["into"], a["text"]) for a in actions[1:3]] == [(1, 1, "First, 12 + 7 = 19."), (2, 1, None)]
    assert actions[5]["text"] == "19 - 5 = 14."
    assert kept(outcome)["draft"] is None
    row = outcome.trail[3]
    assert (row.step, row.skill, row.action) == (3, "arithmetic", "delete")
    assert (row.reason, row.completion) == ("because", "key1")
    assert THOUGHT[row.src_start : row.src_end].strip() == "Wait, is that right?"


def test_a_reply_that_skips_a_step_drops_the_record_with_a_reason() -> None:
    assert refused(reply(without=4)) == "no action for step 4"


def test_a_step_with_two_actions_is_refused() -> None:
    twice = json.loads(reply())
    twice["actions"].append(entry(3, "delete"))
    assert refused(json.dumps(twice)) == "step 3 has more than one action"


def test_a_step_that_does_not_exist_is_refused() -> None:
    assert refused(reply(entry(8))) == "there is no step 8 (the steps are 1 to 7)"


def test_merging_steps_that_are_not_neighbours_is_refused() -> None:
    assert "not two or more neighbours" in refused(reply(entry(2, "merge", "x", 2), entry(4, "merge", None, 2)))


def test_merging_a_step_with_itself_or_into_a_later_one_is_refused() -> None:
    assert "not two or more neighbours" in refused(reply(entry(2, "merge", "x", 2)))
    assert "not two or more neighbours" in refused(reply(entry(2, "merge", "x", 3), entry(3, "merge", None, 3)))


def test_a_merge_or_a_rewrite_without_text_is_refused() -> None:
    assert refused(reply(entry(2, "merge", None, 2), entry(3, "merge", None, 2))) == 'step 2 starts a merge, but has no "text"'
    assert refused(reply(entry(2, "rewrite", " "))) == 'step 2 is rewritten, but has no "text"'


def test_an_unknown_action_is_refused_with_the_choices() -> None:
    assert refused(reply(entry(2, "compress"))) == 'step 2: "compress" is not one of the actions keep, delete, rewrite, merge'


def test_an_action_outside_the_allow_list_is_refused_and_never_offered() -> None:
    teacher = Scripted(lambda request: reply(entry(2, "rewrite", "12 + 7 = 19.")))
    assert "keep, delete" in dropped(edited(teacher, actions=["keep", "delete"])).detail
    assert "rewrite:" not in teacher.requests[0].messages[0].content


def test_the_answer_may_not_be_deleted() -> None:
    detail = refused(reply(entry(6, "delete"), entry(7, "delete")))
    assert detail == "the answer is lost: keep one of the steps that give it (6, 7)"


def test_one_of_several_steps_that_give_the_answer_is_enough() -> None:
    assert kept(edited(replies(reply(entry(7, "delete")))))["actions"][6]["action"] == "delete"


def test_without_a_step_that_gives_the_answer_the_last_one_stays() -> None:
    given = cut(reply="The answer is \\boxed{999}.")
    assert dropped(edited(Scripted(lambda r: reply(entry(7, "delete"))), given)).detail.endswith("(7)")


def test_an_invented_number_is_flagged() -> None:
    actions = kept(edited(replies(reply(entry(6, "rewrite", "So 19 - 5 = 14, not 15.")))))["actions"]
    assert actions[5]["flags"] == ["number:15"]


def test_numbers_of_the_steps_and_the_question_are_not_invented_however_written() -> None:
    given = cut(question="What is twelve plus 1,000?")
    actions = kept(edited(replies(reply(entry(6, "rewrite", "19 - 5 = 14.0, 12 and 1000"))), given))["actions"]
    assert actions[5]["flags"] == []


def test_strict_numbers_asks_again_and_then_drops() -> None:
    teacher = Scripted(lambda request: reply(entry(6, "rewrite", "So 15.")))
    outcome = dropped(edited(teacher, strict_numbers=True, repairs=1))
    assert (outcome.reason, len(teacher.requests)) == ("invented-number", 2)


def test_a_faulty_reply_is_repaired_on_the_second_try() -> None:
    teacher = replies(reply(without=4), GOOD)
    outcome = edited(teacher)
    assert len(kept(outcome)["actions"]) == COUNT
    assert "no action for step 4" in teacher.requests[1].messages[-1].content
    assert outcome.trail[0].completion == "key2"


def test_repairs_that_run_out_drop_the_record_with_the_last_reply() -> None:
    outcome = dropped(edited(replies("first", "second", "third"), repairs=2))
    assert (outcome.reason, outcome.detail, outcome.reply) == ("malformed-reply", "the reply is not a JSON object", "third")


def test_a_truncated_reply_has_its_own_reason() -> None:
    outcome = dropped(edited(Scripted(lambda request: Completion(GOOD[:80], "length"))))
    assert (outcome.reason, outcome.reply) == ("truncated-reply", GOOD[:80])


@pytest.mark.parametrize("wrap", ["```json\n{}\n```", "## Step 1: KEEP\n<json>{}</json>"])
def test_json_is_found_in_a_fence_or_a_tag(wrap: str) -> None:
    assert len(kept(edited(replies(wrap.replace("{}", GOOD))))["actions"]) == COUNT


def test_one_call_brings_a_checked_draft() -> None:
    both = json.loads(GOOD) | {"passages": [{"steps": n, "text": None} for n in ([1], [2, 3], [6], [7])], "answer": "14"}
    found = kept(edited(replies(json.dumps(both)), one_call=True, prompt=prompt("edit-reassemble")))
    assert found["draft"]["answer"] == "14"
    assert [p["steps"] for p in found["draft"]["passages"]] == [[0], [1, 2], [5], [6]]


def test_one_call_refuses_a_draft_that_uses_a_deleted_step() -> None:
    both = json.loads(GOOD) | {"passages": [{"steps": [4], "text": None}], "answer": "14"}
    detail = refused(json.dumps(both), one_call=True, prompt=prompt("edit-reassemble"))
    assert detail == "step 4 is deleted or does not exist; the steps that remain are 1, 2, 3, 6, 7"


def test_rules_between_the_keys_are_checked() -> None:
    assert [key for key, _ in check({"actions": ["keep", "compress"]})] == ["actions"]
    assert [key for key, _ in check({"actions": ["delete"]})] == ["actions"]
    assert list(check({"actions": ["keep", "delete"]})) == []
