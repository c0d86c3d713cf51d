"""generate: every question answered, each sample from a stream of its own, the thought cut from the reply."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drp.models import Completion, Endpoint, Model, Request, Sampling
from drp.op import Dropped, Kept, Outcome, Prompt, Record
from drp.ops import load as load_op
from drp.ops.generate import Adds, check, generate
from drp.records import Writer, read, schema_of
from tests.fakes import FakeWork

STUDENT = Model("student", "r1-tiny", Sampling(temperature=0.6, top_p=0.95, max_tokens=64), Endpoint("openai"))
PROMPTS = Path(__file__).parents[1] / "prompts"
RESPONSE = "Okay, 2 + 2.\nIt is \\boxed{5}? No.\n</think>\n\nThe answer is \\boxed{4}."


def says(text: str, **options: Any) -> Callable[[Request], Completion]:
    fields: dict[str, Any] = {"finish": "stop", "completion_tokens": len(text.split()), "key": "k", **options}
    return lambda request: Completion(text, **fields)


def question(key: str) -> Record:
    return {
        "id": key, "question": f"What is {key}?", "answer": "4", "solution": None, "source": "s", "revision": None,
        "split": None, "row": key, "family": None,
    }  # fmt: skip


def run(folder: Path, answer: Callable[[Request], Completion], ids: str = "a", **options: Any) -> tuple[list[Outcome], FakeWork]:
    work = FakeWork(folder, answer)
    prompt = Prompt(PROMPTS, options.pop("prompt", "solve"))
    return list(generate(map(question, ids), work, model=STUDENT, prompt=prompt, **options)), work


def only(outcomes: list[Outcome]) -> Record:
    assert [type(o) for o in outcomes] == [Kept]
    return outcomes[0].record


def test_a_response_is_split_at_the_end_of_its_thought_and_keeps_its_facts(tmp_path: Path) -> None:
    record = only(run(tmp_path, says(RESPONSE))[0])
    assert record["id"] == "a/000"
    assert record["thought"] == "Okay, 2 + 2.\nIt is \\boxed{5}? No."
    assert record["reply"] == "The answer is \\boxed{4}."
    assert (record["response"], record["finish"], record["completion"]) == (RESPONSE, "stop", "k")
    assert record["tokens"] == len(RESPONSE.split())
    assert record["answer"] == "4"


def test_the_thought_ends_at_the_last_closing_tag_whether_or_not_it_was_opened(tmp_path: Path) -> None:
    for response in ("one </think> two </think> three", "<think>\none </think> two </think> three"):
        record = only(run(tmp_path, says(response))[0])
        assert (record["thought"], record["reply"]) == ("one </think> two", "three")


def test_a_student_without_tags_thinks_up_to_its_last_paragraph_or_sentence(tmp_path: Path) -> None:
    for response in ("Two and two. That is 4.\n\nThe answer is 4.", "Two and two. That is 4. The answer is 4."):
        record = only(run(tmp_path, says(response), thought="untagged")[0])
        assert (record["thought"], record["reply"]) == ("Two and two. That is 4.", "The answer is 4.")
    record = only(run(tmp_path, says("4."), thought="untagged")[0])
    assert (record["thought"], record["reply"]) == (None, "4.")


def test_a_truncated_response_is_kept_without_a_reply(tmp_path: Path) -> None:
    record = only(run(tmp_path, says("Okay, 2 + 2 is", finish="length"))[0])
    assert (record["thought"], record["reply"], record["finish"]) == (None, None, "length")


def test_a_model_that_does_not_think_has_a_reply_and_no_thought(tmp_path: Path) -> None:
    record = only(run(tmp_path, says("It is 4."))[0])
    assert (record["thought"], record["reply"]) == (None, "It is 4.")


def test_a_failed_or_filtered_request_is_dropped_with_a_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    def answer(request: Request) -> Completion:
        if "b?" in request.messages[0].content:
            return Completion("", "error", error="HTTP 500")
        if "c?" in request.messages[0].content:
            return Completion("I can", "content_filter")
        return Completion(RESPONSE, "stop")

    outcomes, _ = run(tmp_path, answer, "abcd")
    assert [o.record["id"] for o in outcomes] == ["a/000", "b/000", "c/000", "d/000"]
    assert [(o.reason, o.detail, o.reply) for o in outcomes if isinstance(o, Dropped)] == [
        ("no-completion", "HTTP 500", ""), ("content-filter", "", "I can"),
    ]  # fmt: skip


def test_samples_of_a_question_are_numbered_and_have_seeds_of_their_own(tmp_path: Path) -> None:
    outcomes, work = run(tmp_path, says(RESPONSE), "ab", samples=3)
    assert [o.record["id"] for o in outcomes] == [f"{q}/{k:03d}" for q in "ab" for k in range(3)]
    assert [o.record["sample"] for o in outcomes] == [0, 1, 2, 0, 1, 2]
    assert len({r.seed for r in work.requests}) == 6
    assert [r.index for r in work.requests[:3]] == [0, 1, 2]


def test_adding_a_record_or_a_sample_changes_no_other_records_request(tmp_path: Path) -> None:
    before = {r.key() for r in run(tmp_path, says(RESPONSE), "bd", samples=2)[1].requests}
    more = {r.key() for r in run(tmp_path, says(RESPONSE), "abcd", samples=3)[1].requests}
    assert before < more
    other = {r.key() for r in run(tmp_path, says(RESPONSE), "bd", samples=2, seed=1)[1].requests}
    assert not before & other


def test_the_student_is_asked_without_a_system_message_and_to_box_its_answer(tmp_path: Path) -> None:
    (message,) = run(tmp_path, says(RESPONSE))[1].requests[0].messages
    assert message.role == "user"
    assert message.content.startswith("What is a?\n\n")
    assert message.content.endswith("\\boxed{}.")
    (bare,) = run(tmp_path, says(RESPONSE), prompt="ask")[1].requests[0].messages
    assert bare.content == "What is a?"


def test_a_number_of_samples_that_cannot_be_is_refused_at_the_door() -> None:
    assert [key for key, _ in check({"samples": 0})] == ["samples"]
    assert list(check({"samples": 1000})) == []


def test_generated_records_survive_parquet_byte_for_byte_and_load_with_datasets(tmp_path: Path) -> None:
    import datasets

    schema = schema_of(Adds, schema_of(load_op.Adds))
    cut = says("Okay", finish="length")
    outcomes, _ = run(tmp_path, lambda r: cut(r) if "b?" in r.messages[0].content else says(RESPONSE)(r), "abc", samples=2)

    def write(name: str, rows: list[Record]) -> bytes:
        with Writer(tmp_path / name, schema) as file:
            for row in rows:
                file.add(row)
        return (tmp_path / name).read_bytes()

    first = write("a.parquet", [o.record for o in outcomes])
    assert write("b.parquet", list(read(tmp_path / "a.parquet"))) == first
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].to_list() == [o.record for o in outcomes]


@pytest.mark.parametrize("count", [0, 1, 50])
def test_outcomes_come_in_the_order_of_the_questions(tmp_path: Path, count: int) -> None:
    work = FakeWork(tmp_path, says(RESPONSE))
    questions = (question(f"{k:04d}") for k in range(count))
    outcomes = generate(questions, work, model=STUDENT, prompt=Prompt(PROMPTS, "ask"))
    assert [o.record["id"] for o in outcomes] == [f"{k:04d}/000" for k in range(count)]
