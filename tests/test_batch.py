"""The batch backend against a loopback server that behaves like the Batch API: jobs, kills, two processes, every failure."""

import gc
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from drp.backends import Answer, Ask
from drp.backends.batch import Batch, connect
from drp.errors import BackendError, ConfigError, DataError
from drp.models import Completion, Endpoint, Message, Model, Request, Sampling
from drp.remote.jobs import Lines
from tests.batch_server import BatchServer, Fault, Line, Rules, bad, good, result

SCHEMA = {"title": "n", "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drp.backends.batch.SETTLE", 0.2)


def model(url: str | None, name: str = "gpt-x", **endpoint: Any) -> Model:
    settings = {"attempts": 3, "timeout": 5.0, "poll": 0.02, **endpoint}
    return Model("teacher", name, Sampling(max_tokens=50), Endpoint("batch", base_url=url, **settings))


def requests(asked: Model, *prompts: str, **options: Any) -> list[Request]:
    return [asked.request((Message("user", prompt),), **options) for prompt in prompts]


def answers(backend: Batch, wanted: list[Request]) -> list[Completion]:
    bursts = backend.complete(Ask(ticket, request) for ticket, request in enumerate(wanted))
    found = {answer.ticket: answer.completion for burst in bursts for answer in burst}
    return [found[ticket] for ticket in range(len(wanted))]


def ask(url: str, folder: Path, *prompts: str, **endpoint: Any) -> list[Completion]:
    asked = model(url, **endpoint)
    return answers(connect(asked, folder), requests(asked, *prompts))


def gather(bursts: Iterator[Sequence[Answer]], kept: list[Answer]) -> None:
    """Keep what comes, whatever comes after it."""
    for burst in bursts:
        kept.extend(burst)


def texts(found: list[Completion]) -> list[str]:
    return [completion.text for completion in found]


def prompt(line: Line) -> str:
    return str(line["body"]["messages"][-1]["content"])


def once(kind: str, fault: Fault, number: int = 0) -> Callable[[str, int], Fault | None]:
    """A fault that befalls the n-th request of its kind."""
    return lambda what, n: fault if (what, n) == (kind, number) else None


def jobs(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/job.json"))]


# -- a job ---------------------------------------------------------------------------------------------------------------------


def test_all_open_asks_travel_in_one_job_and_each_answer_reaches_its_own_request(tmp_path: Path) -> None:
    with BatchServer() as server:
        prompts = [f"p{i}" for i in range(40)]
        found = ask(server.url, tmp_path, *prompts)
        assert server.sizes() == [40]
    assert texts(found) == [p.upper() for p in prompts]
    assert {(c.finish, c.prompt_tokens, c.completion_tokens, c.served, c.attempts) for c in found} == {
        ("stop", 7, 3, "served", 1)
    }


def test_the_body_of_a_line_is_what_the_server_would_be_asked_directly(tmp_path: Path) -> None:
    with BatchServer() as server:
        asked = Model("teacher", "gpt-x", Sampling(0.6, 0.95, None, 99), Endpoint("batch", base_url=server.url, poll=0.02))
        answers(connect(asked, tmp_path), [asked.request((Message("user", "ä"),), schema=SCHEMA, seed=11)])
        (body,) = server.bodies
    assert body.pop("response_format")["json_schema"]["schema"] == SCHEMA
    assert body == {
        "model": "gpt-x", "messages": [{"role": "user", "content": "ä"}], "max_tokens": 99, "temperature": 0.6, "top_p": 0.95, "seed": 11,
    }  # fmt: skip


def test_asks_that_come_a_few_at_a_time_still_travel_in_one_job(tmp_path: Path) -> None:
    with BatchServer() as server:
        asked = model(server.url)
        wanted = requests(asked, *map(str, range(30)))

        def asks() -> Iterator[Ask | None]:
            for ticket, request in enumerate(wanted):
                yield Ask(ticket, request)
                if ticket % 7 == 6:
                    yield None

        found = [answer for burst in connect(asked, tmp_path).complete(asks()) for answer in burst]
        assert server.sizes() == [30]
    assert len(found) == 30


def test_a_dialogue_of_several_rounds_goes_on_in_further_jobs(tmp_path: Path) -> None:
    with BatchServer() as server:
        asked = model(server.url)
        heard: dict[int, str] = {}

        def asks() -> Iterator[Ask | None]:
            """Ten dialogues of three rounds each, a round begun when the one before is answered."""
            for ticket, request in enumerate(requests(asked, *(f"r0 {i}" for i in range(10)))):
                yield Ask(ticket, request)
            begun = 10
            while len(heard) < 30:
                if begun < 30 and begun - 10 in heard:
                    yield Ask(begun, requests(asked, f"again {heard[begun - 10]}")[0])
                    begun += 1
                else:
                    yield None

        for burst in connect(asked, tmp_path).complete(asks()):
            heard |= {answer.ticket: answer.completion.text for answer in burst}
        assert server.sizes() == [10, 10, 10]
    assert [heard[i] for i in (0, 10, 29)] == ["R0 0", "AGAIN R0 0", "AGAIN AGAIN R0 9"]


def test_jobs_are_split_by_the_number_of_requests_and_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drp.backends.batch.MOST_LINES", 10)
    with BatchServer(rules=Rules(max_requests=10)) as server:
        assert texts(ask(server.url, tmp_path / "a", *map(str, range(25)))) == [str(i) for i in range(25)]
        assert server.sizes() == [10, 10, 5]
    monkeypatch.setattr("drp.backends.batch.MOST_BYTES", 2000)
    with BatchServer(rules=Rules(max_bytes=2000)) as server:
        found = ask(server.url, tmp_path / "b", "x" * 1500, "y" * 1500, "z" * 3000, "small")
        assert server.sizes() == [1, 1, 1] or server.sizes() == [1, 2]
    assert [c.finish for c in found] == ["stop", "stop", "error", "stop"]
    assert "an input file of a batch holds 2000" in found[2].error


def test_equal_requests_travel_once(tmp_path: Path) -> None:
    with BatchServer() as server:
        assert texts(ask(server.url, tmp_path, "a", "b", "a")) == ["A", "B", "A"]
        assert server.sizes() == [2]


def test_what_was_handed_out_is_asked_anew_when_it_is_asked_again(tmp_path: Path) -> None:
    """The store keeps answers that may be reused; who asks again wants another."""
    with BatchServer(lambda line, n: good(line, f"answer {n}")) as server:
        backend = connect(model(server.url), tmp_path)
        wanted = requests(backend.model, "a")
        assert texts(answers(backend, wanted) + answers(backend, wanted)) == ["answer 0", "answer 1"]
        assert texts(ask(server.url, tmp_path, "a")) == ["answer 2"]


# -- kills ---------------------------------------------------------------------------------------------------------------------

CLIENT = """
import json, sys, time
from pathlib import Path
import drp.backends.batch
from drp.backends import Ask
from drp.models import Endpoint, Message, Model, Sampling
from drp.store.completions import Store
from drp.store.stored import Stored

drp.backends.batch.SETTLE = 0.5
folder, url, most, stop = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]

class Halting(Store):
    def keep(self, *given):
        self.halt("yielded")
        kept = super().keep(*given)
        self.halt("stored")
        return kept

    def halt(self, at):
        if stop == at:
            (folder / "halted").touch()
            time.sleep(60)

model = Model("teacher", "gpt-x", Sampling(max_tokens=50), Endpoint("batch", base_url=url, poll=0.05, attempts=3))
backend = Stored(drp.backends.batch.connect(model, folder / "batch"), Halting(folder / "completions.sqlite"))
asks = (Ask(i, model.request((Message("user", f"p{i}"),))) for i in range(most))
found = {a.ticket: a.completion.text for burst in backend.complete(asks) for a in burst}
print(json.dumps([found[i] for i in range(most)]))
"""
MANY = 12
WHOLE = [f"P{i}" for i in range(MANY)]


def client(folder: Path, url: str, stop: str = "", most: int = MANY) -> "subprocess.Popen[str]":
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", CLIENT, str(folder), url, str(most), stop]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outcome(process: "subprocess.Popen[str]") -> Any:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)


def killed(process: "subprocess.Popen[str]") -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)


POINTS = {
    "while uploading": ("upload", Fault(late=1.5)),
    "between upload and create": ("upload", Fault(after=1.5)),
    "before the batch is created": ("create", Fault(late=1.5)),
    "when the batch is created and nobody knows": ("create", Fault(after=1.5)),
    "while looking": ("retrieve", Fault(after=1.5)),
    "before a download": ("content", Fault(late=1.5)),
    "in the middle of a download": ("content", Fault(stall=1.5)),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_anywhere_leaves_a_job_that_its_successor_waits_for(tmp_path: Path, point: str) -> None:
    kind, fault = POINTS[point]
    with BatchServer() as server:
        server.fault = once(kind, fault)
        process = client(tmp_path, server.url)
        assert server.reached.wait(20), process.stderr
        killed(process)
        assert outcome(client(tmp_path, server.url)) == WHOLE
        assert set(server.seen.values()) == {1}
        assert server.sizes() == [MANY]


@pytest.mark.parametrize("stop", ["yielded", "stored"])
def test_a_process_killed_around_the_storing_of_its_answers_pays_for_none_again(tmp_path: Path, stop: str) -> None:
    with BatchServer() as server:
        process = client(tmp_path, server.url, stop)
        _until((tmp_path / "halted").exists)
        killed(process)
        assert outcome(client(tmp_path, server.url)) == WHOLE
        assert set(server.seen.values()) == {1}
        assert server.calls["upload"] == 1


def test_a_process_killed_in_the_job_that_repeats_what_expired_pays_for_none_twice(tmp_path: Path) -> None:
    rules = Rules(expires=lambda number: 5 if number == 0 else None)
    with BatchServer(rules=rules) as server:
        server.fault = lambda what, n: Fault(after=1.5) if what == "create" and n == 1 else None
        process = client(tmp_path, server.url)
        assert server.reached.wait(20)
        killed(process)
        assert outcome(client(tmp_path, server.url)) == WHOLE
        assert server.sizes() == [MANY, MANY - 5]
        assert set(server.seen.values()) == {1}


def test_a_process_killed_again_and_again_at_any_moment_pays_for_each_answer_once(tmp_path: Path) -> None:
    rules = Rules(validating=0.3, running=1.0, expires=lambda number: 4 if number == 0 else None)
    chance = random.Random(7)
    with BatchServer(rules=rules) as server:
        for _ in range(6):
            process = client(tmp_path, server.url)
            time.sleep(0.4 + 1.6 * chance.random())
            killed(process)
        assert outcome(client(tmp_path, server.url)) == WHOLE
        assert set(server.seen.values()) == {1}


def test_two_processes_at_once_send_each_request_once(tmp_path: Path) -> None:
    with BatchServer(rules=Rules(running=0.5)) as server:
        both = [client(tmp_path, server.url), client(tmp_path, server.url, most=MANY + 3)]
        found = [outcome(process) for process in both]
        assert found[0] == WHOLE == found[1][:MANY]
        assert set(server.seen.values()) == {1}
        assert len(server.seen) == MANY + 3


def _until(done: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def test_answers_that_are_not_asked_for_now_stay_until_they_are(tmp_path: Path) -> None:
    with BatchServer() as server:
        backend = connect(model(server.url), tmp_path)
        bursts = backend.complete(Ask(i, request) for i, request in enumerate(requests(backend.model, *"abcd")))
        assert len(next(burst for burst in bursts if burst)) == 4
        bursts.close()  # type: ignore[attr-defined]
        assert texts(ask(server.url, tmp_path, "b", "x")) == ["B", "X"]
        assert texts(ask("http://127.0.0.1:1/v1", tmp_path, "d", "a")) == ["D", "A"], "wherever they came from"
        assert texts(ask(server.url, tmp_path, "c")) == ["C"]
        assert set(server.seen.values()) == {1}


def test_a_job_whose_answers_were_handed_out_is_removed_a_day_later_and_any_other_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BatchServer() as server:
        ask(server.url, tmp_path, "a")
        bursts = connect(model(server.url), tmp_path).complete(iter([Ask(0, requests(model(server.url), "b")[0])]))
        next(burst for burst in bursts if burst)
        bursts.close()  # type: ignore[attr-defined]
        assert len(jobs(tmp_path)) == 2
        monkeypatch.setattr("drp.remote.jobs.KEPT", -1.0)
        (tmp_path / ".new-half").mkdir()
        ask(server.url, tmp_path)
        assert [len(job["given"]) for job in jobs(tmp_path)] == [0]
        assert not list(tmp_path.glob(".*"))
        assert texts(ask(server.url, tmp_path, "b")) == ["B"]
        assert set(server.seen.values()) == {1}


def test_a_job_at_another_address_is_left_alone_and_its_requests_go_to_the_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with BatchServer(rules=Rules(running=60)) as old, BatchServer() as new:
        old.fault = lambda what, n: Fault(status=401) if what == "retrieve" else None
        with pytest.raises(BackendError):
            ask(old.url, tmp_path, "a")
        assert texts(ask(new.url, tmp_path, "a")) == ["A"]
        assert f"this job went to {old.url}" in caplog.text


def test_a_state_file_that_is_no_job_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/job.json").write_text("{")
    with pytest.raises(DataError, match=r"x/job.json: not a batch job .*remove its folder"):
        ask("http://127.0.0.1:1/v1", tmp_path, "a")
    (tmp_path / "x/job.json").write_text('{"format": 99}')
    with pytest.raises(DataError, match="another format than 1"):
        ask("http://127.0.0.1:1/v1", tmp_path, "a")


# -- what a batch may come to ----------------------------------------------------------------------------------------------------


def test_only_what_expired_is_sent_again(tmp_path: Path) -> None:
    with BatchServer(rules=Rules(expires=lambda number: [6, 2, None][number])) as server:
        found = ask(server.url, tmp_path, *map(str, range(10)))
        assert server.sizes() == [10, 4, 2]
        assert set(server.seen.values()) == {1}
    assert texts(found) == [str(i) for i in range(10)]
    assert Counter(c.attempts for c in found) == {1: 6, 2: 2, 3: 2}


def test_answers_of_a_partial_batch_are_handed_out_before_the_rest_is_sent(tmp_path: Path) -> None:
    with BatchServer(rules=Rules(expires=lambda number: 6 if number == 0 else None)) as server:
        backend = connect(model(server.url), tmp_path)
        bursts = backend.complete(Ask(i, request) for i, request in enumerate(requests(backend.model, *map(str, range(10)))))
        first = next(burst for burst in bursts if burst)
        assert len(first) == 6
        assert server.sizes() == [10]
        assert sum(len(burst) for burst in bursts) == 4


def test_a_clock_that_is_put_back_repeats_nothing(tmp_path: Path) -> None:
    with BatchServer(rules=Rules(expires=lambda number: 6 if number == 0 else None)) as server:
        backend = connect(model(server.url), tmp_path)
        bursts = backend.complete(Ask(i, request) for i, request in enumerate(requests(backend.model, *map(str, range(10)))))
        assert len(next(burst for burst in bursts if burst)) == 6
        (path,) = tmp_path.glob("*/job.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "made": time.time() + 1e6}))
        assert sum(len(burst) for burst in bursts) == 4
        assert server.sizes() == [10, 4]


def test_what_expires_every_time_is_an_error_after_as_many_attempts_as_the_endpoint_allows(tmp_path: Path) -> None:
    with BatchServer(rules=Rules(expires=lambda number: 0)) as server:
        (found,) = ask(server.url, tmp_path, "a", attempts=2)
        assert len(server.batches) == 2
    assert (found.finish, found.text, found.attempts) == ("error", "", 2)
    assert "batch_expired: This request could not be executed" in found.error
    assert "(attempt 2 of 2)" in found.error


def test_a_batch_that_someone_cancelled_ends_the_run_and_what_it_had_answered_is_kept(tmp_path: Path) -> None:
    with BatchServer(rules=Rules(running=0.4)) as server:
        backend = connect(model(server.url), tmp_path)
        bursts = backend.complete(Ask(i, request) for i, request in enumerate(requests(backend.model, *"abcd")))
        server.fault = lambda what, n: server.cancel(server.batches[0].id) if what == "retrieve" and n == 0 else None
        kept: list[Answer] = []
        with pytest.raises(BackendError, match=r"batch batch_\d+ was cancelled; its answers are kept; run again .*2 requests"):
            gather(bursts, kept)
        assert sorted(answer.completion.text for answer in kept) == ["A", "B"]
        assert texts(ask(server.url, tmp_path, "c", "d")) == ["C", "D"]
        assert set(server.seen.values()) == {1}


def test_a_file_that_fails_validation_ends_the_run_with_its_errors_and_is_free_again(tmp_path: Path) -> None:
    with BatchServer() as server:
        with pytest.raises(BackendError, match=r"refused: line 1: .*'nobody' is not supported .*model_not_found.*and 1 more"):
            ask(server.url, tmp_path, *"abcd", name="nobody")
        assert not jobs(tmp_path)
        assert not server.seen


def test_a_full_queue_is_waited_for_and_the_requests_go_in_smaller_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drp.backends.batch.MOST_LINES", 10)
    with BatchServer(rules=Rules(enqueued=15)) as server:
        assert len(ask(server.url, tmp_path / "a", *map(str, range(40)))) == 40
        assert sum(server.sizes()) == 40
        assert set(server.seen.values()) == {1}
    monkeypatch.setattr("drp.backends.batch.MOST_LINES", 1000)
    with BatchServer(rules=Rules(enqueued=6)) as server:
        assert len(ask(server.url, tmp_path / "b", *map(str, range(40)))) == 40
        assert max(server.sizes()) <= 6
        assert set(server.seen.values()) == {1}


def test_a_queue_that_never_takes_even_one_request_ends_the_run(tmp_path: Path) -> None:
    with (
        BatchServer(rules=Rules(enqueued=0)) as server,
        pytest.raises(BackendError, match=r"Enqueued token limit reached.*wait until the organisation's other batches are done"),
    ):
        ask(server.url, tmp_path, "a", "b", poll=0.001)


def test_a_result_file_that_is_late_is_waited_for(tmp_path: Path) -> None:
    with BatchServer(rules=Rules(output_late=0.15)) as server:
        assert texts(ask(server.url, tmp_path, "a")) == ["A"]
        assert set(server.seen.values()) == {1}


def test_a_result_file_that_is_gone_for_good_has_its_requests_sent_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with BatchServer() as server:

        def lose(what: str, number: int) -> None:
            if what == "content" and number == 0:
                server.forget("output")

        server.fault = lose
        assert texts(ask(server.url, tmp_path, "a", poll=0.005)) == ["A"]
        assert len(server.batches) == 2
        assert "is not to be had" in caplog.text


# -- what a line may say ---------------------------------------------------------------------------------------------------------


def test_a_refused_line_is_one_records_error_and_is_not_sent_again(tmp_path: Path) -> None:
    def behave(line: Line, number: int) -> Line:
        return bad(line, 400, "too long", "context_length_exceeded") if prompt(line) == "b" else good(line)

    with BatchServer(behave) as server:
        found = ask(server.url, tmp_path, "a", "b", "c")
        assert server.sizes() == [3]
    assert [c.finish for c in found] == ["stop", "error", "stop"]
    assert found[1].error == "400: too long (context_length_exceeded)"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_line_that_failed_in_passing_is_sent_again(tmp_path: Path, status: int) -> None:
    def behave(line: Line, number: int) -> Line:
        return bad(line, status, "later") if prompt(line) == "b" and number == 0 else good(line)

    with BatchServer(behave) as server:
        assert texts(ask(server.url, tmp_path / "x", "a", "b", "c")) == ["A", "B", "C"]
        assert server.sizes() == [3, 1]
    with BatchServer(lambda line, n: bad(line, status, "later")) as server:
        (found,) = ask(server.url, tmp_path / "y", "a", attempts=2)
    assert found.error == f"{status}: later (attempt 2 of 2)"


@pytest.mark.parametrize("body", ["<html>", {"choices": []}, None, {"error": {"message": "upstream"}}], ids=str)
def test_an_answer_that_is_no_completion_is_asked_for_again(tmp_path: Path, body: Any) -> None:
    with BatchServer(lambda line, n: result(line, 200, body) if n == 0 else good(line)) as server:
        assert texts(ask(server.url, tmp_path, "a")) == ["A"]
        assert server.sizes() == [1, 1]


def test_lines_that_are_missing_torn_foreign_or_double_are_told_and_only_what_lacks_is_sent_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(kind: str, lines: list[bytes]) -> list[bytes]:
        if len(lines) < 6:
            return lines
        foreign = json.dumps({**json.loads(lines[0]), "custom_id": "whose"}).encode() + b"\n"
        garbled = json.dumps({**json.loads(lines[2]), "response": {"status_code": 200, "body": {}}}).encode() + b"\n"
        return [foreign, b"\n", lines[0], garbled, lines[2], lines[2], *lines[3:5], lines[5][:40]]

    with BatchServer(rules=Rules(retouch=spoil)) as server:
        assert texts(ask(server.url, tmp_path, *"abcdef")) == list("ABCDEF")
        assert server.sizes() == [6, 2]
    for words in (
        "custom_id is none of ours, ignored: 1",
        "there before; a good one is taken: 2",
        "not JSON; what they answered is sent again: 1",
    ):
        assert words in caplog.text


def test_a_quota_that_ends_in_the_middle_ends_the_run_after_its_answers(tmp_path: Path) -> None:
    def behave(line: Line, number: int) -> Line:
        spent = prompt(line) in "cd" and number == 0
        return bad(line, 429, "You exceeded your current quota", "insufficient_quota") if spent else good(line)

    with BatchServer(behave) as server:
        asked = model(server.url)
        kept: list[Answer] = []
        with pytest.raises(BackendError, match="no money left"):
            gather(connect(asked, tmp_path).complete(Ask(i, r) for i, r in enumerate(requests(asked, *"abcd"))), kept)
        assert len(kept) == 2
        assert texts(ask(server.url, tmp_path, "c", "d")) == ["C", "D"], "once there is money again"


def test_a_line_refused_for_want_of_money_ends_the_run_and_is_sent_again_later(tmp_path: Path) -> None:
    def behave(line: Line, number: int) -> Line:
        return bad(line, 402, "Insufficient Balance") if prompt(line) == "b" and number == 0 else good(line)

    with BatchServer(behave) as server:
        with pytest.raises(BackendError, match="402: Insufficient Balance; the account has no money left"):
            ask(server.url, tmp_path, "a", "b")
        assert texts(ask(server.url, tmp_path, "b")) == ["B"]


def test_the_lines_of_a_job_are_let_go_of_once_all_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: weakref.WeakSet[Lines] = weakref.WeakSet()

    class Watched(Lines):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            read.add(self)

    monkeypatch.setattr("drp.backends.batch.Lines", Watched)
    left: list[int] = []
    with BatchServer(rules=Rules(expires=lambda number: 6 if number == 0 else None)) as server:
        backend = connect(model(server.url), tmp_path)
        held: list[Answer] = []

        def asks() -> Iterator[Ask | None]:
            yield from (Ask(i, request) for i, request in enumerate(requests(backend.model, *map(str, range(10)))))
            while len(held) < 10:
                left[:] = [len(read)]
                yield None
            gc.collect()
            left.append(len(read))

        gather(backend.complete(asks()), held)
        assert server.sizes() == [10, 4]
    assert (left[-1], len(held)) == (0, 10)


def test_a_batch_whose_requests_are_all_refused_ends_the_run(tmp_path: Path) -> None:
    with (
        BatchServer(lambda line, n: bad(line, 404, "no such model")) as server,
        pytest.raises(BackendError, match=r"all 25 requests of batch .* failed; one of them: 404: no such model"),
    ):
        ask(server.url, tmp_path, *map(str, range(25)))


def test_a_server_that_wants_max_completion_tokens_gets_it_in_the_next_job(tmp_path: Path) -> None:
    def behave(line: Line, number: int) -> Line:
        words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return bad(line, 400, words) if "max_tokens" in line["body"] else good(line)

    with BatchServer(behave) as server:
        found = ask(server.url, tmp_path, *map(str, range(30)), attempts=1)
        assert server.sizes() == [30, 30]
    assert {(c.finish, c.attempts) for c in found} == {("stop", 1)}


def test_at_openai_itself_the_limit_has_its_newer_name_from_the_first_job_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    with BatchServer() as server:
        monkeypatch.setattr("drp.remote.address.PUBLIC", server.url)
        backend = connect(model(None), tmp_path)
        answers(backend, requests(backend.model, "a"))
        assert server.bodies[0]["max_completion_tokens"] == 50
        assert server.headers[0]["authorization"] == "Bearer sk-x"


# -- what the server may do ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["upload", "create", "retrieve", "content"])
@pytest.mark.parametrize(
    "fault", [Fault(status=500), Fault(status=429), Fault(lost=True), Fault(cut=True)], ids=lambda f: str(f.status or f.cut)
)
def test_trouble_with_the_server_is_passed_over_at_the_next_look(tmp_path: Path, kind: str, fault: Fault) -> None:
    with BatchServer() as server:
        server.fault = once(kind, fault)
        assert texts(ask(server.url, tmp_path, "a", "b")) == ["A", "B"]
        assert server.sizes() == [2], "a batch that was created without an answer is found"
        assert set(server.seen.values()) == {1}


@pytest.mark.parametrize("metadata", [True, False])
def test_a_batch_is_found_among_many_others(tmp_path: Path, metadata: bool) -> None:
    with BatchServer(rules=Rules(page=2, metadata=metadata)) as server:
        for number in range(5):
            ask(server.url, tmp_path / str(number), str(number))

        def crowd(what: str, number: int) -> Fault | None:
            """The answer to the creation is lost, and five others are created meanwhile."""
            if what == "list" and number == 0:
                for other in "vwxyz":
                    server.create(other)
            return Fault(lost=True) if what == "create" else None

        server.fault = crowd
        assert texts(ask(server.url, tmp_path / "x", "a")) == ["A"]
        assert server.calls["list"] > 2, "pages"
        assert len(server.batches) == 11


def test_a_server_that_stays_silent_ends_the_run_and_its_jobs_are_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drp.backends.batch.PATIENCE", 3)
    with BatchServer() as server:
        server.fault = lambda what, n: Fault(status=503) if what == "retrieve" else None
        with pytest.raises(BackendError, match=r"the last 3 looks failed: 503: oops; its jobs are safe in .*run again"):
            ask(server.url, tmp_path, "a")
        server.fault = lambda what, n: None
        assert texts(ask(server.url, tmp_path, "a")) == ["A"]
        assert set(server.seen.values()) == {1}


def test_a_server_that_is_not_there_ends_the_run_at_once_with_its_address(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"//127\.0\.0\.1:1/v1: cannot connect.*start the server, or correct base_url"):
        ask("http://me:pw@127.0.0.1:1/v1", tmp_path, "a")
    assert "pw" not in jobs(tmp_path)[0]["url"]


@pytest.mark.parametrize("kind", ["upload", "create", "retrieve", "content"])
@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_ends_the_run_with_the_variable_and_is_never_shown(
    tmp_path: Path, kind: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-very-secret")
    with BatchServer() as server:
        server.fault = lambda what, n: Fault(status, "Incorrect API key: sk-very-secret") if what == kind else None
        with pytest.raises(BackendError, match="check the key in TEACHER_KEY") as raised:
            ask(server.url, tmp_path, "a", key="TEACHER_KEY")
        assert server.headers[0]["authorization"] == "Bearer sk-very-secret"
        server.fault = lambda what, n: None
        assert texts(ask(server.url, tmp_path, "a", key="TEACHER_KEY")) == ["A"], "and nothing was lost"
        assert set(server.seen.values()) == {1}
    assert "secret" not in str(raised.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"very-secret" in path.read_bytes()]


@pytest.mark.parametrize(
    ("kind", "fault", "words"),
    [
        ("upload", Fault(413, "too large"), r"the input file .* is refused: 413: too large"),
        ("create", Fault(400, "no batches here"), r"the batch is refused: 400: no batches here"),
        (
            "create",
            Fault(429, "quota", "insufficient_quota"),
            r"429: quota \(insufficient_quota\); the account has no money left",
        ),
        (
            "retrieve",
            Fault(404, "No batch found"),
            r"batch batch_\d+ is not to be had: 404: No batch found; with the key that made it",
        ),
    ],
)
def test_a_refusal_ends_the_run_by_its_name_and_a_later_run_goes_on(tmp_path: Path, kind: str, fault: Fault, words: str) -> None:
    with BatchServer() as server:
        server.fault = lambda what, n: fault if what == kind else None
        with pytest.raises(BackendError, match=words):
            ask(server.url, tmp_path, "a")
        server.fault = lambda what, n: None
        assert texts(ask(server.url, tmp_path, "a")) == ["A"]
        assert set(server.seen.values()) == {1}


def test_a_key_variable_that_is_not_set_a_wrong_url_and_no_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"run\.teacher\.key: the environment variable OPENAI_API_KEY is not set"):
        connect(model(None), tmp_path)
    for url in ("localhost:8000", "http://", "http://[::1/v1"):
        with pytest.raises(ConfigError, match=rf"run\.teacher\.base_url: '{re.escape(url)}' is not"):
            connect(model(url), tmp_path)
    with pytest.raises(ConfigError, match="needs a folder"):
        connect(model("http://127.0.0.1:1/v1"))
