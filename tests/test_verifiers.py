"""Verifiers and their pool: what counts as right, and that no reply and no accident can stop the judging."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drp.errors import ConfigError, DataError
from drp.verifiers import Case, Verdict
from drp.verifiers.pool import BATCH, judged

DATA = Path(__file__).parents[2] / "shared" / "data"

OWN = """
import os, time
from pathlib import Path

def judge(reply, answer):
    if reply == "hang":
        time.sleep(600)
    if reply == "die":
        os.kill(os.getpid(), 9)
    if reply.startswith("die once "):
        flag = Path(reply.removeprefix("die once "))
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), 9)
        return answer, True
    if reply == "raise":
        raise RuntimeError("the verifier's own bug")
    if reply == "pid":
        return str(os.getpid()), True
    print("a verifier may print")
    return reply, reply == answer
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_verifier.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_verifier:judge"


def verdicts(pairs: list[tuple[str | None, str]], verifier: str = "math", timeout: float = 20.0) -> list[Verdict]:
    cases = ((k, Case(reply, answer)) for k, (reply, answer) in enumerate(pairs))
    found = list(judged(cases, verifier=verifier, timeout=timeout))
    assert [k for k, _ in found] == list(range(len(pairs)))
    return [v for _, v in found]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_math_reads_answers_as_people_write_them() -> None:
    right = [
        ("The answer is 1,000", "1000"), ("So \\boxed{1{,}000}.", "1000"), ("\\[\n\\boxed{\\$18}\n\\]", "18"),
        ("it is \\boxed{-5}", "-5"), ("\\boxed{027}", "27"), ("\\boxed{0.5}", "\\frac{1}{2}"), ("\\boxed{x=5}", "5"),
        ("\\boxed{18\\%}", "18"), ("$\\boxed{10\\%}$", "10\\%"), ("\\boxed{40000}", "40,\\!000"),
        ("\\boxed{\\text{Evelyn}}", "\\text{Evelyn}"), ("\\boxed{1} and \\boxed{2}", "1,2"), ("The answer is 72", "72"),
    ]  # fmt: skip
    assert [(r, v.verdict) for r, v in zip(right, verdicts(right), strict=True)] == [(r, "right") for r in right]


def test_math_calls_a_wrong_answer_wrong_and_none_none() -> None:
    found = verdicts([("\\boxed{32}", "33"), ("hello there", "5"), ("\\boxed{}", "5"), (None, "5")])
    assert [(v.prediction, v.correct, v.verdict) for v in found] == [
        ("32", False, "wrong"), (None, False, "no-answer"), (None, False, "no-answer"), (None, False, "no-answer"),
    ]  # fmt: skip


def test_two_boxed_answers_in_the_thought_do_not_spoil_the_verdict() -> None:
    reply = "<think>\\boxed{32}? No: </think> \\boxed{31}, no, so \\boxed{33}</think>\n\nThe answer is \\boxed{33}."
    assert verdicts([(reply, "33")])[0] == Verdict("33", True, "right")


def test_an_answer_that_an_earlier_line_of_the_reply_takes_back_does_not_count() -> None:
    found = verdicts([("\\boxed{32}\n\nWait.\n\n\\boxed{33}", "33"), ("\\boxed{33}\nNo:\n\\boxed{32}", "33")])
    assert [v.verdict for v in found] == ["right", "wrong"]


def test_a_case_without_a_reply_is_truncated_where_the_response_was_cut_off() -> None:
    cases = [(0, Case(None, "5", truncated=True)), (1, Case("it goes on and", "5", truncated=True))]
    assert [v.verdict for _, v in judged(cases)] == ["truncated", "truncated"]


def test_exact_compares_numbers_as_numbers_and_the_rest_as_text() -> None:
    right = [
        ("\\boxed{1,000}", "1000"), ("so the answer is $18.", "18"), ("72.0", "72"), ("\\boxed{ Knave  A }", "knave a"),
        ("Answer: (B)", "(B)"),
    ]  # fmt: skip
    wrong = [("\\boxed{1,2}", "12"), ("\\boxed{3 apples}", "3"), ("72", "73")]
    assert [v.verdict for v in verdicts(right + wrong, "exact")] == ["right"] * len(right) + ["wrong"] * len(wrong)
    assert verdicts([("a line\nanother", "5")], "exact")[0].verdict == "no-answer"


def test_a_computation_without_end_is_a_timeout_and_the_others_are_judged() -> None:
    found = verdicts([("\\boxed{5}", "5"), ("\\boxed{9^{9^{9^{9}}}}", "5"), ("\\boxed{5}", "5")], timeout=3.0)
    assert [v.verdict for v in found] == ["right", "timeout", "right"]


def test_a_hung_verifier_is_stopped_in_time_and_replaced(own: str) -> None:
    began = time.monotonic()
    found = verdicts([("a", "a"), ("hang", "a"), ("b", "a"), ("hang", "a"), ("a", "a")], own, timeout=1.0)
    assert [v.verdict for v in found] == ["right", "timeout", "wrong", "timeout", "right"]
    assert time.monotonic() - began < 20


def test_a_worker_that_is_killed_once_costs_no_verdict(own: str, tmp_path: Path) -> None:
    found = verdicts([("a", "a"), (f"die once {tmp_path / 'flag'}", "a"), ("a", "a")], own)
    assert [v.verdict for v in found] == ["right", "right", "right"]


def test_a_case_that_kills_every_worker_is_a_timeout(own: str) -> None:
    assert [v.verdict for v in verdicts([("die", "a"), ("a", "a")], own)] == ["timeout", "right"]


def test_a_worker_killed_from_outside_between_two_cases_is_replaced(own: str) -> None:
    def cases() -> Iterator[tuple[int, Case]]:
        for k in range(40 * BATCH):
            yield k, Case("pid", "a")

    pids = set()
    for k, (_, verdict) in enumerate(judged(cases(), verifier=own, workers=1)):
        assert verdict.correct
        pids.add(verdict.prediction)
        if k == BATCH:
            os.kill(int(verdict.prediction or 0), signal.SIGKILL)
    assert len(pids) == 2


def test_a_verifier_that_raises_stops_the_judging_and_names_the_reply(own: str) -> None:
    with pytest.raises(DataError, match=r"own_verifier:judge.*'raise'"):
        verdicts([("a", "a"), ("raise", "a")], own)


def test_a_verifier_that_does_not_exist_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"'maths' is not a verifier \(exact, math\); did you mean 'math'"):
        verdicts([("a", "a")], "maths")
    with pytest.raises(ConfigError, match="cannot be imported"):
        verdicts([("a", "a")], "no_such_module_here:judge")


def test_judging_works_outside_the_main_thread() -> None:
    found: list[Verdict] = []
    thread = threading.Thread(target=lambda: found.extend(verdicts([("\\boxed{1}", "1")])))
    thread.start()
    thread.join(60)
    assert [v.verdict for v in found] == ["right"]


def test_workers_end_when_the_iteration_is_left_early(own: str) -> None:
    stream = judged(((k, Case("pid", "a")) for k in range(1000)), verifier=own, workers=1)
    pid = int(next(stream)[1].prediction or 0)
    assert not gone(pid)
    stream.close()  # type: ignore[attr-defined]
    assert gone(pid)


def test_cases_are_read_ahead_only_so_far(own: str) -> None:
    read = 0

    def endless() -> Iterator[tuple[int, Case]]:
        nonlocal read
        while True:
            read += 1
            yield read, Case("a", "a")

    stream = judged(endless(), verifier=own, workers=2)
    for _ in range(100):
        next(stream)
    assert read < 100 + 2 * BATCH * 8
    stream.close()  # type: ignore[attr-defined]


def test_a_worker_in_the_middle_of_a_case_dies_with_its_parent(own: str, tmp_path: Path) -> None:
    code = (
        "from drp.verifiers import Case; from drp.verifiers.pool import judged\n"
        f"cases = [(0, Case('pid', 'a')), (1, Case('hang', 'a'))]\n"
        f"for _, v in judged(cases, verifier={own!r}, timeout=600.0): print(v.prediction, flush=True)"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 5
    while not gone(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert gone(pid)


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not on this machine")
def test_every_gold_of_math500_is_right_against_itself_boxed_and_in_its_solution() -> None:
    rows = [json.loads(line) for line in (DATA / "math500" / "test.jsonl").open()]
    pairs = [(text, r["answer"]) for r in rows for text in (f"\\[\\boxed{{{r['answer']}}}\\]", r["solution"])]
    assert [p for p, v in zip(pairs, verdicts(pairs), strict=True) if not v.correct] == []
