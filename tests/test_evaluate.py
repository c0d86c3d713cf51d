"""Evaluating: what is asked, what a cutoff does to an answer, and what the rows say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drp.fingerprint import seed_of
from drp.models import Completion, Endpoint, Model, Request, Sampling
from drp.ops.evaluate import Adds, check, evaluate, looped
from drp.prompts import Prompt
from drp.records import Dropped, Kept, Record
from tests.fakes import FakeWork
from tests.tiny import model_at, tiny_student

ITEMS = [{"id": f"q{i}", "question": f"{i} + 7 =", "answer": str(i + 7), "source": "made"} for i in range(3)]
RIGHT = "I add.\n</think>\n\n\\boxed{{{}}}."


@pytest.fixture
def solve(tmp_path: Path) -> Prompt:
    (tmp_path / "solve.j2").write_text("{{ question }}", encoding="utf-8")
    return Prompt(tmp_path, "solve")


def served(name: str = "student", **sampling: Any) -> Model:
    return Model("student", name, Sampling(**sampling), Endpoint("openai"))


def answer_to(request: Request) -> int:
    return int(request.messages[0].content.split()[0]) + 7


def right(request: Request) -> Completion:
    return Completion(RIGHT.format(answer_to(request)), "stop", completion_tokens=40, key=request.key())


def run(
    folder: Path, prompt: Prompt, answer: Callable[[Request], Completion] = right, **options: Any
) -> tuple[list[Kept | Dropped], FakeWork]:
    work = FakeWork(folder, answer)
    given = {"models": {"base": served()}, "on": {"test": ITEMS}, "cutoff": 100, "verifier": "exact", **options}
    return list(evaluate(work, prompt=prompt, **given)), work


def only(outcomes: list[Kept | Dropped]) -> Record:
    assert len({str(o.record["verdict"]) for o in outcomes}) == 1
    return outcomes[0].record


def test_every_model_answers_every_item_of_every_suite_in_every_run(tmp_path: Path, solve: Prompt) -> None:
    models = {"base": served(), "drp": served("other")}
    outcomes, _ = run(tmp_path, solve, models=models, on={"b-side": ITEMS[:1], "b": ITEMS}, runs=2)
    ids = [o.record["id"] for o in outcomes]
    assert len(ids) == len(set(ids)) == 2 * (3 + 1) * 2
    assert {"b/drp/q2/001", "b-side/base/q0/000"} <= set(ids)
    assert all(isinstance(o, Kept) and o.record.keys() == Adds.__annotations__.keys() for o in outcomes)


def test_run_k_of_an_item_has_one_seed_for_all_models_and_another_in_the_next_run(tmp_path: Path, solve: Prompt) -> None:
    _, work = run(tmp_path, solve, models={"base": served(), "drp": served("other")}, runs=2, seed=5)
    seeds = {(r.model.name, r.messages[0].content, r.index): r.seed for r in work.requests}
    assert seeds["student", "1 + 7 =", 0] == seeds["other", "1 + 7 =", 0] == seed_of(5, "q1", 0)
    assert len(set(seeds.values())) == 6


def test_a_truncated_answer_is_an_answer_too_and_not_asked_for_again(tmp_path: Path, solve: Prompt) -> None:
    _, work = run(tmp_path, solve)
    assert all(Completion("", "length").answers(request) for request in work.requests)


def test_the_models_are_asked_with_the_limit_and_the_sampling_that_the_stage_says(tmp_path: Path, solve: Prompt) -> None:
    own = served(temperature=0.6, top_p=0.95, max_tokens=32768)
    _, work = run(tmp_path / "own", solve, models={"base": own})
    assert work.requests[0].model.sampling == Sampling(0.6, 0.95, None, 100)
    _, work = run(tmp_path / "other", solve, models={"base": own}, temperature=0.0, max_tokens=500)
    assert work.requests[0].model.sampling == Sampling(0.0, 0.95, None, 500)


def test_a_right_answer_is_counted_with_its_tokens(tmp_path: Path, solve: Prompt) -> None:
    outcomes, work = run(tmp_path, solve)
    row = only(outcomes)
    assert (row["correct"], row["verdict"], row["prediction"], row["reply"]) == (True, "right", "7", "\\boxed{7}.")
    assert (row["tokens"], row["generated"], row["truncated"], row["counted"]) == (40, 40, False, True)
    assert row["completion"] == work.requests[0].key()


def test_an_answer_that_was_boxed_only_in_the_thought_is_not_the_answer(tmp_path: Path, solve: Prompt) -> None:
    def answer(request: Request) -> Completion:
        return Completion(f"\\boxed{{{answer_to(request)}}}\n</think>\n\n\\boxed{{1}}", "stop", completion_tokens=9)

    assert only(run(tmp_path, solve, answer)[0])["verdict"] == "wrong"


def cut_in_reply(request: Request) -> Completion:
    return Completion(f"I add.\n</think>\n\nThe answer is \\boxed{{{answer_to(request)}}}. Also", "length", completion_tokens=100)


def cut_in_thought(request: Request) -> Completion:
    return Completion(f"I get \\boxed{{{answer_to(request)}}}. Wait", "length", completion_tokens=100)


def late(request: Request) -> Completion:
    return Completion(RIGHT.format(answer_to(request)), "stop", completion_tokens=101)


@pytest.mark.parametrize("answer", [cut_in_reply, cut_in_thought])
def test_fail_counts_an_answer_that_is_not_over_as_wrong(tmp_path: Path, solve: Prompt, answer: Any) -> None:
    row = only(run(tmp_path, solve, answer)[0])
    assert (row["verdict"], row["correct"], row["truncated"]) == ("truncated", False, True)
    assert (row["counted"], row["tokens"]) == (True, 100)


def test_fail_counts_an_answer_past_the_cutoff_as_wrong_and_its_tokens_up_to_it(tmp_path: Path, solve: Prompt) -> None:
    row = only(run(tmp_path, solve, late, max_tokens=200)[0])
    assert (row["verdict"], row["tokens"], row["generated"], row["finish"]) == ("truncated", 100, 101, "stop")


@pytest.mark.parametrize("answer", [cut_in_reply, cut_in_thought])
def test_clip_judges_the_text_as_it_stands(tmp_path: Path, solve: Prompt, answer: Any) -> None:
    row = only(run(tmp_path, solve, answer, cutoff_mode="clip")[0])
    assert (row["verdict"], row["truncated"], row["tokens"]) == ("right", True, 100)


@pytest.mark.parametrize("answer", [cut_in_reply, late])
def test_drop_keeps_the_row_but_counts_it_in_no_score(tmp_path: Path, solve: Prompt, answer: Any) -> None:
    row = only(run(tmp_path, solve, answer, cutoff_mode="drop", max_tokens=200, cutoff=99)[0])
    assert (row["counted"], row["truncated"], row["tokens"]) == (False, True, 99)


def test_a_request_that_failed_drops_its_row_with_what_was_said(tmp_path: Path, solve: Prompt) -> None:
    outcomes, _ = run(tmp_path, solve, lambda _: Completion("", "error", error="502 from the server"))
    assert all(isinstance(o, Dropped) and (o.reason, o.detail) == ("no-completion", "502 from the server") for o in outcomes)


def test_an_answer_without_a_thought_is_judged_whole(tmp_path: Path, solve: Prompt) -> None:
    row = only(run(tmp_path, solve, lambda r: Completion(f"The answer is {answer_to(r)}.", "stop", completion_tokens=7))[0])
    assert (row["verdict"], row["thought_tokens"]) == ("right", None)


def test_thought_tokens_are_those_before_the_end_of_the_thought(tmp_path: Path, solve: Prompt) -> None:
    from drp.weights import load_tokenizer

    student = model_at(tiny_student(tmp_path / "student"))
    tokenizer = load_tokenizer(student)

    def answer(request: Request) -> Completion:
        text = RIGHT.format(answer_to(request))
        return Completion(text, "stop", completion_tokens=len(tokenizer.encode(text, add_special_tokens=False)) + 1)

    row = only(run(tmp_path, solve, answer, models={"base": student})[0])
    assert row["thought_tokens"] == len(tokenizer.encode("I add.\n", add_special_tokens=False))


def test_a_real_student_is_evaluated_and_the_same_twice(tmp_path: Path, solve: Prompt) -> None:
    from drp.asking import Asking
    from drp.backends import connect

    class Served(FakeWork):
        def ask(self, model: Model, records: Any, dialogue: Any) -> Any:
            return Asking(connect(model), window=8).run(records, dialogue)

    student = model_at(tiny_student(tmp_path / "student"))

    def once() -> list[Kept | Dropped]:
        work = Served(tmp_path / "work")
        models, on = {"base": student}, {"test": ITEMS}
        return list(evaluate(work, models=models, on=on, prompt=solve, cutoff=12, runs=2, verifier="exact"))

    rows = once()
    assert rows == once()
    assert len(rows) == 6
    assert all(0 < o.record["tokens"] <= 12 for o in rows)


PASSAGE = " ".join(f"word{i}" for i in range(40)) + ". "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PASSAGE * 8, True),
        ("Something else at first. " * 3 + PASSAGE * 8 + "word0 word1", True),
        (" ".join(f"a{i}" for i in range(400)), False),
        (PASSAGE * 3, False),
        (" ".join(f"a{i}" for i in range(200)) + " " + PASSAGE * 2, False),
        ("", False),
    ],
)
def test_a_text_loops_when_its_tail_says_the_same_again_and_again(text: str, expected: bool) -> None:
    assert looped(text) is expected


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"cutoff": 100, "max_tokens": 50}, "max_tokens"),
        ({"cutoff": 100, "max_tokens": 200, "cutoff_mode": "clip"}, "cutoff_mode"),
        ({"cutoff": 0}, "cutoff"),
        ({"cutoff": 5, "runs": 0}, "runs"),
        ({"cutoff": 5, "verifier": "mth"}, "verifier"),
    ],
)
def test_options_that_do_not_go_together_are_named(options: dict[str, Any], key: str) -> None:
    assert [k for k, _ in check(options)] == [key]


def test_options_that_go_together_pass() -> None:
    assert list(check({"cutoff": 100, "max_tokens": 200, "cutoff_mode": "drop", "verifier": "my.module:judge"})) == []
