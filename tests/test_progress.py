"""What a running stage says of itself: counts, rates, time left, and how it ended."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drp.backends import Answer
from drp.errors import InputsChanged
from drp.models import Completion
from drp.pipeline.progress import Progress, Snapshot, line, load, span
from drp.processes import alive, born, lockers
from drp.records import Dropped, Kept, Record


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRP_RUN", raising=False)


def record(name: str) -> Record:
    return {"id": name}


def answer(text: str = "4", served: str = "", attempts: int = 1) -> Answer:
    return Answer(0, Completion(text, "stop", 7, 3, served=served, attempts=attempts))


def seen(folder: Path) -> Snapshot:
    found = load(folder / "one.b--x.json")
    assert found
    return found


def eventually(folder: Path, done: int) -> Snapshot:
    for _ in range(50):
        if seen(folder).done == done:
            return seen(folder)
        time.sleep(0.1)
    raise AssertionError(f"the file never said {done}: {seen(folder)}")


def test_the_file_says_what_was_kept_dropped_and_why_while_the_stage_runs_and_after(tmp_path: Path) -> None:
    with Progress(tmp_path, "one", "b--x") as progress:
        progress.expect("shout", 4, several=False)
        progress.step(Kept(record("1")))
        progress.step(Dropped(record("2"), "unwanted"))
        progress.step(Dropped(record("3"), "unwanted"))
        running = eventually(tmp_path, 3)
        assert (running.state, running.total, running.kept, running.dropped) == ("running", 4, 1, {"unwanted": 2})
        assert alive(running.pid, running.born)
        progress.step(Kept(record("4")))
    ended = seen(tmp_path)
    assert (ended.state, ended.exit_code, ended.done, ended.kept) == ("done", 0, 4, 2)


def test_of_an_op_that_makes_several_records_of_each_the_records_gone_through_are_counted(tmp_path: Path) -> None:
    with Progress(tmp_path, "one", "b--x") as progress:
        progress.expect("generate", 3, several=True)
        for question in ("q/1", "q/2"):
            for k in range(4):
                progress.step(Kept(record(f"{question}/{k:03d}")))
    assert (seen(tmp_path).done, seen(tmp_path).kept) == (2, 8)


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (KeyboardInterrupt(), "interrupted", 130),
        (SystemExit(143), "interrupted", 143),
        (InputsChanged("a file moved"), "failed", 65),
        (ValueError("no"), "failed", 1),
    ],
)
def test_a_stage_that_ends_badly_says_how(tmp_path: Path, error: BaseException, state: str, code: int) -> None:
    with pytest.raises(type(error)), Progress(tmp_path, "one", "b--x"):
        raise error
    assert (seen(tmp_path).state, seen(tmp_path).exit_code) == (state, code)


def test_answers_retries_and_who_answered_are_counted_and_another_name_is_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Progress(tmp_path, "one", "b--x") as progress:
        for _ in range(3):
            progress.sending()
        progress.came([answer(attempts=3), answer()])
        progress.answered([answer(served="gpt-4o-2024-08-06"), answer(served="gpt-4o-2024-08-06")], "gpt-4o")
        progress.answered([answer(served="gpt-4o")], "gpt-4o")
        progress.paid(0.25, "USD")
        progress.paid(0.5)
        assert progress.seen.sent == 1
    ended = seen(tmp_path)
    assert (ended.answers, ended.new, ended.retries, ended.sent) == (3, 2, 2, 0)
    assert (ended.prompt_tokens, ended.completion_tokens) == (21, 9)
    assert ended.served == {"gpt-4o": ["gpt-4o-2024-08-06"]}
    assert (ended.spent, ended.currency) == (0.75, "USD")
    assert capfd.readouterr().err.count("asked gpt-4o, served by gpt-4o-2024-08-06") == 1


def test_the_time_left_follows_the_recent_rate() -> None:
    now = time.time()
    one = Snapshot("one", "b", 1, "0", None, now - 60, total=100, done=40, rate=2.0)
    assert one.left(now) == 30
    assert "30 s left" in line(now, one)
    assert Snapshot("one", "b", 1, "0", None, now - 1, total=100, done=40, rate=2.0).left(now) is None, "too early to tell"
    assert Snapshot("one", "b", 1, "0", None, now - 60, total=100, done=40, rate=0.0).left(now) is None, "it stands still"


def test_an_answer_that_came_but_is_not_handed_on_yet_is_no_stored_one_less() -> None:
    told = line(time.time(), Snapshot("one", "b", 1, "0", None, time.time() - 60, answers=439, new=440))
    assert "439 answers (439 new, 0 stored" in told


@pytest.mark.parametrize(("seconds", "words"), [(0.42, "0.4 s"), (38.2, "38 s"), (125, "2 min 05 s"), (12000, "3 h 20 min")])
def test_seconds_are_told_in_words(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_counting_costs_next_to_nothing(tmp_path: Path) -> None:
    with Progress(tmp_path, "one", "b--x") as progress:
        began = time.process_time()
        for k in range(100_000):
            progress.step(Kept(record(str(k))))
        assert (time.process_time() - began) / 100_000 < 10e-6
        eventually(tmp_path, 100_000)


def test_a_folder_that_cannot_be_written_stops_no_work(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with Progress(blocked, "one", "b--x") as progress:
        progress.step(Kept(record("1")))
    assert "no progress can be written" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", '{"recipe": "one"}', json.dumps({"no": 1})])
def test_a_file_that_is_torn_or_another_versions_is_no_snapshot(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.b.json").write_text(text)
    assert load(tmp_path / "one.b.json") is None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's tables")
def test_a_pid_that_was_given_again_is_another_process_and_a_lock_names_its_holder(tmp_path: Path) -> None:
    mine = os.getpid()
    assert alive(mine, born(mine))
    assert not alive(mine, "1")
    path = tmp_path / "a.lock"
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        assert lockers(path) == [holder.pid]
        holder.communicate()
    assert lockers(path) == []
    assert born(holder.pid) is None
